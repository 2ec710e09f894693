"""How far can a comparison of two releases be trusted on a device that is not idle?

    python bench/measuring.py            # eleven minutes; --trials 5 --seconds 3 for a first impression

One and the same file is compared with itself, in trials.  "By turns" is what `litefleet bench --against` does; "one after the
other" measures the first for half of the time, then the second.  Whatever differs is an error of the method: the table gives
how far off the ratio of the p50s was, and how often a difference was reported though there is none.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from litefleet_agent.bench.latency import compare_ab, steady  # noqa: E402
from litefleet_agent.bench.recorder import Recorder  # noqa: E402
from litefleet_agent.bench.statistics import verdict  # noqa: E402
from litefleet_agent.bench.worker_handle import BenchWorker, WaitLoop  # noqa: E402
from litefleet_agent.formats.files import Tree  # noqa: E402
from litefleet_agent.formats.nb import read_nb  # noqa: E402
from litefleet_agent.service.workers.plan import WorkerPlan, served_model  # noqa: E402

from tests.agent.support.real_paddlelite import make_goldens  # noqa: E402
from tests.conftest import CACHE, environment, lite_environment, raw_nb, source_models  # noqa: E402

HERE = Tree("/")


def plan(model: str) -> WorkerPlan:
    nb = raw_nb(model, "x86")
    paddle = environment("paddle-2.6.2", "3.10", "paddlepaddle==2.6.2", "numpy<2", "setuptools<81")
    goldens = make_goldens(paddle, source_models()[model], model, CACHE)
    served = served_model(read_nb(nb.read_bytes()), model, "0" * 64)
    return WorkerPlan(served, str(nb), "", tuple(map(str, goldens)), python=str(lite_environment()))


def started(wait_loop: WaitLoop, work: WorkerPlan) -> BenchWorker:
    worker = BenchWorker(wait_loop, work, 1)
    worker.started()
    return worker


def by_turns(work: WorkerPlan, seconds: float) -> tuple[float, bool]:
    """Return how far off the ratio was, and whether a difference was reported."""
    with WaitLoop(lambda: None) as wait_loop:
        bench_workers = [started(wait_loop, work), started(wait_loop, work)]
        found = compare_ab(wait_loop, bench_workers, [Recorder(), Recorder()], HERE, seconds, 0)
    assert found is not None
    return abs(found.ratio - 1), verdict(found) != "not told apart"


def one_after_the_other(work: WorkerPlan, seconds: float) -> float:
    found = []
    for _ in range(2):
        with WaitLoop(lambda: None) as wait_loop:
            recorder = Recorder()
            steady(wait_loop, started(wait_loop, work), recorder, HERE, seconds / 2, 0)
            found.append(recorder.times.statistics().p50)
    return abs(found[1] / found[0] - 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--model", default="cls")
    given = parser.parse_args()
    work = plan(given.model)
    turns, reported, apart = [], 0, []
    for _ in range(given.trials):
        off, differs = by_turns(work, given.seconds)
        turns.append(off)
        reported += differs
        apart.append(one_after_the_other(work, given.seconds))
    print(
        f"{given.model}, {given.trials} trials of {given.seconds:g} s, load {os.getloadavg()[1]:.1f} on {os.cpu_count()} CPUs"
    )
    for name, offs in (("by turns", turns), ("one after the other", apart)):
        print(f"  {name}: off by {median(offs):.1%} (median), {max(offs):.1%} at most")
    print(f"  by turns, a difference was reported {reported} times")


if __name__ == "__main__":
    main()
