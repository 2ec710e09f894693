"""Run one .nb in x86 Paddle-Lite on given inputs.  argv: a JSON request file; prints one JSON line; Python 3.7+.

The request: `nb` (a path) and `cases`, a list of {`inputs`: .npz path, `outputs`: .npz path to write}.  The agent's engines run
it, as on devices: the wheel's binding where this interpreter can import it, else its C++ library.
"""

import json
import sys

from litefleet_agent.formats.nb import read_nb
from litefleet_agent.formats.npz import npz_bytes, read_npz
from litefleet_agent.verification.engine import PaddleLiteError
from litefleet_agent.verification.engines import choose_engine


def main(request_path: str) -> None:
    """Write one .npz of outputs, by fetch name, for each case."""
    with open(request_path, encoding="utf-8") as source:  # noqa: PTH123
        request = json.load(source)
    with open(request["nb"], "rb") as stream:  # noqa: PTH123
        model = read_nb(stream.read())
    names = [tensor.name for tensor in model.outputs]
    engine = choose_engine("", request["nb"], model.inputs, names)
    engine.import_runtime()
    engine.load()
    for case in request["cases"]:
        values = read_npz(case["inputs"])
        inputs = {tensor.name: values[tensor.name] for tensor in model.inputs}
        engine.select_predictor(inputs)
        engine.set_inputs(inputs, check=True)
        engine.run()
        outputs = dict(zip(engine.loaded_output_names or names, engine.outputs()))  # noqa: B905
        with open(case["outputs"], "wb") as written:  # noqa: PTH123
            written.write(npz_bytes(outputs))
    print(json.dumps({"done": len(request["cases"])}))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except PaddleLiteError as error:
        raise SystemExit(str(error)) from None
