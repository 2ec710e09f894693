"""One loop that service.py measures, run by the interpreter that has Paddle-Lite: `bare` as a user would write it, or `client`.

    service_loops.py bare NB ROWS SHAPE            # SHAPE: 1,3,48,192;320,... = several sizes, in turn
    service_loops.py client SOCKET MODEL CALLERS SHAPE AGENT     # AGENT: the folder that holds litefleet_agent

Each line on stdin is a number of runs; the answer is one line of JSON: seconds of each run, and the loop's own CPU seconds.
"""

import json
import sys
import threading
import time

import numpy as np


def inputs(shape, rows=1):
    """Return one array for each size."""
    first, *widths = shape.split(";")
    dims = [int(d) for d in first.split(",")]
    sizes = [dims] + [[*dims[:-1], int(w)] for w in widths]
    return [np.random.RandomState(0).rand(dims[0] * rows, *dims[1:]).astype("float32") for dims in sizes]


def bare(nb, rows, shape):
    """Return what runs the model once in this process."""
    from paddlelite.lite import MobileConfig, create_paddle_predictor

    config = MobileConfig()
    config.set_model_from_file(nb)
    predictor = create_paddle_predictor(config)
    given = inputs(shape, int(rows))

    def run(number):
        predictor.get_input(0).from_numpy(given[number % len(given)])
        predictor.run()
        return predictor.get_output(0).numpy()

    return run


def loop(run, count):
    """Return the seconds of each of `count` runs."""
    seconds = []
    for number in range(count):
        begun = time.perf_counter()
        run(number)
        seconds.append(time.perf_counter() - begun)
    return seconds


def client(socket, model, shape, agent):
    """Return what has the service run the model once."""
    sys.path.insert(0, agent)
    from litefleet_agent.client import Client

    asked = Client(socket, 60)
    given = inputs(shape)
    return lambda number: asked.infer(model, {"x": given[number % len(given)]}).outputs


def together(runs, count):
    """Let several callers share `count` runs, each in a thread."""
    seconds = []
    share = [count // len(runs) + (n < count % len(runs)) for n in range(len(runs))]
    threads = [
        threading.Thread(target=lambda r=r, n=n: seconds.extend(loop(r, n))) for r, n in zip(runs, share, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def main(kind, *args):
    """Run what stdin asks for until it ends."""
    if kind == "bare":
        runs = [bare(*args)]
    else:
        socket, model, callers, shape, agent = args
        runs = [client(socket, model, shape, agent) for _ in range(int(callers))]
    for line in sys.stdin:
        cpu = time.process_time()
        seconds = together(runs, int(line)) if len(runs) > 1 else loop(runs[0], int(line))
        print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
