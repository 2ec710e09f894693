"""A simulated world for stories in which the controller dies: acts of an operator, and what must hold at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from litefleet_agent.findings import Finding, finding
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.context import RolloutContext
from litefleet_controller.operations.reconcile import reconcile_with_context
from litefleet_controller.operations.resume import continue_with_context, end_locally
from litefleet_controller.operations.rollback import Target, roll_back_with_context
from litefleet_controller.operations.rollout import StillOpen, start_with_context
from litefleet_controller.operations.run import Stopwatch
from litefleet_controller.rollout import DeviceState, Policy, Rollout, RolloutEvent, RolloutState
from litefleet_controller.rollout.policy import Gates

from tests.sim.crash_points import Death, Killed, Moment, MortalState, MortalWriter
from tests.sim.engine_harness import Harness, copy_state
from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import make_fleet
from tests.sim.sim_profile import KINDS, Outage, Profile
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import run_killed

__all__ = ["OPEN", "Command", "World", "command", "reconcile", "roll_back", "start"]

Command = Callable[[RolloutContext], Awaitable[object]]
OPEN = Gates.none()
_LATE_S = 700.0  # longer than a lease


def start(wait_policy: WaitPolicy = WaitPolicy.WAVES, supersede: bool = False) -> Command:
    """`litefleet rollout`."""
    return lambda context: start_with_context(context, wait_policy, supersede, Stopwatch())


def command(name: str, wait_policy: WaitPolicy = WaitPolicy.WAVES) -> Command:
    """`litefleet resume`, `approve` or `retry` of the latest rollout."""
    return lambda context: continue_with_context(context, "", wait_policy, name, Stopwatch())


def roll_back(to: str = "previous") -> Command:
    """`litefleet rollback`."""
    return lambda context: roll_back_with_context(context, Target(to), Stopwatch())


def reconcile(context: RolloutContext) -> Awaitable[object]:
    """`litefleet reconcile --repair`."""
    return reconcile_with_context(context, True, False, Stopwatch())


class World:
    """Devices a, b, c... that run version 1 of one model, and a controller that may die while it brings version 2."""

    def __init__(self, folder: Path, template: Path, planned: Moment | None = None, late: bool = False) -> None:
        self.folder, self._template, self._planned, self._late = folder, template, planned, late
        folder.mkdir(parents=True)
        self.supply = SimSupply(folder, {"cls": "1"})
        self.reswitched = 0  # how often a release may be switched on again on one device, but for deaths
        self.apart: set[str] = set()  # devices that `expect` leaves out

    def begin(self, devices: int = 3, old: int | None = None, **policy: object) -> None:
        """Make the fleet: 3 devices of one kind; the first `old` (default: all) run version 1."""
        self.fleet = make_fleet(
            devices, shape=lambda name, drawn, dice: Profile(KINDS["pi4"], link_s=0.02, verify_s=2.0)
        )
        for device in list(self.fleet.devices.values())[: devices if old is None else old]:
            self.install(device, "1")
        self.supply.versions["cls"] = "2"
        self.death = Death(self.fleet, self._planned)
        copy_state(self._template, self.folder)
        plan = Policy.model_validate({"waves": (1, "100%"), "gates": OPEN, **policy})
        opened, write = MortalState.of(self.death), MortalWriter(self.death)
        self.harness = Harness(self.fleet, self.supply, plan, self.folder, opened=opened, write=write)

    def install(self, device: SimDevice, version: str) -> None:
        """Put a version on a device as if it had been proven and switched on there long ago."""
        made = self.supply.release("cls", version, device.profile.kind.facts)
        device.blobs.update({sha: 100 for sha in made.blobs})
        device.runtimes.add(made.runtime_key)
        device.releases[made.id] = dict(made.manifest)
        device.verified[made.id] = {"fingerprint": device.profile.kind.fingerprint, "at": 1, "measurements": {}}
        device.switch.activate("cls", made.id, 0, 0)
        device.settle()

    # --- what happens

    @property
    def devices(self) -> list[SimDevice]:
        """All devices, in order."""
        return list(self.fleet.devices.values())

    def act(self, do: Command, *, dies: Moment | None = None, once: bool = False, then: Command | None = None) -> None:
        """Let an operator give a command; if the controller dies of the planned death, what an operator does then.

        `once`: not again, when `litefleet status` says that it was done; `then`: given instead of `do` once a rollout was made.
        """
        before = self._latest()
        if self._lives(do, dies):
            self._next(1.0)
        elif self.death.struck and self._planned is not None:
            self._planned = None
            self._next(_LATE_S if self._late else 1.0)
            made = (latest := self._latest()) is not None and (before is None or latest.id != before.id)
            if not (once and made and latest is not None and latest.state.over):
                self._recover(then or do if made else do, made, once)
        else:
            self._next(1.0)

    def end(self, event: RolloutEvent) -> None:
        """`litefleet pause` or `abort` while nobody is at work."""
        for _ in range(2):
            rollout = self.harness.rollout()
            try:
                lock, now = self.harness.context.lock, self.fleet.clock.now()
                end_locally(self.harness.state, lock, rollout, event, now, "operator@host")
            except Killed:
                self._planned = None
                self._next(_LATE_S if self._late else 1.0)
            else:
                return self._next(1.0)
            if self.harness.rollout().state is not rollout.state:
                return None
        return None

    def ask(self, request: str) -> None:
        """Another process asks for a pause or an end."""
        self.harness.state.ask(self.harness.rollout().id, request, "somebody")

    def when(self, state: str, event: str, then: Callable[[SimDevice], None]) -> None:
        """Do something right after the first commit of a move."""
        self.death.hooks[(state, event)] = lambda name: then(self.fleet.devices[name] if name else self.devices[0])

    def cut_off(self, device: SimDevice, seconds: float, for_s: float = 100.0) -> None:
        """Take a device off the network from `seconds` from now."""
        at = self.fleet.clock.elapsed + seconds
        self.fleet.transport.cut(device.name, seconds)
        device.profile = device.profile.with_(outages=(Outage(at, at + for_s),))

    def fail(self, device: SimDevice) -> None:
        """From now on, version 2 does not pass on a device."""

        def cause(release: str, here: SimDevice) -> list[Finding]:
            return [finding("LF401", "killed by SIGILL")] if self.supply.version_of(release) == "2" else []

        device.profile = device.profile.with_(cause=cause)

    def mend(self, device: SimDevice) -> None:
        """From now on everything passes on a device."""
        device.profile = device.profile.with_(cause=lambda release, here: ())

    def _lives(self, do: Command, dies: Moment | None) -> bool:
        self.death.wanted = dies
        context = self.harness.context

        async def whole() -> None:
            try:
                await do(context)
            except (UsageError, StillOpen) as error:
                self.said = str(error)

        self.said = ""
        done = run_killed(whole(), self.fleet.clock).done
        self.death.wanted = None
        return done and not self.death.dead

    def _next(self, seconds: float) -> None:
        """Let time pass, and another controller begin if this one is dead."""
        self.fleet.clock.advance(seconds)
        if self.death.dead:
            self.death.dead = False
            self.harness.reopen()

    def _recover(self, do: Command, made: bool, once: bool) -> None:
        """Give the command again; after a long time, resume first what it has made."""
        resume = command("resume")
        resumed = self._late and made and self._begun()
        steps = [resume] * resumed + [do] * (not resumed or not once)
        for step in steps:
            assert self._lives(step, None)
            self._next(1.0)
        if self.said and self._begun():
            assert self._lives(resume, None)
            self._next(1.0)

    def _latest(self) -> Rollout | None:
        found = self.harness.state.rollouts("simulated", 1)
        return found[0] if found else None

    def _begun(self) -> bool:
        latest = self._latest()
        return latest is not None and latest.state in (RolloutState.RUNNING, RolloutState.PLANNED)

    # --- what must hold

    def check(self, runs: str, last: RolloutState = RolloutState.DONE, deaths: int = 0) -> None:
        """Hold the end against what must be: `runs` has the version of each device in order, "?" for either."""
        self.fleet.clock.advance(3600)  # no lease is on any more
        assert self.death.faults == []
        for device, version in zip(self.devices, runs, strict=True):
            self._check_device(device, version, deaths)
        rollouts = self.harness.state.rollouts("simulated", 20)
        assert rollouts[0].state is last
        for rollout in rollouts:
            assert rollout.state.over or rollout.state is last, rollout
            self._check_rows(rollout.id, rollout.state.over)
        assert self.harness.state.check_audit() == ""

    def _check_device(self, device: SimDevice, version: str, deaths: int) -> None:
        versions = [self.supply.version_of(release) for _, release in device.history]
        assert version in ("?", versions[-1]), (device.name, versions)
        assert "" not in versions or versions[0] == "2"  # a lease that led from nothing leads back to it
        most = 1 + self.reswitched + (deaths if self._late else 0)
        assert versions.count("2") <= most, (device.name, versions)
        stored = self.harness.state.confirmed().get((device.name, "cls"))
        if stored is not None and device.name not in self.apart:
            assert stored.release == device.current["cls"], device.name

    def _check_rows(self, rollout_id: str, over: bool) -> None:
        rows = self.harness.state.rows(rollout_id)
        reported = {(o.device, o.model) for o in self.harness.state.outcomes(rollout_id)}
        for row in rows:
            assert not row.state.in_flight, row
            assert row.state.settled or not over, row
            if row.state in (DeviceState.CONFIRMED, DeviceState.UNCHANGED, DeviceState.FAILED):
                assert (row.device, row.model) in reported, row
