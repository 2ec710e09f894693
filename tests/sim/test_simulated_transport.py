"""The simulated fleet under production's own conversation, and the virtual time that it lives in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.facts import Facts, fingerprint
from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_controller.devices.agent_client import AgentClient, Request, RequestRejected
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.steps import Mode, run_device
from litefleet_controller.devices.visit import SessionFactory
from litefleet_controller.rollout import DeviceEvent
from litefleet_controller.rollout.policy import Keep, Regression

from tests.sim.sim_device import SimDevice
from tests.sim.sim_fleet import ARCHIVE, SimFleet, make_fleet
from tests.sim.sim_profile import KINDS, Cut, Outage, Profile, flapping, random_cuts
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import EPOCH, Stuck, VirtualClock, run, run_killed

MODE = Mode(keep=Keep(releases=1), regression=Regression())


@pytest.fixture
def supply(tmp_path: Path) -> SimSupply:
    return SimSupply(tmp_path, {"cls": "1"})


def roll_out(
    fleet: SimFleet, supply: SimSupply, models: Sequence[str] = ("cls",), at_once: int = 100, **more: Any
) -> list[DeviceOutcome]:
    """Bring all devices to the supply's versions, in the fleet's virtual time."""
    return run(rolled_out(fleet, supply, models, at_once, **more), fleet.clock)


async def rolled_out(
    fleet: SimFleet, supply: SimSupply, models: Sequence[str] = ("cls",), at_once: int = 100, **more: Any
) -> list[DeviceOutcome]:
    session_factory, gate = SessionFactory(fleet.transport, ARCHIVE), asyncio.Semaphore(at_once)

    async def one(device: Any) -> list[DeviceOutcome]:
        async with gate:
            return await run_device(device, models, more.get("mode", MODE), session_factory, supply, **_recorder(more))

    return [o for found in await asyncio.gather(*(one(d) for d in fleet.inventory)) for o in found]


def _recorder(more: Mapping[str, Any]) -> dict[str, Any]:
    return {"ledger": more["ledger"]} if "ledger" in more else {}


def one_device(profile: Profile) -> SimFleet:
    return make_fleet(1, shape=lambda name, drawn, dice: profile)


def only(fleet: SimFleet) -> SimDevice:
    return next(iter(fleet.devices.values()))


# --- virtual time


def test_ten_thousand_timers_fire_in_their_order_at_their_time() -> None:
    fired: list[tuple[float, int]] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        for number in range(10_000):
            loop.call_later(number * 7919 % 10_000 + 1, lambda n: fired.append((loop.time(), n)), number)
        await asyncio.sleep(10 * 86400)
        return loop.time()

    began = time.monotonic()
    assert run(main()) == 10 * 86400
    assert [at for at, _ in fired] == list(range(1, 10_001))
    assert [n * 7919 % 10_000 + 1 for _, n in fired] == list(range(1, 10_001))
    assert time.monotonic() - began < 10


def test_time_limits_hold_in_virtual_time_and_one_clock_outlives_loops() -> None:
    clock = VirtualClock()

    async def waits(limit: float) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(limit):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(2 * limit), limit)
        return clock.now() - EPOCH

    assert run(waits(3600), clock) == pytest.approx(7200)
    clock.advance(10)
    assert run(waits(5), clock) == pytest.approx(7220)


def test_time_stands_still_while_a_thread_works() -> None:
    go = threading.Event()

    async def main() -> tuple[str, float]:
        asyncio.get_running_loop().call_soon(go.set)
        async with asyncio.timeout(1):
            output = await asyncio.to_thread(lambda: f"{go.wait(10)}")
        return output, asyncio.get_running_loop().time()

    assert run(main()) == ("True", 0.0)


def test_coroutines_that_wait_for_each_other_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.virtual_loop._IDLE_S", 0.05)
    with pytest.raises(Stuck, match="wait for each other"):
        run(asyncio.Event().wait())


def test_a_killed_run_does_nothing_more_not_even_tidy_up() -> None:
    clock, did = VirtualClock(), list[str]()

    async def main() -> str:
        try:
            for number in range(5):
                did.append(str(number))
                await asyncio.sleep(1)
        finally:
            did.append("tidied up")
        return "the end"

    assert not run_killed(main(), clock, at=clock.now() + 2.5).done
    assert (did, clock.elapsed) == (["0", "1", "2"], 2.5)
    ended = run_killed(main(), clock)
    assert (ended.done, ended.result, did[-1]) == (True, "the end", "tidied up")
    did.clear()
    assert [run_killed(main(), clock, turns=n).done for n in (1, ended.turns - 2, ended.turns + 1)] == [
        False,
        False,
        True,
    ]


def test_a_thread_of_a_killed_run_ends_what_it_began_and_begins_nothing() -> None:
    clock, did, one = VirtualClock(), list[str](), ThreadPoolExecutor(1)
    began, go = threading.Event(), threading.Event()

    def work(name: str) -> None:
        began.set()
        go.wait(10)
        did.append(name)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(one, work, name) for name in ("first", "second")]
        jobs[1].add_done_callback(lambda _: did.append("told"))
        began.wait(10)
        await asyncio.gather(*jobs)

    later = threading.Timer(0.1, go.set)
    later.start()
    ended = run_killed(main(), clock, turns=2)
    later.join()
    one.shutdown()
    assert (ended.done, did) == (False, ["first"])


# --- devices


def test_every_kind_tells_facts_that_production_reads() -> None:
    for name, kind in KINDS.items():
        assert Facts.from_dict(kind.told) == kind.facts, name
        assert fingerprint(kind.facts) == kind.fingerprint


def test_a_fleet_is_brought_to_a_release_then_there_is_nothing_to_do(supply: SimSupply) -> None:
    fleet = make_fleet(40)
    first = roll_out(fleet, supply)
    assert {o.verdict for o in first} == {Verdict.VERIFIED}
    assert all(o.activated and not o.unchanged for o in first)
    assert list(fleet.running("cls")) == ["1"]
    second = roll_out(fleet, supply)
    assert all(o.unchanged and o.round_trips == 1 for o in second)
    supply.versions["cls"] = "2"
    assert {o.verdict for o in roll_out(fleet, supply)} == {Verdict.VERIFIED}
    assert list(fleet.running("cls")) == ["2"]
    for device in fleet.devices.values():
        assert len(device.releases) == 2  # current and previous
        assert [release for _, release in device.history] == list(device.releases)
        assert device.switch.slots["cls"].lease is None


def test_two_models_are_switched_one_by_one(tmp_path: Path) -> None:
    fleet, supply = make_fleet(5), SimSupply(tmp_path, {"cls": "1", "det": "7"})
    assert {o.model for o in roll_out(fleet, supply, ("cls", "det"))} == {"cls", "det"}
    assert {tuple(d.versions().items()) for d in fleet.devices.values()} == {(("cls", "1"), ("det", "7"))}


def test_a_board_without_python_says_what_it_is(supply: SimSupply) -> None:
    outcome = roll_out(one_device(Profile(KINDS["bare"])), supply)[0]
    assert [f.code for f in outcome.findings] == ["LF301"]
    assert "armv7l" in outcome.sentence
    assert "musl" in outcome.sentence


def test_causes_and_refusals_reach_the_outcome(tmp_path: Path) -> None:
    def cause(release: str, device: SimDevice) -> Sequence[Finding]:
        return [finding("LF401", "killed by SIGILL")] if device.profile.kind.part == "Cortex-A53" else []

    fleet = make_fleet(60, shape=lambda name, profile, dice: profile.with_(cause=cause))
    supply = SimSupply(tmp_path, {"cls": "1"}, lambda m, f: finding("LF302", "none") if f.arch == "armv7l" else None)
    for outcome, device in zip(roll_out(fleet, supply), fleet.devices.values(), strict=True):
        part, arch = device.profile.kind.part, device.profile.kind.facts.arch
        expected = (
            Verdict.CRASHED if part == "Cortex-A53" else Verdict.UNSUPPORTED if arch == "armv7l" else Verdict.VERIFIED
        )
        assert outcome.verdict is expected
        assert bool(device.current) is (expected is Verdict.VERIFIED)


def test_a_slower_release_is_reported_and_not_switched_on(supply: SimSupply) -> None:
    def pace(release: str, device: SimDevice) -> float:
        return 3.0 if supply.version_of(release) == "2" else 1.0

    fleet = one_device(Profile(pace=pace))
    roll_out(fleet, supply)
    supply.versions["cls"] = "2"
    outcome = roll_out(fleet, supply)[0]
    assert ([f.code for f in outcome.findings], outcome.verdict) == (["LF413"], Verdict.SLOW)
    assert list(fleet.running("cls")) == ["1"]


# --- leases


async def ask(fleet: SimFleet, *requests: Request) -> list[dict[str, Any]]:
    device = fleet.inventory[0]
    command, opening = AgentClient.opening(ARCHIVE, device.root, device.python)
    async with fleet.transport.open(device, command) as channel:
        client = AgentClient(channel)
        hello = await client.start(opening, ARCHIVE, 60)
        answers = await client.ask(requests, 60) if requests else []
        return [hello, *(answer.result for answer in answers)]


@pytest.fixture
def proven(supply: SimSupply) -> tuple[SimFleet, str, str]:
    """A device that runs version 1 and has version 2 proven beside it: the device, both releases."""
    fleet = one_device(Profile())
    roll_out(fleet, supply)
    supply.versions["cls"] = "2"
    roll_out(fleet, supply, mode=Mode(activate=False))
    device = only(fleet)
    return fleet, device.current["cls"], next(r for r in device.verified if supply.version_of(r) == "2")


def test_a_lease_goes_back_by_itself_and_is_reported_afterwards(proven: tuple[SimFleet, str, str]) -> None:
    fleet, old, new = proven
    _, answer = run(ask(fleet, Request("activate", {"release": new, "lease_s": 60})), fleet.clock)
    assert answer == {"changed": True, "keeper": True, "lease_remaining_s": 60.0}
    assert only(fleet).current == {"cls": new}
    fleet.clock.advance(59)
    assert only(fleet).current == {"cls": new}
    fleet.clock.advance(2)
    assert only(fleet).current == {"cls": old}
    [hello] = run(ask(fleet), fleet.clock)
    assert [(u["model"], u["release"]) for u in hello["undone"]] == [("cls", new)]
    with pytest.raises(RequestRejected) as caught:
        run(ask(fleet, Request("confirm", {"release": new})), fleet.clock)
    assert caught.value.found.code in ("LF605", "LF900")


def test_a_confirmed_lease_stays_and_can_be_rolled_back(proven: tuple[SimFleet, str, str]) -> None:
    fleet, old, new = proven
    requests = [Request("activate", {"release": new, "lease_s": 60}), Request("confirm", {"release": new})]
    run(ask(fleet, *requests, Request("confirm", {"release": new})), fleet.clock)
    fleet.clock.advance(3600)
    assert only(fleet).current == {"cls": new}
    back = Request("rollback", {"model": "cls", "to": "previous"})
    assert run(ask(fleet, back), fleet.clock)[1] == {"changed": True, "current": old, "before": new}
    run(ask(fleet, Request("rollback", {"model": "cls", "to": "nothing"})), fleet.clock)
    assert only(fleet).current == {}


@pytest.mark.parametrize("keeper", [True, False])
def test_a_restart_undoes_what_was_not_confirmed(proven: tuple[SimFleet, str, str], keeper: bool) -> None:
    fleet, old, new = proven
    device = only(fleet)
    now = fleet.clock.elapsed
    device.profile = device.profile.with_(keeper=keeper, outages=(Outage(now + 100, now + 200, reboot=True),))
    run(ask(fleet, Request("activate", {"release": new, "lease_s": 600})), fleet.clock)
    fleet.clock.advance(150)
    assert device.current == {"cls": old}
    assert "restarted" in device.switch.undone[-1]["why"]


def test_without_a_keeper_the_next_contact_undoes(proven: tuple[SimFleet, str, str]) -> None:
    fleet, old, new = proven
    device = only(fleet)
    device.profile = device.profile.with_(keeper=False)
    run(ask(fleet, Request("activate", {"release": new, "lease_s": 60})), fleet.clock)
    fleet.clock.advance(100)
    assert device.current == {"cls": new}
    assert run(ask(fleet), fleet.clock)[0]["current"] == {"cls": old}


# --- connections


def test_a_device_that_is_off_is_unreachable_until_it_is_back(supply: SimSupply) -> None:
    fleet = one_device(Profile(outages=(Outage(0, 100),)))
    assert [f.code for f in roll_out(fleet, supply)[0].findings] == ["LF501"]
    fleet.clock.advance(100)
    assert roll_out(fleet, supply)[0].verdict is Verdict.VERIFIED


@pytest.mark.parametrize(("style", "code"), [("reset", "LF505"), ("closed", "LF505"), ("hang", "LF506")])
def test_an_outage_in_the_middle_breaks_the_conversation(supply: SimSupply, style: Any, code: str) -> None:
    fleet = one_device(Profile(outages=(Outage(1.5, 100, style=style),)))
    began = time.monotonic()
    assert [f.code for f in roll_out(fleet, supply)[0].findings] == [code]
    assert time.monotonic() - began < 5
    assert (only(fleet).current, only(fleet).served[-1]) == ({}, "release")


@pytest.mark.parametrize("side", ["in", "out"])
@pytest.mark.parametrize("style", ["reset", "closed", "hang"])
def test_a_cut_at_any_byte_costs_one_more_run_and_never_a_half_state(supply: SimSupply, side: Any, style: Any) -> None:
    supply_of = {"1": supply.release("cls", "1", KINDS["pi4"].facts).id}
    whole = one_device(Profile())
    sent = roll_out(whole, supply)[0].sent_bytes
    codes = set()
    for byte in range(0, sent, 61 if side == "in" else 43):
        cut = Cut(side, byte, style)
        fleet = one_device(Profile(cut={1: cut}.get))
        outcome = roll_out(fleet, supply)[0]
        codes |= {f.code for f in outcome.findings}
        assert only(fleet).current in ({}, {"cls": supply_of["1"]})
        assert roll_out(fleet, supply)[0].verdict is Verdict.VERIFIED
        fleet.clock.advance(3600)
        assert only(fleet).current == {"cls": supply_of["1"]}
    assert codes == {"LF506" if style == "hang" else "LF505"}


def test_a_broken_session_keeps_the_lock_while_it_lingers(supply: SimSupply) -> None:
    fleet = one_device(Profile(linger_s=90, outages=(Outage(1.5, 2),)))
    assert [f.code for f in roll_out(fleet, supply)[0].findings] == ["LF505"]
    fleet.clock.advance(1)
    assert [f.code for f in roll_out(fleet, supply)[0].findings] == ["LF508"]
    fleet.clock.advance(90)
    assert roll_out(fleet, supply)[0].verdict is Verdict.VERIFIED


class Notes:
    """A ledger that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[DeviceEvent] = []

    async def record(
        self, event: DeviceEvent, outcome: DeviceOutcome, hello: Mapping[str, Any], then: DeviceEvent | None = None
    ) -> None:
        self.events += [event, then] if then else [event]


