"""Rounds in which one process of a fleet's operation is killed at a random moment, and the end state is checked.

A round prepares an operation (a rollout, a resumed rollout, a rollback, a reconcile with repair), starts it as a process of its
own, kills the controller or the agent of one device with SIGKILL, checks every device's disk, and then only repeats the command.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from litefleet_agent.releases.activation import open_leases
from litefleet_agent.releases.store import Store
from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedDevice, EmbeddedFleet
from litefleet_controller.demo.process_tree import descendants
from litefleet_controller.operations import open_state
from litefleet_controller.rollout import RolloutState

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import audit, current, environment, latest, link, new_release, rollout, rows, within
from tests.e2e.test_faults import whole_blobs_only

__all__ = ["OPERATIONS", "VICTIMS", "Figures", "KillRounds", "agents"]

OPERATIONS = ("rollout", "rollback", "resume", "reconcile --repair")
VICTIMS = ("controller", "agent")
MOST_REPEATS = 4  # of the same command after a kill
_AGENT = b"sys.version_info<(3,7)"  # devices/bootstrap.py starts the agent by this program


@dataclass
class Figures:
    """What all rounds came to."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)  # by victim and operation
    moments: collections.Counter[str] = field(default_factory=collections.Counter)  # by the rows' states
    repeats: collections.Counter[int] = field(
        default_factory=collections.Counter
    )  # of the command, until it ended well
    missed: int = 0  # rounds whose operation ended before the kill; they are tried again
    device_checks: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the figures for a report."""
        return {
            "kills": dict(sorted(self.kills.items())),
            "moments": dict(self.moments.most_common()),
            "repeats": dict(sorted(self.repeats.items())),
            "missed": self.missed,
            "device_checks": self.device_checks,
        }


def agents(device: EmbeddedDevice) -> list[int]:
    """Return the processes that serve a session on a device, without the lease watchdog, which is a copy of one."""
    found = []
    for pid in descendants(device.process.pid or 0):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            watchdog = Path(f"/proc/{pid}/comm").read_text() == "litefleet-lease\n"
            if b"-ESs" in words[:3] and any(_AGENT in word for word in words[:4]) and not watchdog:
                found.append(pid)
    return found


class KillRounds:
    """A fleet whose operations are killed; `seed` decides every moment and victim."""

    def __init__(self, job: Project, fleet: EmbeddedFleet, seed: int) -> None:
        self.figures = Figures()
        self._job, self._fleet = job, fleet
        self._dice = random.Random(f"kills {seed}")
        self._runs = 2
        self._before: dict[str, str] = {}  # what ran before the last operation, if that was a rollout
        self._seconds: dict[str, float] = {}  # how long the latest operation of a kind took

    async def begin(self) -> None:
        """Bring two releases to all devices and measure each operation once, undisturbed."""
        await rollout(self._job)
        for operation in OPERATIONS:
            before, expected = current(self._fleet), await self._prepare(operation)
            begun = time.monotonic()
            done = await self._litefleet(operation)
            self._seconds[operation] = time.monotonic() - begun
            assert done == 0, (operation, self._log())
            await self._check_end(operation, before, expected, operation)

    async def one(self, operation: str, victim: str) -> bool:
        """Run one round and return whether the kill came before the operation had ended."""
        before, expected = current(self._fleet), await self._prepare(operation)
        moment = self._dice.uniform(0.05, 1.0) * self._seconds[operation]
        about = f"{operation}, {victim} killed after {moment:.2f} of {self._seconds[operation]:.2f} s"
        hit = await self._interrupted(operation, victim, moment)
        self._check_disks(about)
        if hit:
            self.figures.moments[self._rows()] += 1
        repeats = 0
        while not self._ended(operation, expected, hit and repeats == 0):
            assert repeats < MOST_REPEATS, (about, self._log())
            repeats += 1
            await self._litefleet(operation)
            self._check_disks(about)
        await self._check_end(operation, before, expected, about)
        if hit:
            self.figures.kills[f"{victim}: {operation}"] += 1
            self.figures.repeats[repeats] += 1
        else:
            self.figures.missed += 1
        print(f"{about}: {'hit' if hit else 'missed'}, {repeats} more", flush=True)
        return hit

    # --- operations

    async def _prepare(self, operation: str) -> dict[str, str]:
        """Make the operation necessary; return what each device is to run after it, "" for a release not yet known."""
        before = current(self._fleet)
        if operation in ("rollout", "resume"):
            self._runs += 1
            new_release(self._job, self._runs)
            if operation == "resume":
                await self._leave_open()
            return dict.fromkeys(before, "")
        if operation == "rollback":
            if not self._before:  # the last operation was no rollout
                self._runs += 1
                new_release(self._job, self._runs)
                self._before = before
                assert (await rollout(self._job)).exit_code == 0
            return self._before
        for name in self._dice.sample(sorted(before), self._dice.choice((1, 2))):
            self._damage(self._fleet.devices[name].root, before[name])
        return before

    async def _leave_open(self) -> None:
        """Kill the controller of a rollout that has begun, so that there is something to resume."""
        before = latest(self._job).id
        while latest(self._job).id == before or latest(self._job).state is RolloutState.DONE:
            if latest(self._job).id != before:  # it ended before the kill
                before = latest(self._job).id
                self._runs += 1
                new_release(self._job, self._runs)
            async with self._started("rollout") as process:
                while process.returncode is None and latest(self._job).id == before:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(self._dice.uniform(0, 0.4) * self._seconds.get("rollout", 4.0))

    def _damage(self, root: Path, release: str) -> None:
        """Delete what a device needs: a golden, or the link to its release."""
        manifest = json.loads((root / "releases" / f"{release}.json").read_text())
        if self._dice.random() < 0.5:
            (root / "blobs" / manifest["golden"][0]).unlink()
        else:
            (root / "models/cls/current").unlink()

    def _words(self, operation: str) -> list[str]:
        return [*operation.split(), *(["--yes"] if operation == "rollback" else [])]

    async def _litefleet(self, operation: str) -> int:
        """Run a command to its end and return its exit code."""
        async with self._started(operation) as process:
            return await asyncio.wait_for(process.wait(), 120)

    @contextlib.asynccontextmanager
    async def _started(self, operation: str) -> AsyncIterator[asyncio.subprocess.Process]:
        words = self._words(operation)
        with (self._job.folder / "log").open("ab") as log:
            log.write(f"\n$ {' '.join(words)}\n".encode())
            log.flush()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "litefleet_controller", *words, "-c", str(self._job.folder / "litefleet.yaml")),
                stdout=log,
                stderr=log,
                env=environment(),
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _interrupted(self, operation: str, victim: str, moment: float) -> bool:
        """Start an operation and kill the victim after `moment` seconds; return whether it was still running."""
        async with self._started(operation) as process:
            begun = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), moment)
            if victim == "controller":
                if process.returncode is not None:
                    self._seconds[operation] = time.monotonic() - begun  # quicker than when it was measured
                    return False
                process.kill()
                await process.wait()
                return True
            hit = await self._kill_agent(process)
            await asyncio.wait_for(process.wait(), 120)
            if not hit:
                self._seconds[operation] = time.monotonic() - begun
            return hit

    async def _kill_agent(self, process: asyncio.subprocess.Process) -> bool:
        """Kill one session of one device, the first that there is; return False where the operation ends without one."""
        while process.returncode is None:
            found = [pid for device in self._fleet.devices.values() for pid in agents(device)]
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._dice.choice(found), signal.SIGKILL)
                    return True
            await asyncio.sleep(0.02)
        return False

    # --- checks

    def _ended(self, operation: str, expected: dict[str, str], interrupted: bool) -> bool:
        """Return whether the operation is finished: nothing is open, and every device runs what it is to run."""
        if operation == "reconcile --repair" and interrupted:
            return False  # damage shows only to a deep look: repeat it
        last = latest(self._job)
        if last.state is not RolloutState.DONE:
            return False
        runs = current(self._fleet)
        if operation in ("rollout", "resume"):
            return len(set(runs.values())) == 1 and self._is_new(runs)
        return runs == expected and self._files_exist()

    def _is_new(self, runs: dict[str, str]) -> bool:
        manifests = [
            json.loads((self._fleet.devices[n].root / "releases" / f"{r}.json").read_text()) for n, r in runs.items()
        ]
        return all(manifest["verify"]["runs"] == self._runs for manifest in manifests)

    def _files_exist(self) -> bool:
        for device in self._fleet.devices.values():
            manifest = json.loads((device.root / "releases" / f"{link(device.root)}.json").read_text())
            if not all((device.root / "blobs" / sha).exists() for sha in manifest["golden"]):
                return False
        return True

    def _check_disks(self, about: str) -> None:
        """Check that every device is whole: each visible blob has its bytes, `current` names a complete release or nothing."""
        for name, device in self._fleet.devices.items():
            assert whole_blobs_only(device.root), (about, name)
            release = link(device.root)
            if release:
                manifest = json.loads((device.root / "releases" / f"{release}.json").read_text())
                assert (device.root / "blobs" / manifest["model"]["nb"]).exists(), (about, name)
            self.figures.device_checks += 1

    async def _check_end(self, operation: str, before: dict[str, str], expected: dict[str, str], about: str) -> None:
        """Check that the state tells the truth about the disks, that the audit log holds, and that nothing was left open."""
        runs = current(self._fleet)
        self._before = before if operation in ("rollout", "resume") else {}
        assert all(not want or runs[name] == want for name, want in expected.items()), (about, runs, expected)
        config = load_config(self._job.folder / "litefleet.yaml")
        with contextlib.closing(await asyncio.to_thread(open_state, config)) as state:
            confirmed = {device: one.release for (device, _), one in state.confirmed().items()}
        assert confirmed == runs, (about, confirmed, runs)
        assert all(row.state.well for row in rows(self._job)), (about, rows(self._job), self._log())
        for device in self._fleet.devices.values():
            assert not open_leases(Store(str(device.root))), about
            await within(10, lambda device=device: not agents(device))
        audit(self._job)  # checks the chain of hashes

    def _rows(self) -> str:
        """Return the states of the latest rollout's rows, as one text."""
        last = latest(self._job)
        counted = collections.Counter(str(row.state) for row in rows(self._job))
        return f"{last.kind} {last.state}: " + ", ".join(f"{n} {state}" for state, n in sorted(counted.items()))

    def _log(self) -> str:
        return (self._job.folder / "log").read_text(errors="replace")[-4000:]
