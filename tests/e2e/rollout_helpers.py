"""What the tests of rollouts share: new and bad releases, a look at devices' own disks, and the command line."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import open_state, start_rollout
from litefleet_controller.project import Options
from litefleet_controller.rollout import DeviceRow, Rollout
from litefleet_controller.state.model import AuditEntry

from tests.e2e.conftest import Project

__all__ = [
    "audit",
    "bad_release",
    "current",
    "edit_proof",
    "environment",
    "latest",
    "link",
    "litefleet",
    "new_release",
    "options",
    "quiet",
    "rollout",
    "rows",
    "snapshot",
    "snapshots",
    "states",
    "within",
]

CHECKOUT = Path(__file__).parents[2]


def quiet(_total: int) -> QuietProgress:
    """Show nothing."""
    return QuietProgress()


def options(job: Project, limit: str = "") -> Options:
    """What the command line would choose."""
    return Options(job.folder / "litefleet.yaml", None, limit)


async def rollout(
    job: Project, wait_policy: WaitPolicy = WaitPolicy.WAVES, supersede: bool = False, limit: str = ""
) -> RunReport:
    """Run `litefleet rollout`."""
    return await start_rollout(options(job, limit), quiet, wait_policy, supersede)


async def litefleet(job: Project, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "litefleet_controller", *words, "-c", str(job.folder / "litefleet.yaml")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """The environment of a controller that runs in a process of its own."""
    path = os.pathsep.join(str(CHECKOUT / part) for part in ("agent", "inventory", "controller"))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}


def new_release(job: Project, runs: int) -> None:
    """Make the next release another one: another number of runs is another manifest over the same files."""
    job.config(verify={"runs": runs, "warmup": 0, "time_limit_s": 60})


def bad_release(job: Project, root: Path, model: str = "cls") -> None:
    """Make the next release one that every device finds wrong: its goldens expect other outputs than the model's."""
    manifest = json.loads((root / "models" / model / "current").read_text())
    files = []
    for number, sha in enumerate(manifest["golden"]):
        arrays = dict(np.load(io.BytesIO((root / "blobs" / sha).read_bytes())))
        shifted = {name: a if name == "x" else a + np.float32(0.25) for name, a in arrays.items()}
        path = job.folder / f"other-{number}.npz"
        np.savez(path, **shifted)
        files.append(path.name)
    config = yaml.safe_load((job.folder / "litefleet.yaml").read_text())
    config["models"][model]["golden"] = {"files": files}
    job.config(models=config["models"])


def link(root: Path, model: str = "cls", name: str = "current") -> str:
    """Return the release that a model's link names on a device's disk, "" for none."""
    try:
        return Path(os.readlink(root / "models" / model / name)).stem
    except FileNotFoundError:
        return ""


def current(fleet: EmbeddedFleet, model: str = "cls") -> dict[str, str]:
    """Return what every device's disk says that it runs."""
    return {name: link(device.root, model) for name, device in fleet.devices.items()}


def snapshot(home: Path) -> dict[str, str]:
    """Return everything under a device's home: path -> link target, or the hash of a file's bytes."""
    found = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def snapshots(fleet: EmbeddedFleet) -> dict[str, dict[str, str]]:
    """Return every device's whole disk, by its name; locks and what a session keeps for the start of the next one aside."""
    kept = ("lock", "switch.lock")
    return {
        name: {k: v for k, v in snapshot(device.root).items() if k not in kept and not k.endswith(".start.bytecode")}
        for name, device in fleet.devices.items()
    }


def edit_proof(root: Path, release: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit a device's own record of a release's proof."""
    path = root / "verified" / f"{release}.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def latest(job: Project, kind: str = "") -> Rollout:
    """Return the latest rollout as it is stored; with `kind`, the latest of this kind.  IndexError when there is none yet."""
    config = load_config(job.folder / "litefleet.yaml")
    state = open_state(config)
    try:
        found = [r for r in state.rollouts(config.fleet, 20) if kind in ("", r.kind)]
    finally:
        state.close()
    return found[0]


def rows(job: Project, rollout_id: str = "") -> tuple[DeviceRow, ...]:
    """Return a rollout's stored rows; default: the latest's."""
    state = open_state(load_config(job.folder / "litefleet.yaml"))
    try:
        return state.rows(rollout_id or latest(job).id)
    finally:
        state.close()


def states(job: Project, rollout_id: str = "") -> dict[str, str]:
    """Return where each device stands in a rollout."""
    return {row.device: str(row.state) for row in rows(job, rollout_id)}


def audit(job: Project) -> tuple[AuditEntry, ...]:
    """Return the audit log, after its chain was checked."""
    state = open_state(load_config(job.folder / "litefleet.yaml"))
    try:
        assert state.check_audit() == ""
        return state.audit()
    finally:
        state.close()


async def within(seconds: float, true: Callable[[], Any] | Callable[[], Awaitable[Any]]) -> None:
    """Wait until something holds; AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while True:
        result = true()
        if await result if isinstance(result, Awaitable) else result:
            return
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.05)