def test_a_controller_killed_at_any_turn_leaves_old_or_new_and_a_second_one_finishes(tmp_path: Path) -> None:
    supply, turns, kills = SimSupply(tmp_path, {"cls": "1"}), 1, 0
    while True:
        fleet, notes = one_device(Profile()), Notes()
        ended = run_killed(rolled_out(fleet, supply, recorder=notes), fleet.clock, turns=turns)
        fleet.transport.hang_up()
        confirmed = DeviceEvent.CONFIRM in notes.events
        assert fleet.running("cls").keys() <= {"", "1"}
        if confirmed:
            assert list(fleet.running("cls")) == ["1"]
        if ended.done:
            break
        kills, turns = kills + 1, turns + 1
        fleet.clock.advance(3600)
        assert list(fleet.running("cls")) in ([""], ["1"])
        assert roll_out(fleet, supply)[0].verdict is Verdict.VERIFIED
        assert list(fleet.running("cls")) == ["1"]
    assert kills > 20


def test_same_seed_same_story(tmp_path: Path) -> None:
    def story(folder: str) -> list[Any]:
        (tmp_path / folder).mkdir()
        fleet = make_fleet(
            60,
            "a",
            shape=lambda name, profile, dice: profile.with_(
                outages=flapping(name, 60, 20, 3600, reboot=0.3), cut=random_cuts(name, 0.3)
            ),
        )
        supply = SimSupply(tmp_path / folder, {"cls": "1"})
        outcomes = [o for _ in range(3) for o in roll_out(fleet, supply, at_once=10)]
        reported = [(o.device, o.verdict, o.sentence, o.sent_bytes) for o in outcomes]
        return [reported, fleet.clock.elapsed, fleet.transport.contacts, [d.history for d in fleet.devices.values()]]

    first = story("one")
    assert first == story("two")
    assert {verdict for _, verdict, _, _ in first[0]} == {Verdict.VERIFIED, Verdict.UNREACHABLE}


def test_who_is_connected_at_once_is_counted(supply: SimSupply) -> None:
    fleet = make_fleet(30, jumps=("gate-1", "gate-2"))
    roll_out(fleet, supply, at_once=7)
    assert fleet.transport.most_open == 7
    assert 1 < fleet.transport.most_behind_jump <= 7


def test_a_conversation_costs_little_time(supply: SimSupply) -> None:
    fleet = make_fleet(500)
    began = time.process_time()
    assert len(roll_out(fleet, supply, at_once=200)) == 500
    assert (time.process_time() - began) / 500 < 0.03  # about 3 ms; the machine may be slow
