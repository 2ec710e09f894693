"""A database of each schema before, brought to this one: what it holds means the same, and its open rollout is carried on."""

from __future__ import annotations

import copy
from contextlib import closing
from pathlib import Path

import pytest
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.resume import continue_with_context
from litefleet_controller.operations.run import Stopwatch
from litefleet_controller.rollout import DeviceState, RolloutState
from litefleet_controller.state import State
from litefleet_controller.state.model import Confirmed
from litefleet_controller.state.schema import HEAD

from tests.controller.support.released_states import DUMPS, POLICY, SCHEMAS, load, story
from tests.controller.support.state_values import sql
from tests.sim.engine_harness import Harness
from tests.sim.sim_fleet import SimFleet
from tests.sim.sim_profile import Profile
from tests.sim.sim_transport import SimTransport
from tests.sim.virtual_loop import run

NAMES = ("dev-00000", "dev-00001", "dev-00002")


def test_each_schema_has_a_database() -> None:
    """Before a migration is added, tests.controller.support.released_states writes the one of the schema until then."""
    assert [path.stem for path in sorted(DUMPS.glob("*.sql"))] == list(SCHEMAS)
    assert SCHEMAS[-1] == HEAD


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """The story told anew: its devices are in the state that the stored ones left them in."""
    here = story(tmp_path_factory.mktemp("story") / "fleet")
    here.leave()
    return here


@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_is_brought_up_to_date_and_its_rollout_goes_on(
    schema: str, where: str, told: Harness, tmp_path: Path
) -> None:
    load(schema, where, told.folder, tmp_path / "scripts")
    with closing(State.open(where, told.fleet.clock)) as state:
        check_meaning(state, schema)
    identities = sql(where, "SELECT state, number FROM identities")
    fleet = copied(told.fleet)
    fleet.clock.advance(3600)
    well(fleet, *identities[0] if schema >= "0003" else ())

    later = Harness(fleet, told.supply, POLICY, told.folder, opened=lambda path, clock: State.open(where, clock))
    report = run(continue_with_context(later.context, "", WaitPolicy.ALL, "retry", Stopwatch()), fleet.clock)
    assert (report.exit_code, later.rollout().state) == (0, RolloutState.DONE)
    assert {row.state for row in later.rows().values()} == {DeviceState.CONFIRMED}
    assert [fleet.devices[name].versions() for name in NAMES] == [{"cls": "2"}] * 3
    assert later.state.check_audit() == ""
    assert set(later.state.last_rows("simulated")) == {(name, "cls") for name in NAMES}
    later.leave()


def check_meaning(state: State, schema: str) -> None:
    """Compare with what the operator saw before: `status`, `rollouts`, `history`, `audit`."""
    stopped, first = state.rollouts("simulated")
    assert (first.state, first.by, first.models) == (RolloutState.DONE, "ann@desk", ("cls",))
    assert (stopped.state, stopped.policy, stopped.wave) == (RolloutState.PAUSED, POLICY, 0)
    assert "failed" in stopped.reason
    rows = {row.device: row for row in state.rows(stopped.id)}
    assert [str(rows[name].state) for name in NAMES] == ["confirmed", "failed", "pending"]
    assert (rows[NAMES[1]].codes, rows[NAMES[0]].part) == (("LF401",), "Cortex-A72")
    (failed,) = (outcome for outcome in state.outcomes(stopped.id) if outcome.device == NAMES[1])
    assert [(found.code, found.observed) for found in failed.findings] == [("LF401", "killed by SIGILL")]
    assert failed.facts["cpu"]["parts"]

    moves = [(move.device, move.event) for move in state.history(stopped.id)]
    assert moves[-1] == (NAMES[1], "fail")
    assert moves[0] == (NAMES[0], "begin")
    confirmed: dict[tuple[str, str], Confirmed] = dict(state.confirmed())
    assert [confirmed[(name, "cls")].rollout for name in NAMES] == [stopped.id, first.id, first.id]
    assert confirmed[(NAMES[0], "cls")].measurements["latency_ms"]["p50"] == 20.0
    releases = {release.id: release for release in state.releases_of(stopped.id)}
    assert set(releases) == {row.release for row in rows.values()}
    assert all(path.is_file() for release in releases.values() for path in release.blobs.values())
    versions = state.versions()
    assert len({versions[release] for release in releases}) == 1  # two kinds of device, one version
    assert {versions[confirmed[(name, "cls")].release] for name in NAMES[1:]}.isdisjoint(versions[r] for r in releases)

    assert state.audit()[0].action == "rollout created"
    assert {entry.who for entry in state.audit()} == {"ann@desk"}
    assert state.check_audit() == ""
    assert set(state.known()) == set(NAMES)
    assert state.known()[NAMES[2]].seen_at < stopped.updated_at + 86_400
    kept = [] if schema == "0001" else [1, 2]  # the first schema has no place for what devices report
    assert sorted(entry.number for entry in state.history_entries()) == kept
    assert {name: row.rollout for (name, _), row in state.last_rows("simulated").items()} == dict.fromkeys(
        NAMES, stopped.id
    )
    notices = state.outbox("simulated").notices()
    assert [notice.event for notice in notices] == ([] if schema < "0006" else ["finished", "stopped"])


def copied(fleet: SimFleet) -> SimFleet:
    """Return devices that have and run the same, so that the story is told once."""
    clock = copy.copy(fleet.clock)
    known: dict[int, object] = {id(fleet.clock): clock}
    known |= {id(device._holder): None for device in fleet.devices.values()}  # its session is over
    devices = copy.deepcopy(fleet.devices, known)
    return SimFleet(clock, fleet.inventory, devices, SimTransport(devices))


def well(fleet: SimFleet, state: str = "", number: int = 0) -> None:
    """Let every device pass; each was told of the stored state, or, by a controller without identities, of none."""
    told = {"fleet": "simulated", "state": state, "number": number} if state else {}
    for device in fleet.devices.values():
        device.profile = device.profile.with_(cause=Profile().cause)
        device.told = dict(told)
