"""What a rollout costs the controller, against the number of devices.

    python -m bench.scale                           # 100, 1,000 and 10,000 devices; a few minutes
    python -m bench.scale --devices 100000
    python -m bench.scale --devices 1000 --profile  # where the CPU goes

The planning, the rollout, the state and the report are production's own, on a real SQLite file; so are the bytes on the wire.
The devices are simulated (`tests/sim`): their delays are those that bench/README.md measured, and they fail as drawn here.
Time is virtual, so that hours of waiting cost nothing; a commit takes `COMMIT_S` of it.  Each number of devices has a process
of its own.  What the devices' own code costs is measured and not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from litefleet_agent.findings import Finding, finding
from litefleet_controller.cli.main import collect_rarely
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.rollout import start_with_context
from litefleet_controller.operations.run import Stopwatch
from litefleet_controller.rollout import DeviceState, Policy

from tests.sim import sim_transport
from tests.sim.engine_harness import Harness
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import SimFleet, make_fleet
from tests.sim.sim_profile import Profile, flapping, random_cuts
from tests.sim.sim_release_builder import SimSupply
from tests.sim.sim_wire import Peer
from tests.sim.virtual_loop import run

SIZES = (100, 1_000, 10_000)
COMMIT_S = 0.004  # of one commit, with its fsync, on the machine of bench/README.md
START_S = (0.10, 0.25)  # the agent's start: "Cost of a no-op"
PROOF_S = (0.20, 0.89, 1.26)  # cls, det, rec: "Native engine", whole processes
SLOWER = (1.0, 8.0)  # a device than that machine
COMMANDS = ("status", "devices", "history", "audit")
CAUSES = ("LF312", "LF401", "LF403", "LF404", "LF405")
FAILS, FLAPS, CUT = 0.005, 0.02, 0.01  # of the devices, of the devices, of the contacts
_T = TypeVar("_T")


def _fails(code: str) -> Callable[[str, SimDevice], Sequence[Finding]]:
    return lambda release, device: (finding(code, "drawn by the bench"),)


def shape(name: str, profile: Profile, dice: random.Random) -> Profile:
    """Return a device with measured delays; few fail, few come and go."""
    profile = profile.with_(
        start_s=dice.uniform(*START_S),
        verify_s=dice.choice(PROOF_S) * dice.uniform(*SLOWER),
        cut=random_cuts(name, CUT),
    )
    if dice.random() < FAILS:
        profile = profile.with_(cause=_fails(dice.choice(CAUSES)))
    if dice.random() < FLAPS:
        profile = profile.with_(outages=flapping(name, 600, 180, 4 * 3600, 0.3))
    return profile


class DeviceTime:
    """The CPU seconds that the simulated devices' own code took, from every `EVERY`th call: reading the clock costs more."""

    EVERY = 16

    def __init__(self) -> None:
        self.seconds = 0.0
        self._calls = 0

    def measure(self, owner: Any, name: str) -> None:
        """Count the time of one function."""
        function = getattr(owner, name)

        def timed(*args: Any, **named: Any) -> Any:
            self._calls += 1
            if self._calls % self.EVERY:
                return function(*args, **named)
            began = time.thread_time()
            try:
                return function(*args, **named)
            finally:
                self.seconds += (time.thread_time() - began) * self.EVERY

        setattr(owner, name, timed)


class OneWriter:
    """Runs the state's calls one after another, each in `COMMIT_S` of virtual time."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + COMMIT_S
        await asyncio.sleep(self._free_at - now)
        return call(*args)


def _size_of(value: Any, seen: set[int]) -> int:
    """Return the bytes of a device's own objects: what is shared, and its profile, is not counted twice."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(_size_of(k, seen) + _size_of(v, seen) for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return size + sum(_size_of(item, seen) for item in value)
    return size + (_size_of(vars(value), seen) if hasattr(value, "__dict__") else 0)


def _devices_mb(controller: Harness) -> float:
    clock, names = controller.fleet.clock, list(controller.fleet.devices)[:200]
    seen = {id(clock)}
    of = sum(_size_of(controller.fleet.devices[name], seen) for name in names) / len(names)
    return of * len(controller.fleet.devices) / 1e6


def _cpu() -> float:
    return time.process_time()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _rollout(controller: Harness, commits: list[int], devices: DeviceTime) -> dict[str, float]:
    began = (_cpu(), time.perf_counter(), devices.seconds, commits[0], controller.fleet.clock.elapsed)
    controller.context.last_seen = {}
    report = run(start_with_context(controller.context, WaitPolicy.WAVES, True, Stopwatch()), controller.fleet.clock)
    assert report.rollout["state"] in ("done", "running"), report.rollout
    n = len(controller.fleet.devices)
    return {
        "cpu_ms": (_cpu() - began[0] - (devices.seconds - began[2])) / n * 1e3,
        "devices_cpu_ms": (devices.seconds - began[2]) / n * 1e3,
        "wall_s": time.perf_counter() - began[1],
        "virtual_s": controller.fleet.clock.elapsed - began[4],
        "commits": (commits[0] - began[3]) / n,
        "peak_mb": _peak_mb(),
    }


