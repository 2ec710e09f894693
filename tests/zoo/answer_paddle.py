"""PaddlePaddle's answers for a whole zoo in one process.  argv: a JSON file {models: [{program, params, cases: [path]}]}.

Each case's .npz gets the outputs beside its inputs, as a golden file holds them; LoD offsets are under NAME@lod0.  A model
is run in a forked process of its own: one that ends it leaves an .error file, and the others their answers.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from paddle import inference


def run(model):
    config = inference.Config(model["program"], model["params"] if os.path.getsize(model["params"]) else "")
    config.disable_gpu()
    config.disable_glog_info()
    config.switch_ir_optim(False)
    predictor = inference.create_predictor(config)
    for path in model["cases"]:
        with np.load(path) as given:
            arrays = dict(given)
        for name in predictor.get_input_names():
            handle = predictor.get_input_handle(name)
            handle.reshape(arrays[name].shape)
            if f"{name}@lod0" in arrays:
                handle.set_lod([arrays[f"{name}@lod0"].tolist()])
            handle.copy_from_cpu(arrays[name])
        predictor.run()
        outputs = {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}
        np.savez(path[: -len("in0.npz")] + "out" + path[-5:], **arrays, **outputs)


def main(request):
    for model in json.loads(Path(request).read_text())["models"]:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(model)
                code = 0
            except Exception as error:
                Path(model["cases"][0]).with_suffix(".error").write_text(str(error)[-500:])
            os._exit(code)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1])
