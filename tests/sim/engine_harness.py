"""Production's operations on a simulated fleet: a project made in memory, a real SQLite state, the fleet's virtual time.

One `Harness` is one controller's process after another: `reopen` is the successor of one that died.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from litefleet_controller.build.releases import ReleaseBuilder
from litefleet_controller.config import Config
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.devices.transport.ssh_config import SshConfig
from litefleet_controller.devices.visit import SessionFactory
from litefleet_controller.operations.context import RolloutContext, finish_ended
from litefleet_controller.operations.plan import Planned, plan_devices
from litefleet_controller.operations.rollout import create
from litefleet_controller.project import Options
from litefleet_controller.project.project import Project
from litefleet_controller.rollout import DeviceRow, Policy, Rollout
from litefleet_controller.rollout_engine import RolloutEngine, Writer
from litefleet_controller.state import State, this_process
from litefleet_controller.state.model import Owner
from litefleet_inventory.model import Device, Group, Inventory
from litefleet_inventory.select import select

from tests.sim.sim_fleet import ARCHIVE, SimFleet
from tests.sim.sim_release_builder import SimSupply

__all__ = ["Harness", "copy_state", "fresh_owner"]

_NO_SUCH_PID = 1 << 23  # above what Linux gives, so that an owner is seen to be dead as soon as somebody asks
_numbers = itertools.count()
_T = TypeVar("_T")


async def _call_inline(call: Callable[..., _T], *args: Any) -> _T:
    """Call at once, on the caller's thread: for simulated time."""
    return call(*args)


def fresh_owner() -> Owner:
    """Return a controller of this host that is not alive for whoever comes after it."""
    return replace(this_process(), pid=_NO_SUCH_PID + next(_numbers), started="")


class Harness:
    """Operations on a simulated fleet.  `folder` holds litefleet.yaml, fleet.yaml, the store and state.db.

    `engine` is the last run's: it knows the board and the outcomes.
    """

    def __init__(
        self,
        fleet: SimFleet,
        supply: SimSupply,
        policy: Policy,
        folder: Path,
        *,
        models: Sequence[str] = (),
        concurrency: int = 32,
        opened: Callable[[Path, Callable[[], float]], State] = State.open,
        write: Writer | None = None,
    ) -> None:
        self.fleet, self.supply, self.policy, self.folder = fleet, supply, policy, folder
        self.models = tuple(models) or tuple(supply.versions)
        self.engine: RolloutEngine | None = None
        self._inventory = fleet.inventory
        self._limit = ""
        self._concurrency, self._opened = concurrency, opened
        self._write = write or _call_inline
        self._describe()
        self.state = self._open()
        self.context = self._sit_down()

    # --- what operators do

    async def plan(self) -> Planned:
        """Look at the fleet and return what a rollout would do."""
        context = self.context
        known = self.state.known()
        return await plan_devices(
            context.project, context.session_factory, self.supply, known, context.progress, self.fleet.clock.now()
        )

    async def start(self) -> Rollout:
        """Plan, and write the plan down as a rollout that runs; `go_on` carries it out."""
        planned = await self.plan()
        self.state.record_facts(planned.survey.known)
        return await create(self.context, planned)

    async def go_on(self, rollout: Rollout, wait_policy: WaitPolicy = WaitPolicy.ALL) -> Rollout:
        """Carry a rollout out as far as `patience` goes, and return how it stands then."""
        self.engine = await self.context.run_engine(rollout, wait_policy)
        return self.engine.rollout

    # --- what is stored

    def rollout(self, rollout_id: str = "") -> Rollout:
        """Return a rollout as it is stored; default: the latest."""
        found = self.state.rollout(rollout_id) if rollout_id else self.state.rollouts(self.context.config.fleet, 1)[0]
        assert found is not None
        return found

    def rows(self, rollout_id: str = "") -> dict[tuple[str, str], DeviceRow]:
        """Return a rollout's rows as they are stored, by (device, model); default: the latest's."""
        found = self.state.rows(rollout_id or self.rollout().id)
        return {(row.device, row.model): row for row in found}

    # --- processes

    def reopen(self, policy: Policy | None = None) -> Harness:
        """Become the successor of a controller that died: another connection, another owner, the same file."""
        self.state.close()
        self.fleet.transport.hang_up()
        self.policy = policy or self.policy
        self.state = self._open()
        self.context = self._sit_down()
        return self

    def see(self, devices: Sequence[Device]) -> None:
        """Work from an inventory of these devices; the fleet itself stays as it is."""
        self._inventory = tuple(devices)
        self.context.project = self._project()

    def choose(self, limit: str = "") -> None:
        """Work on a selection, as `--limit` makes one; "" is the whole fleet."""
        self._limit = limit
        self.context.project = self._project()

    def leave(self) -> None:
        """End this controller as one that gives its fleet free."""
        self.state.release(self.context.lock)
        self.state.close()

    def _open(self) -> State:
        return self._opened(self.folder / "state.db", self.fleet.clock)

    def _sit_down(self) -> RolloutContext:
        lock = self.state.acquire("simulated", fresh_owner())
        finish_ended(self.state, lock)
        supply = cast(ReleaseBuilder, self.supply)  # of a Supply, operations use what a Supplier has
        session_factory = SessionFactory(self.fleet.transport, ARCHIVE)
        return RolloutContext(
            self._project(), self.state, lock, session_factory, supply, QuietProgress(), self._write, self.fleet.clock
        )

    def _project(self) -> Project:
        config = Config.model_validate(
            {
                "fleet": "simulated",
                "inventory": self.folder / "fleet.yaml",
                "store": self.folder / "store",
                "models": {name: {"source": str(self.folder)} for name in self.models},
                "rollout": self.policy,
                "ssh": {"concurrency": self._concurrency},
                "state": str(self.folder / "state.db"),
            }
        )
        devices = self._inventory
        names = sorted({group for device in devices for group in device.groups})
        groups = [Group(name, tuple(d.name for d in devices if name in d.groups)) for name in names]
        options = Options(self.folder / "litefleet.yaml", limit=self._limit)
        inventory = Inventory(devices, tuple(groups))
        chosen = select(inventory, self._limit) if self._limit else devices
        return Project(options, config, inventory, tuple(chosen), self.models, SshConfig(()))

    def _describe(self) -> None:
        """Write the files down whose hashes a rollout keeps."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "litefleet.yaml").write_text(yaml.safe_dump({"models": list(self.models)}))
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump([d.name for d in self.fleet.inventory]))


def copy_state(template: Path, folder: Path) -> None:
    """Put a state that was made and closed before into a folder: making one anew costs a migration."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, folder / "state.db")