def simulate(size: int, concurrency: int, folder: Path) -> dict[str, Any]:
    """Roll out to `size` simulated devices, then once more to the same, and return the figures."""
    (folder / "files").mkdir(parents=True)
    supply = SimSupply(folder / "files", {"cls": "1"})
    before = _peak_mb()
    fleet = make_fleet(size, "scale", shape=shape)
    made = _peak_mb()
    devices, commits = DeviceTime(), [0]
    for owner, name in ((SimDevice, "answer"), (Peer, "feed"), (sim_transport, "encode")):
        devices.measure(owner, name)
    sa.event.listen(sa.Engine, "commit", lambda connection: commits.__setitem__(0, commits[0] + 1))
    controller = Harness(
        fleet,
        supply,
        Policy.model_validate({"gates": "off"}),
        folder / "project",
        concurrency=concurrency,
        write=OneWriter(),
    )
    first = _rollout(controller, commits, devices)
    again = _rollout(controller, commits, devices)
    print(f"{size} devices: {first}, converged: {again}", file=sys.stderr, flush=True)
    rows = controller.rows()
    done = sum(row.state in (DeviceState.CONFIRMED, DeviceState.UNCHANGED) for row in rows.values())
    mb = _devices_mb(controller)
    controller.leave()
    commands = {words: _command(folder / "project", fleet, words) for words in COMMANDS}
    size_mb = (folder / "project" / "state.db").stat().st_size / 1e6
    return {
        "devices": size,
        "done": done,
        "rollout": first,
        "converged": again,
        "base_mb": before,
        "fleet_mb": made - before,
        "devices_mb": mb,
        "state_mb": size_mb,
        "commands": commands,
    }


def _command(folder: Path, fleet: SimFleet, words: str) -> dict[str, float]:
    """Run a command on the state that the rollouts made, and return its CPU and wall seconds; the faster of two runs."""
    (folder / "model").mkdir(exist_ok=True)
    config = {
        "fleet": "simulated",
        "inventory": "fleet.yaml",
        "state": "state.db",
        "models": {"cls": {"source": "model"}},
    }
    (folder / "litefleet.yaml").write_text(json.dumps(config))
    hosts = {device.name: {"host": device.host} for device in fleet.inventory}
    (folder / "fleet.yaml").write_text(json.dumps({"devices": hosts}))
    found = []
    for _ in range(2):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "litefleet_controller", *words.split()],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
        )
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall))
    cpu, wall = min(found)
    return {"cpu_s": cpu, "wall_s": wall}


def _child(size: int, args: argparse.Namespace) -> None:
    collect_rarely()  # as the command line does
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="litefleet-scale-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        if args.profile:
            profile = cProfile.Profile()
            found = profile.runcall(simulate, size, args.concurrency, folder)
            stats = pstats.Stats(profile, stream=sys.stderr)
            stats.sort_stats("tottime").print_stats(45)
            stats.sort_stats("cumtime").print_stats(120)
        else:
            found = simulate(size, args.concurrency, folder)
        print(json.dumps(found))
    finally:
        shutil.rmtree(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each number of devices in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=SIZES)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, default=0)
    args = parser.parse_args(argv)
    if args.child:
        _child(args.child, args)
        return
    print("| devices | " + " | ".join(HEAD) + " |\n|" + "---|" * (len(HEAD) + 1), flush=True)
    for size in args.devices:
        again = [sys.executable, "-m", "bench.scale", "--child", str(size), "--concurrency", str(args.concurrency)]
        again += ["--profile"] if args.profile else []
        done = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(_line(found), flush=True)
        if args.json:
            print(json.dumps(found), file=sys.stderr, flush=True)


HEAD = (
    "rollout: CPU ms a device",
    "minutes, virtual",
    "commits a device",
    "converged: CPU ms a device",
    "peak MB",
    "of it devices",
    "status: CPU s",
    "devices: CPU s",
    "history: CPU s",
    "audit: CPU s",
)


def _line(found: dict[str, Any]) -> str:
    first, again, commands = found["rollout"], found["converged"], found["commands"]
    cells = (
        f"{found['devices']:,}",
        f"{first['cpu_ms']:.1f}",
        f"{first['virtual_s'] / 60:.1f}",
        f"{first['commits']:.2f}",
        f"{again['cpu_ms']:.1f}",
        f"{again['peak_mb']:.0f}",
        f"{found['devices_mb']:.0f}",
        *(f"{commands[words]['cpu_s']:.2f}" for words in COMMANDS),
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
