"""Run one model in PaddlePaddle on given inputs.  argv: a JSON request file; prints one JSON line; Python 3.8+.

The request: `program`, `params` (paths) and `cases`, a list of {`inputs`: .npz path, `outputs`: .npz path to write, and
`params` where the case runs with other parameters}.
"""

import importlib
import json
import os
import sys
from typing import Any, cast

import numpy as np

# By name: this package exists in the isolated environment only, and the controller itself must never import it.
inference = importlib.import_module("paddle.inference")


def _predictor(program: str, params: str) -> Any:
    # An empty file stands for a model without parameters, for which PaddlePaddle wants no file at all.
    config = inference.Config(program, params if os.path.getsize(params) else "")  # noqa: PTH202
    config.disable_gpu()
    config.disable_glog_info()
    # The plain operators, one thread: a reference wants neither fusions nor an order of summation that changes.
    config.switch_ir_optim(False)
    config.set_cpu_math_library_num_threads(1)
    return inference.create_predictor(config)


def main(request_path: str) -> None:
    """Write one .npz of outputs, by fetch name, for each case."""
    with open(request_path, encoding="utf-8") as source:  # noqa: PTH123
        request = json.load(source)
    loaded, predictor = "", cast(Any, None)
    for case in request["cases"]:
        params = case.get("params", request["params"])
        if params != loaded:
            loaded, predictor = params, _predictor(request["program"], params)
        with np.load(case["inputs"], allow_pickle=False) as values:
            for name in predictor.get_input_names():
                handle = predictor.get_input_handle(name)
                handle.reshape(values[name].shape)
                if f"{name}@lod0" in values:  # offsets of sequences
                    handle.set_lod([values[f"{name}@lod0"].tolist()])
                handle.copy_from_cpu(values[name])
        predictor.run()
        names = predictor.get_output_names()
        outputs: dict[str, Any] = {name: predictor.get_output_handle(name).copy_to_cpu() for name in names}
        np.savez(case["outputs"], **outputs)
    print(json.dumps({"done": len(request["cases"])}))


if __name__ == "__main__":
    main(sys.argv[1])
