"""CPU of each process of a rollout over a Dask cluster, beside the same rollout from one process.

    python bench/cluster.py [--devices 20] [--workers 2]      # PYTHONPATH=agent:inventory:controller:bench

Devices are OpenSSH servers on loopback; scheduler and workers are processes on loopback, without TLS between them.  Only CPU time
is printed: devices, workers and coordinator share the machine, so wall time is the devices' own work.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml
from fleet import Bench, Sizes, _source, say
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.operations import start_rollout
from litefleet_controller.project import Options

PORT = 18786
ADDRESS = f"tcp://127.0.0.1:{PORT}"


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU seconds that a process has used, user and system."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_cluster(folder: Path, workers: int) -> dict[str, subprocess.Popen[bytes]]:
    """Start a scheduler and workers, and wait until the workers have joined."""
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "tcp://127.0.0.1"]
    scheduler += ["--port", str(PORT), "--no-dashboard"]
    started = {"scheduler": subprocess.Popen(scheduler, stderr=subprocess.DEVNULL)}
    logs = []
    for number in range(workers):
        name = f"worker-{number + 1}"
        argv = [sys.executable, "-m", "litefleet_controller", "cluster", "worker", ADDRESS, "--name", name]
        logs.append(folder / f"{name}.log")
        with logs[-1].open("wb") as log:
            started[name] = subprocess.Popen([*argv, "--cache", str(folder / name)], stderr=log)
    while not all(b"is a worker of" in log.read_bytes() for log in logs):
        time.sleep(0.2)
    return started


async def rollout(options: Options) -> tuple[float, int]:
    """Roll out, and return (CPU seconds of this process, outcomes that are not verified)."""
    before = time.process_time()
    report = await start_rollout(options, lambda total: QuietProgress())
    return time.process_time() - before, sum(o.verdict.value != "verified" for o in report.outcomes)


async def measure(devices: int, workers: int, folder: Path) -> None:
    """Print one row for each way and job."""
    lite = await Toolchains().lite()
    _source(folder)
    specs = [DeviceSpec(f"d{i:03}", kind="sshd", python=str(lite.python)) for i in range(1, devices + 1)]
    async with EmbeddedFleet(folder / "devices", specs) as fleet:
        bench = Bench(folder, fleet, Sizes(devices, (), 1, 1))
        bench.prepare(lite.python.resolve())
        settings = yaml.safe_load((folder / "system.yaml").read_text())
        settings.update(rollout={"waves": ["100%"], "gates": "off"})
        (folder / "system.yaml").write_text(yaml.safe_dump(settings))
        one = Options(folder / "system.yaml", limit="d001")
        await rollout(one)  # converts the model and makes the goldens
        running = start_cluster(folder, workers)
        await rollout(replace(one, cluster=ADDRESS))  # imports, and sends the agent to one worker
        print("| job | way | coordinator | scheduler | workers, all | not verified |")
        print("|---|---|---|---|---|---|")
        try:
            for way, cluster in (("one process", ""), ("cluster", ADDRESS)):
                bench.wipe(devices)
                for job in ("full", "no-op"):
                    before = {name: cpu_s(process) for name, process in running.items()}
                    used, bad = await rollout(Options(folder / "system.yaml", cluster=cluster))
                    spent = {name: cpu_s(process) - before[name] for name, process in running.items()}
                    scheduler = spent.pop("scheduler")
                    cells = [used, scheduler, sum(spent.values())]
                    ms = " | ".join(f"{1000 * cell / devices:.1f}" for cell in cells)
                    print(f"| {job} | {way} | {ms} | {bad} |", flush=True)
        finally:
            for process in running.values():
                process.kill()
    say("CPU in milliseconds a device")


def main() -> None:
    """Read the command line and run."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--devices", type=int, default=20)
    reader.add_argument("--workers", type=int, default=2)
    chosen = reader.parse_args()
    with tempfile.TemporaryDirectory(prefix="litefleet-bench-") as folder:
        asyncio.run(measure(chosen.devices, chosen.workers, Path(folder)))


if __name__ == "__main__":
    main()
