"""An operator's commands on a small simulated fleet, each with its exit code, and what the devices then run."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, finding
from litefleet_controller.common.errors import LitefleetError
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.adopt import adopt_with_context, look, stored_of
from litefleet_controller.operations.reconcile import reconcile_with_context
from litefleet_controller.operations.resume import continue_with_context, end_locally
from litefleet_controller.operations.rollback import RollbackPlan, Target, _plan, roll_back_with_context
from litefleet_controller.operations.rollout import start_with_context
from litefleet_controller.operations.run import Stopwatch
from litefleet_controller.rollout import Policy, RolloutEvent

from tests.sim.engine_harness import Harness, copy_state
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import make_fleet
from tests.sim.sim_profile import KINDS, Outage, Profile
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import run

__all__ = ["Done", "Operator"]


class Done(NamedTuple):
    """How a command ended: its exit code, and what it said."""

    code: int
    text: str = ""


class Operator:
    """Devices a, b, c... that run version 1 of one model, `cls`, and somebody who types commands."""

    def __init__(self, folder: Path, template: Path, kinds: Sequence[str] = ("pi4",) * 3, **policy: Any) -> None:
        folder.mkdir(parents=True)
        self.supply = SimSupply(folder, {"cls": "1"}, self._refuses)
        self.blocked = False
        names = iter(kinds)
        self.fleet = make_fleet(
            len(kinds), shape=lambda name, drawn, dice: Profile(KINDS[next(names)], link_s=0.02, verify_s=2.0)
        )
        copy_state(template, folder)
        self.harness = Harness(self.fleet, self.supply, Policy(), folder)
        self.names = [device.name for device in self.fleet.inventory]
        assert self.rollout().code == 0
        self.policy(**policy)

    def _refuses(self, model: str, facts: Facts) -> Finding | None:
        return finding("LF201", "nothing fits") if self.blocked else None

    def policy(self, **policy: Any) -> None:
        """Change `rollout:` in litefleet.yaml."""
        self.harness.policy = Policy.model_validate(policy)
        self.harness.choose()

    # --- commands

    def rollout(
        self,
        version: str = "",
        limit: str = "",
        supersede: bool = False,
        wait: WaitPolicy = WaitPolicy.WAVES,
        take_over: bool = False,
    ) -> Done:
        """`litefleet rollout`, with litefleet.yaml at a version."""
        if version:
            self.supply.versions["cls"] = version
        self.harness.choose(limit)
        self.harness.context.take_over = take_over
        return self._run(start_with_context(self.harness.context, wait, supersede, Stopwatch()))

    def rollback(self, to: str = "previous", rollout: str = "", limit: str = "", wave: int = 0) -> Done:
        """`litefleet rollback --yes`."""
        self.harness.choose(limit)
        return self._run(roll_back_with_context(self.harness.context, Target(to, rollout, wave), Stopwatch()))

    def preview(self, to: str = "previous", rollout: str = "", limit: str = "") -> RollbackPlan:
        """`litefleet rollback --dry-run`."""
        self.harness.choose(limit)
        return _plan(self.harness.state, self.harness.context.project, Target(to, rollout))

    def step(self, command: str, rollout: str = "", wait: WaitPolicy = WaitPolicy.WAVES) -> Done:
        """`litefleet resume`, `approve` or `retry --failed`."""
        self.harness.choose()
        return self._run(continue_with_context(self.harness.context, rollout, wait, command, Stopwatch()))

    def end(self, event: RolloutEvent = RolloutEvent.ABORT) -> None:
        """`litefleet abort` or `pause` of the latest rollout."""
        here = self.harness
        end_locally(here.state, here.context.lock, here.rollout(), event, self.fleet.clock.now(), "operator")

    def reconcile(self, repair: bool = False) -> Done:
        """`litefleet reconcile`."""
        self.harness.choose()
        return self._run(reconcile_with_context(self.harness.context, repair, False, Stopwatch()))

    def adopt(self, limit: str = "") -> Done:
        """`litefleet state adopt --yes`."""
        here = self.harness
        here.choose(limit)
        context = here.context

        async def whole() -> RunReport:
            stored = stored_of(here.state, context.config.fleet)
            adoption = await look(context.project, context.session_factory, stored, context.progress)
            return await adopt_with_context(context, adoption, Stopwatch())

        return self._run(whole())

    # --- the state

    def backup(self) -> bytes:
        """Return a copy of the database."""
        self.harness.leave()
        data = (self.harness.folder / "state.db").read_bytes()
        self._sit_down()
        return data

    def restore(self, data: bytes | None, with_note: bool = True) -> None:
        """Put a database back, None for a new one; the file beside it goes back with it, unless it is left."""
        self.harness.leave()
        path = self.harness.folder / "state.db"
        for file in path.parent.glob("state.db*"):
            if with_note or file.suffix != ".id":
                file.unlink()
        if data is not None:
            path.write_bytes(data)
        self._sit_down()

    def _sit_down(self) -> None:
        self.harness.state = self.harness._open()
        self.harness.context = self.harness._sit_down()

    def _run(self, command: Awaitable[RunReport]) -> Done:
        async def whole() -> Done:
            try:
                report = await command
            except LitefleetError as error:
                return Done(error.exit_code, str(error))
            return Done(report.exit_code, str(report.rollout.get("reason", "")))

        done = run(whole(), self.fleet.clock)
        self.fleet.clock.advance(1.0)
        return done

    # --- the world

    def device(self, number: int) -> SimDevice:
        """Return a device by its number, from 0."""
        return self.fleet.devices[self.names[number]]

    def away(self, *numbers: int) -> None:
        """Take devices off the network."""
        for number in numbers:
            device = self.device(number)
            device.profile = device.profile.with_(outages=(Outage(self.fleet.clock.elapsed),))

    def back(self, *numbers: int) -> None:
        """Bring devices back."""
        for number in numbers:
            self.device(number).profile = self.device(number).profile.with_(outages=())

    def wrong(self, version: str, *numbers: int) -> None:
        """From now on, a version does not pass on these devices, or on all."""

        def cause(release: str, here: SimDevice) -> list[Finding]:
            return [finding("LF401", "killed by SIGILL")] if self.supply.version_of(release) == version else []

        for number in numbers or range(len(self.names)):
            self.device(number).profile = self.device(number).profile.with_(cause=cause)

    def let_time_pass(self) -> None:
        """Wait until each device that is away is due."""
        self.fleet.clock.advance(7200)

    def leave(self) -> None:
        """Close what is open."""
        self.harness.leave()

    # --- what is to be seen

    def open_rollouts(self) -> list[str]:
        """Return the ids of the rollouts that are not over."""
        return [r.id for r in self.harness.state.rollouts("simulated", 50) if not r.state.over]

    @property
    def runs(self) -> str:
        """The version that each device runs, in order: "1121"; "-" for none."""
        return "".join(self.supply.version_of(self.fleet.devices[n].current.get("cls", "")) or "-" for n in self.names)

    @property
    def latest(self) -> str:
        """The latest rollout's id."""
        return self.harness.rollout().id

    def states(self, rollout: str = "") -> list[str]:
        """Return where each device stands in a rollout, in order; default: the latest."""
        rows = self.harness.rows(rollout)
        return [str(rows[(n, "cls")].state) if (n, "cls") in rows else "" for n in self.names]

    def state(self, rollout: str = "") -> str:
        """Return a rollout's state; default: the latest's."""
        return str(self.harness.rollout(rollout).state)

    def begun(self) -> list[str]:
        """Return the devices of the latest rollout that were begun, in the order of their first session."""
        moves = self.harness.state.history(self.latest)
        return list(dict.fromkeys(m.device for m in moves if m.event == "begin"))
