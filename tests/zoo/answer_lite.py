"""Raw Paddle-Lite on a whole zoo in one process: converts and runs each model, with no code of litefleet's.

argv: a JSON file {models: [{name, program, params, cases: [path]}]}, and the file for the outcomes: per model and target
{"ended": "" or the signal or error, "said": the last lines of the converter or runtime, "outputs": files of answers}.
Each step runs in a forked process: most ways in which Paddle-Lite fails end the process.
"""

import json
import os
import signal
import sys

import numpy as np
import paddlelite.lite as lite


def apart(step, log):
    """Run a step in a child; return "" or how it ended."""
    child = os.fork()
    if child == 0:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 1
        try:
            step()
            code = 0
        except BaseException as error:
            os.write(2, str(error).encode()[-500:])
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "error" if os.WEXITSTATUS(status) else ""


def said(log):
    with open(log, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return " | ".join(lines[-3:])[-600:]


def convert(model, target, out):
    opt = lite.Opt()
    opt.set_model_file(model["program"])
    opt.set_param_file(model["params"])
    opt.set_model_type("naive_buffer")
    opt.set_optimize_out(out)
    opt.set_valid_places(target)
    opt.run()


def run(model, nb, answers):
    config = lite.MobileConfig()
    config.set_model_from_file(nb)
    for path, answer in zip(model["cases"], answers):  # noqa: B905
        predictor = lite.create_paddle_predictor(config)
        given = np.load(path)
        for index, name in enumerate(predictor.get_input_names()):
            tensor = predictor.get_input(index)
            tensor.from_numpy(given[name])
            if name + "@lod0" in given:
                tensor.set_lod([given[name + "@lod0"].tolist()])
        predictor.run()
        outputs = {}
        for index, name in enumerate(predictor.get_output_names()):
            tensor = predictor.get_output(index)
            value = np.array(tensor.numpy())
            if "BOOL" in str(tensor.precision()).upper():  # numpy() gives zeros for bool
                value = np.array(tensor.int8_data()).astype(bool).reshape(tensor.shape())
            outputs[name] = value
        np.savez(answer, **outputs)


def main(request, result):
    outcomes = {}
    with open(request) as file:
        models = json.load(file)["models"]
    for model in models:
        folder = os.path.dirname(model["cases"][0])
        found = outcomes[model["name"]] = {}
        for target in ("x86", "arm"):
            out, log = os.path.join(folder, target), os.path.join(folder, target + ".log")
            ended = apart(lambda: convert(model, target, out), log)  # noqa: B023
            missing = not ended and not os.path.exists(out + ".nb")
            found[target] = {
                "ended": ended or ("no file" if missing else ""),
                "said": said(log) if ended or missing else "",
            }
        if not found["x86"]["ended"]:
            answers = [os.path.join(folder, "lite" + str(i) + ".npz") for i in range(len(model["cases"]))]
            log = os.path.join(folder, "run.log")
            ended = apart(lambda: run(model, os.path.join(folder, "x86.nb"), answers), log)  # noqa: B023
            found["run"] = {"ended": ended, "said": said(log) if ended else "", "outputs": [] if ended else answers}
    with open(result, "w") as file:
        json.dump(outcomes, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
