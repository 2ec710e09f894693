"""`litefleet` in this process, word by word, on a small simulated fleet: the real command line, operations and state.

Simulated are the devices, the way to them, the time, and what the toolchain builds.  Each command opens the project anew, as a
process of its own would.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import numpy as np
import yaml
from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, finding
from litefleet_controller.cli.main import main
from litefleet_controller.devices import agent_archive as agent_archive_module
from litefleet_controller.devices.release import Release
from litefleet_controller.operations import context, resume
from litefleet_controller.project.project import Project
from litefleet_controller.state import State
from litefleet_inventory.model import Device

from tests.agent.support.nb_builder import small
from tests.sim.command_model import BLOCKED, MODELS, WRONG
from tests.sim.engine_harness import copy_state, fresh_owner
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import ARCHIVE, make_fleet
from tests.sim.sim_profile import KINDS, Outage, Profile
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import VirtualClock, run

__all__ = ["CommandLine", "Done"]

_T = TypeVar("_T")
_SHARED = ("clock", "profile", "_holder")  # of a device: what no copy is made of


class Done(NamedTuple):
    """How a command ended: its exit code, and what it said on both streams."""

    code: int
    text: str


class Killed(BaseException):
    """The controller's process is no more: from now on it writes nothing, and releases no lock."""


class _Supply(SimSupply):
    """Makes what litefleet.yaml asks for: a model's version is its `verify` folder's name."""

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        return self.release(model, self.versions[model], facts)

    async def close(self) -> None:
        """Nothing is open."""


class _Writer:
    """The state's thread, inline, which ends for ever after a call of the name `dies_after`."""

    def __init__(self, dies_after: str) -> None:
        self._dies_after, self._dead = dies_after, False

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        if self._dead:
            raise Killed
        result = call(*args)
        if getattr(call, "__name__", "") == self._dies_after:
            self._dead = True
            raise Killed
        return result

    def close(self) -> None:
        """Nothing is open."""


