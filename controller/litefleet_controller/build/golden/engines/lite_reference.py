"""Run one .nb in x86 Paddle-Lite on given inputs.  argv: a JSON request file; prints one JSON line; Python 3.7+.

The request: `nb` (a path) and `cases`, a list of {`inputs`: .npz path, `outputs`: .npz path to write}.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np

# By name: this package exists in the isolated environment only, and the controller itself must never import it.
lite = importlib.import_module("paddlelite.lite")


def array_of(tensor: Any) -> Any:
    """Return a copy of a tensor: numpy() is a view that the next run overwrites, and gives zeros for bool."""
    if str(tensor.precision()).endswith("BOOL"):
        return np.array(tensor.int8_data(), np.int8).astype(bool).reshape(tensor.shape())
    return np.array(tensor.numpy())


def main(request_path: str) -> None:
    """Write one .npz of outputs, by fetch name, for each case."""
    with open(request_path, encoding="utf-8") as source:  # noqa: PTH123
        request = json.load(source)
    config = lite.MobileConfig()
    config.set_model_from_file(request["nb"])
    predictor = lite.create_paddle_predictor(config)
    for case in request["cases"]:
        with np.load(case["inputs"], allow_pickle=False) as values:
            for position, name in enumerate(predictor.get_input_names()):
                tensor = predictor.get_input(position)
                tensor.from_numpy(values[name])
                if f"{name}@lod0" in values:  # offsets of sequences
                    tensor.set_lod([values[f"{name}@lod0"].tolist()])
                # A binding whose numpy does not fit copies garbage without an error.
                if not np.array_equal(array_of(tensor), values[name]):
                    raise SystemExit(
                        f"input {name!r} did not come back from Paddle-Lite as it was put in (numpy >= 2?)"
                    )
        predictor.run()
        names = predictor.get_output_names()
        outputs: dict[str, Any] = {name: array_of(predictor.get_output(i)) for i, name in enumerate(names)}
        np.savez(case["outputs"], **outputs)
    print(json.dumps({"done": len(request["cases"])}))


if __name__ == "__main__":
    main(sys.argv[1])
