"""How often the regression gate stops a healthy release on a busy machine: by first figures alone, and as litefleet does it.

    python -m bench.false_stops --rollouts 200 --load 4     # twenty minutes; one sshd on loopback, real Paddle-Lite

Each rollout brings a release with the same files as the one before (another number of proof runs makes it another release), so
that every stop is false.  Other processes compute meanwhile, each for 1 to 10 s, then as long not: a device that was idle at one
proof is busy at the next.  "First figures alone" counts the rollouts in which the two proofs differ by more than the gate allows,
which stopped a rollout before both releases were measured again in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.outcome import Verdict
from litefleet_controller.operations import start_rollout
from litefleet_controller.project import Options
from litefleet_controller.reports.progress import make_progress

from bench.environments import Machine
from bench.fleet import Bench, Sizes, fetch_source, say

_SOURCE = "ch_PP-OCRv4_rec_infer"
_BUSY_S = (1.0, 10.0)  # how long a load process computes, and then rests


def _compute(seed: int) -> None:
    """Load one core by turns until it is stopped."""
    chance = random.Random(seed)
    while True:
        until = time.monotonic() + chance.uniform(*_BUSY_S)
        while time.monotonic() < until:
            sum(range(10_000))
        time.sleep(chance.uniform(*_BUSY_S))


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep the machine busy by turns."""
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_compute, args=(seed,), daemon=True) for seed in range(processes)]
    for one in started:
        one.start()
    try:
        yield
    finally:
        for one in started:
            one.terminate()
            one.join()


async def measure(folder: Path, rollouts: int) -> tuple[int, int]:
    """Return in how many rollouts the first figures alone, and litefleet's gate, found a regression."""
    lite = await Toolchains().lite()
    first = stopped = 0
    async with EmbeddedFleet(folder / "devices", [DeviceSpec("d1", kind="sshd", python=str(lite.python))]) as fleet:
        Bench(folder, fleet, Sizes(1, (), 1, 1)).prepare(lite.python.resolve())
        path = folder / "system.yaml"
        config = yaml.safe_load(path.read_text().replace("[1, 3, 48, 192]", "[1, 3, 48, 64]"))
        config["models"]["cls"]["source"] = f"models/{_SOURCE}"
        for number in range(rollouts + 1):
            config["verify"]["runs"] = 2 + number % 2
            path.write_text(yaml.safe_dump(config))
            report = await start_rollout(Options(path), lambda total: make_progress(total, quiet=True))
            (ended,) = report.outcomes
            if not number:  # nothing runs there yet that it could be compared with
                continue
            first += "measure again" in ended.steps
            if ended.verdict is Verdict.SLOW:
                stopped += 1
            elif ended.verdict is not Verdict.VERIFIED:
                raise SystemExit(f"rollout {number}: {ended.verdict.value}: {ended.sentence}")
            if "measure again" in ended.steps or number % 20 == 0:
                say(f"{number} rollouts: {first} by first figures, {stopped} by the gate. {ended.detail}")
    return first, stopped


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--rollouts", type=int, default=200)
    reader.add_argument("--load", type=int, default=4, help="processes that compute by turns")
    chosen = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="litefleet-stops-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        fetch_source(folder, _SOURCE)
        with load(chosen.load):
            first, stopped = asyncio.run(measure(folder, chosen.rollouts))
        at_end = os.getloadavg()[0]
    sys.stdout.write(
        f"{Machine.this().text()}\n\n| healthy rollouts | load | stops by first figures alone | by the gate |\n"
    )
    sys.stdout.write(f"|---|---|---|---|\n| {chosen.rollouts} | {at_end:.0f} | {first} | {stopped} |\n")


if __name__ == "__main__":
    main()
