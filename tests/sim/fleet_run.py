"""A controller of a simulated fleet, command by command in virtual time, and what is to be seen of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.context import RolloutContext
from litefleet_controller.operations.resume import _approved, _resumed, _retried
from litefleet_controller.rollout import DeviceState, Policy, Rollout

from tests.sim.engine_harness import Harness
from tests.sim.sim_fleet import SimFleet
from tests.sim.sim_release_builder import SimSupply
from tests.sim.sim_transport import Contact
from tests.sim.virtual_loop import run

__all__ = ["FleetRun"]

Step = Callable[[RolloutContext, Rollout], Awaitable[Rollout]]


class FleetRun(Harness):
    """Every call is one command of an operator, run to its end; one model, `cls`, at version 1 unless told."""

    def __init__(self, fleet: SimFleet, folder: Path, **policy: Any) -> None:
        files = folder / "files"
        files.mkdir(parents=True)
        super().__init__(fleet, SimSupply(files, {"cls": "1"}), Policy(**policy), folder)
        self.looked = 0  # contacts that had been made when the last command began to carry out

    # --- an operator's commands

    def roll_out(self, wait_policy: WaitPolicy = WaitPolicy.WAVES, version: str = "") -> Rollout:
        """Plan, write down and carry out."""
        if version:
            self.supply.versions["cls"] = version
        return run(self.rolled_out(wait_policy), self.fleet.clock)

    def resume(self, wait_policy: WaitPolicy = WaitPolicy.WAVES) -> Rollout:
        """`litefleet resume`."""
        return run(self._carried_on(_resumed, wait_policy), self.fleet.clock)

    def approve(self, wait_policy: WaitPolicy = WaitPolicy.WAVES) -> Rollout:
        """`litefleet approve`."""
        return run(self._carried_on(_approved, wait_policy), self.fleet.clock)

    def retry(self, wait_policy: WaitPolicy = WaitPolicy.WAVES) -> Rollout:
        """`litefleet retry --failed`."""
        return run(self._carried_on(_retried, wait_policy), self.fleet.clock)

    async def rolled_out(self, wait_policy: WaitPolicy = WaitPolicy.WAVES) -> Rollout:
        """Do what `roll_out` does, in a loop of the caller's."""
        rollout = await self.start()
        self.looked = len(self.fleet.transport.contacts)
        return await self.go_on(rollout, wait_policy)

    async def _carried_on(self, step: Step, wait_policy: WaitPolicy) -> Rollout:
        self.looked = len(self.fleet.transport.contacts)
        return await self.go_on(await step(self.context, self.rollout()), wait_policy)

    # --- what is to be seen

    def names(self, *states: DeviceState) -> set[str]:
        """Return the devices whose rows are stored in one of these states."""
        return {row.device for row in self.rows().values() if row.state in states}

    def wave(self, number: int) -> set[str]:
        """Return the devices of one wave, from 0."""
        return {row.device for row in self.rows().values() if row.wave == number}

    def begun(self) -> set[str]:
        """Return the devices that were tried."""
        return {row.device for row in self.rows().values() if row.attempts}

    def counts(self) -> dict[str, int]:
        """Return how many rows are in each state."""
        found: dict[str, int] = {}
        for row in self.rows().values():
            found[str(row.state)] = found.get(str(row.state), 0) + 1
        return found

    def contacts(self) -> list[Contact]:
        """Return the contacts of the last command, without those of the look before a plan."""
        return self.fleet.transport.contacts[self.looked :]

    def touched(self) -> set[str]:
        """Return the devices of those contacts."""
        return {contact.device for contact in self.contacts()}

    def agrees(self) -> None:
        """Hold the state against the devices: what is confirmed runs, nothing is in flight, every outcome is stored."""
        confirmed, rows = self.state.confirmed(), self.rows()
        for key, row in rows.items():
            assert not row.state.in_flight, row
            if row.state.well:
                device = self.fleet.devices[row.device]
                assert device.current.get(row.model) == row.release == confirmed[key].release, (row, device.history)
                assert device.switch.slot(row.model).lease is None, row
        reported = {(o.device, o.model) for o in self.state.outcomes(self.rollout().id)}
        assert reported >= {key for key, row in rows.items() if row.attempts}
        assert self.state.check_audit() == ""
