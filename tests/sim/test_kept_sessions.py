"""Sessions that stay open from the look at a device to its delivery, with production's own rollout on a simulated fleet."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from litefleet_controller.devices.agent_client import Request
from litefleet_controller.devices.kept_sessions import KeptSessions, most_kept
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.devices.visit import DeviceSession, SessionFactory, open_session
from litefleet_controller.operations.rollout import start_with_context
from litefleet_controller.operations.run import Stopwatch
from litefleet_controller.rollout import Policy, RolloutState

from tests.sim.engine_harness import Harness
from tests.sim.sim_fleet import ARCHIVE, SimFleet, make_fleet
from tests.sim.sim_profile import Outage, Profile
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import run


def fleet_of(size: int, *outages: Outage, jump: str = "") -> SimFleet:
    profile = Profile(link_s=0.01, outages=outages)
    return make_fleet(size, shape=lambda name, drawn, dice: profile, jumps=(jump,))


def rolled_out(
    fleet: SimFleet, folder: Path, policy: Mapping[str, object], wait: WaitPolicy = WaitPolicy.ALL
) -> tuple[Harness, RunReport]:
    """Carry out `litefleet rollout`, which keeps sessions open."""
    harness = Harness(fleet, SimSupply(folder, {"cls": "1"}), Policy.model_validate(policy), folder)

    async def command() -> RunReport:
        async with harness.context.keeping_sessions():
            return await start_with_context(harness.context, wait, False, Stopwatch())

    return harness, run(command(), fleet.clock)


def connections(fleet: SimFleet) -> Counter[str]:
    return Counter(contact.device for contact in fleet.transport.contacts)


async def look(factory: SessionFactory, fleet: SimFleet, *requests: Request) -> None:
    """Look at every device, and keep what may be kept."""

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        for request in requests:
            await session.ask(request)
        done.append(session.outcome("", ()))

    for device in fleet.inventory:
        (outcome,) = await open_session(factory, device, [""], work, keep=True)
        assert not outcome.findings


async def visit(factory: SessionFactory, fleet: SimFleet) -> list[DeviceOutcome]:
    """Work on every device as a delivery does."""

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        await session.ask(Request("check", {"deep": False, "repair": False}))
        done.append(session.outcome("cls", ()))

    return [o for device in fleet.inventory for o in await open_session(factory, device, ["cls"], work)]


def factory_of(fleet: SimFleet, most: int = 10, per_jump: int = 10, idle_s: float = 60.0) -> SessionFactory:
    return SessionFactory(fleet.transport, ARCHIVE, kept=KeptSessions(most, per_jump, idle_s))


# --- a rollout


def test_a_changed_device_is_connected_to_once(tmp_path: Path) -> None:
    fleet = fleet_of(20)
    harness, report = rolled_out(fleet, tmp_path, {})
    assert harness.rollout().state is RolloutState.DONE
    assert report.exit_code == 0
    assert set(connections(fleet).values()) == {1}
    # The agent, hello, hello again, push and prove, activate, confirm: the connection's start counts with the delivery.
    assert {outcome.round_trips for outcome in report.outcomes} == {6}
    assert not fleet.transport.open_now
    before = len(fleet.transport.contacts)
    _, again = rolled_out(fleet, tmp_path, {})
    assert all(outcome.unchanged and outcome.round_trips == 1 for outcome in again.outcomes)
    assert len(fleet.transport.contacts) == before + 20
    assert not fleet.transport.open_now


def test_a_pause_an_approval_and_a_soak_close_what_is_open(tmp_path: Path) -> None:
    fleet = fleet_of(6)
    rolled_out(fleet, tmp_path / "approve", {"waves": [2, "100%"], "approve": True}, WaitPolicy.WAVES)
    assert sorted(connections(fleet).values()) == [1] * 6
    assert not fleet.transport.open_now
    soaking = fleet_of(6)
    harness, _ = rolled_out(soaking, tmp_path / "soak", {"waves": [2, "100%"], "soak": "20s"})
    assert harness.rollout().state is RolloutState.DONE
    # Two of the first wave, probed and delivered at once, and checked again; the others are connected to anew after 20 s.
    assert sum(connections(soaking).values()) > 6 + 4
    assert not soaking.transport.open_now


def test_a_device_that_closes_meanwhile_is_connected_to_again(tmp_path: Path) -> None:
    # Every kept connection breaks while the first device of the kind is tried, which takes two seconds and more.
    fleet = fleet_of(8, Outage(1.5, 1.6, False, "closed"))
    harness, report = rolled_out(fleet, tmp_path, {"retry": {"first": "1s"}})
    assert harness.rollout().state is RolloutState.DONE
    assert report.exit_code == 0
    # The one that is tried first loses a connection in use, and is tried again.
    assert sorted(connections(fleet).values()) == [2] * 7 + [3]
    assert not fleet.transport.open_now


# --- what is kept


@pytest.mark.parametrize("style", ["reset", "closed", "hang"])
def test_a_broken_connection_is_noticed_before_anything_is_asked_of_it(style: str) -> None:
    fleet = fleet_of(1, Outage(5, 6, False, style))  # type: ignore[arg-type]

    async def main() -> list[DeviceOutcome]:
        factory = factory_of(fleet)
        await look(factory, fleet)
        await asyncio.sleep(10)
        return await visit(factory, fleet)

    (outcome,) = run(main(), fleet.clock)
    assert not outcome.findings
    assert connections(fleet) == {"dev-00000": 2}
    assert outcome.round_trips == 2  # hello and one request, as over any new connection
    assert not fleet.transport.open_now


def test_bounds_in_number_behind_a_jump_host_and_in_time() -> None:
    def open_after(fleet: SimFleet, seconds: float, **bounds: float) -> tuple[int, int]:
        async def main() -> tuple[int, int]:
            factory = factory_of(fleet, **bounds)  # type: ignore[arg-type]
            await look(factory, fleet)
            await asyncio.sleep(seconds)
            before = fleet.transport.open_now
            assert factory.kept is not None
            await factory.kept.close()
            return before, fleet.transport.open_now

        return run(main(), fleet.clock)

    assert open_after(fleet_of(5), 1) == (5, 0)
    assert open_after(fleet_of(5), 1, most=3) == (3, 0)
    assert open_after(fleet_of(5, jump="gate"), 1, per_jump=2) == (2, 0)
    assert open_after(fleet_of(5), 61) == (0, 0)


def test_sessions_are_kept_as_far_as_this_process_may_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [1024]
    monkeypatch.setattr("resource.getrlimit", lambda which: (limit[0], limit[0]))
    assert (most_kept(8), most_kept(32), most_kept(500)) == (80, 320, 320)
    limit[0] = 90
    assert most_kept(8) == 30
    limit[0] = resource.RLIM_INFINITY
    assert most_kept(32) == 320


def test_an_idle_session_is_replaced_and_one_that_holds_the_store_is_not_kept() -> None:
    fleet = fleet_of(1)

    async def main() -> None:
        factory = factory_of(fleet, idle_s=5)
        await look(factory, fleet)
        await asyncio.sleep(6)
        assert not fleet.transport.open_now
        assert not (await visit(factory, fleet))[0].findings
        assert connections(fleet) == {"dev-00000": 2}
        await look(factory, fleet, Request("check", {"deep": False, "repair": False}))
        assert not fleet.transport.open_now

    run(main(), fleet.clock)


def test_ctrl_c_during_a_look_leaves_nothing_open() -> None:
    fleet = fleet_of(3)

    async def main() -> None:
        factory = factory_of(fleet)
        looking = asyncio.create_task(look(factory, fleet))
        await asyncio.sleep(0.9)  # the first is kept, the second under way
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        assert fleet.transport.open_now == 1
        assert factory.kept is not None
        await factory.kept.close()

    run(main(), fleet.clock)
    assert not fleet.transport.open_now