class CommandLine:
    """Somebody who types `litefleet`, on `size` devices of one kind that have run nothing yet."""

    def __init__(self, folder: Path, template: Path, size: int = 4) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.supply = _Supply(folder, dict.fromkeys(MODELS, "1"), self._refuses)
        folder.mkdir(parents=True, exist_ok=True)
        copy_state(template, folder)
        self.fleet = make_fleet(
            size,
            clock=self.clock,
            shape=lambda name, drawn, dice: Profile(KINDS["pi4"], link_s=0.02, verify_s=2.0, cause=self._cause),
        )
        self.names = list(self.fleet.devices)
        self.log: list[str] = []
        self._transport = self.fleet.transport
        self._transport.host_keys = SimpleNamespace(skipped=())  # type: ignore[attr-defined]
        (folder / "small.nb").write_bytes(small("fc/def/4/1/1"))
        for number in range(2):
            np.savez(folder / f"{number}.npz", x=np.full((1, 3), number, np.float32), out0=np.ones((1, 2), np.float32))
        self.inventory(self.names)
        self.configure({})

    def _refuses(self, model: str, facts: Facts) -> Finding | None:
        return finding("LF201", "nothing fits") if self.supply.versions[model] == BLOCKED else None

    def _cause(self, release: str, device: SimDevice) -> Sequence[Finding]:
        wrong = device.name == self.names[0] and self.supply.version_of(release) == WRONG
        return [finding("LF401", "killed by SIGILL")] if wrong else []

    # --- files

    def configure(self, policy: dict[str, Any], version: str = "") -> None:
        """Write litefleet.yaml: `rollout:`, and the version of `cls`."""
        if version:
            self.supply.versions["cls"] = version
        model = {"nb": {"aarch64": "small.nb"}, "golden": {"files": ["0.npz", "1.npz"]}}
        document = {
            "fleet": "simulated",
            "inventory": "fleet.yaml",
            "store": "store",
            "state": "state.db",
            "models": dict.fromkeys(MODELS, model),
            "rollout": {"gates": "off", "waves": ["100%"], **policy},
            "ssh": {"known_hosts": "known_hosts", "config": False},
        }
        (self.folder / "litefleet.yaml").write_text(json.dumps(document))

    def inventory(self, names: Sequence[str]) -> None:
        """Write the inventory: these devices."""
        devices = {name: {"host": f"10.0.0.{self.names.index(name) + 1}"} for name in names}
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump({"devices": devices}))

    # --- commands

    def type(self, *words: str, dies_after: str = "") -> Done:
        """Run one command; with `dies_after`, its process is killed after that change of the state."""
        said = io.StringIO()
        argv = [*words, "-c", str(self.folder / "litefleet.yaml")]
        code: Any = None
        with self._simulated(dies_after), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main(argv)
            except SystemExit as end:
                code = end.code
            except Killed:
                code = -9
        self.fleet.transport.hang_up()
        self.clock.advance(1.0)
        self.log.append(f"litefleet {' '.join(words)}: {code}")
        assert code in ((-9,) if dies_after else range(5)), (self.log, said.getvalue())
        return Done(code, said.getvalue())

    @contextlib.contextmanager
    def _simulated(self, dies_after: str) -> Iterator[None]:
        """Put this world in place of the network, the toolchain, the machine's time, and the process that has an id."""
        stored = State.open
        outside: Sequence[tuple[object, str, object]] = (
            (asyncio, "run", lambda work: run(work, self.clock)),
            (
                State,
                "open",
                lambda where, clock=self.clock, beside=None, told=(): stored(where, self.clock, beside, told),
            ),
            (Project, "transport", lambda project: self._transport),
            (Project, "release_builder", lambda project, progress: self.supply),
            (agent_archive_module, "agent_archive", lambda kept=None: ARCHIVE),
            (context, "ThreadWriter", lambda: _Writer(dies_after)),
            *((module, "SystemClock", lambda: self.clock) for module in (context, resume)),
            *((module, "this_process", lambda operator="": fresh_owner()) for module in (context, resume)),
        )
        handler = signal.getsignal(signal.SIGTERM)
        with contextlib.ExitStack() as stack:
            for owner, name, value in outside:
                stack.enter_context(patch.object(owner, name, value))
            try:
                yield
            finally:
                signal.signal(signal.SIGTERM, handler)

    # --- the world

    def away(self, number: int) -> None:
        """Take a device off the network."""
        self._change(number, outages=(Outage(self.clock.elapsed),))

    def back(self, number: int) -> None:
        """Bring a device back."""
        self._change(number, outages=())

    def _change(self, number: int, **changes: Any) -> None:
        device = self.fleet.devices[self.names[number]]
        device.profile = device.profile.with_(**changes)

    def drift(self, number: int, model: str) -> None:
        """Let a device lose a file of what it runs."""
        self.fleet.devices[self.names[number]].drift[model] = [finding("LF602", "a file is missing")]

    def mend(self, number: int) -> None:
        """Let a device have all its files again."""
        self.fleet.devices[self.names[number]].drift.clear()

    def save(self) -> Any:
        """Return the whole world: the state, the devices, the time, the files."""
        kept = {
            name: {k: copy.deepcopy(v) for k, v in vars(device).items() if k not in _SHARED}
            for name, device in self.fleet.devices.items()
        }
        profiles = {name: device.profile for name, device in self.fleet.devices.items()}
        files = {path: path.read_bytes() for path in self.folder.glob("state.db*")}
        return kept, profiles, files, self.clock.elapsed, dict(self.supply.versions)

    def restore(self, saved: Any) -> None:
        """Make the world what it was."""
        kept, profiles, files, self.clock.elapsed, versions = saved
        self.supply.versions.update(versions)
        for name, device in self.fleet.devices.items():
            vars(device).update(copy.deepcopy(kept[name]))
            device.profile, device._holder = profiles[name], None
        for path in self.folder.glob("state.db*"):
            path.unlink()
        for path, data in files.items():
            path.write_bytes(data)

    def let_time_pass(self) -> None:
        """Wait until each device that is away is due."""
        self.clock.advance(7200)

    # --- what is to be seen

    def runs(self) -> dict[tuple[int, str], str]:
        """Return the version that each device runs, by (device, model); "" for none."""
        return {
            (number, model): self.supply.version_of(self.fleet.devices[name].current.get(model, ""))
            for number, name in enumerate(self.names)
            for model in MODELS
        }

    def rollouts(self) -> list[tuple[str, str, str]]:
        """Return the stored rollouts, the newest first: id, kind, state."""
        state = State.open(self.folder / "state.db", self.clock)
        try:
            return [(r.id, r.kind, str(r.state)) for r in state.rollouts("simulated", 50)]
        finally:
            state.close()
