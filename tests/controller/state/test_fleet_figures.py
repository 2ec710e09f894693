"""What `/metrics` of the server counts, over each database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.rollout import DeviceEvent, DeviceRow, RolloutEvent, RolloutState
from litefleet_controller.serve.metrics.bounds import MOST_MODELS, MOST_VERSIONS, OTHER
from litefleet_controller.serve.metrics.fleet import FleetFigures, fleet_figures
from litefleet_controller.serve.metrics.services import Services
from litefleet_controller.state import Confirmed, KnownDevice, ServiceStatus, State
from litefleet_controller.state.model import RowChange

from tests.controller.support.state_values import BORN, ELSEWHERE, Clock, change, release, rollout, staged

MS = (4.5, 30.0, 700.0)  # p50 of the three devices


@pytest.fixture
def full(state: State) -> Iterator[tuple[State, str]]:
    """Three devices, verified with version v1 of `cls`; two are confirmed, one failed, and the rollout is paused by a gate."""
    lock = state.acquire("lab", ELSEWHERE)
    state.name_versions(lock, [replace(release("r1"), version="v1")])
    rows = [DeviceRow(f"d{n}", "cls", min(n, 1), n, release="r1") for n in range(3)]
    made = state.create(lock, rollout(), rows, [replace(release("r1"), version="v1")], {})
    moves = []
    for row, ms in zip(rows, MS, strict=True):
        measured = {"latency_ms": {"p50": ms, "p99": float("nan")}, "accuracy": {"metric": "top1", "value": 0.91}}
        verdict = Verdict.WRONG if row.device == "d2" else Verdict.VERIFIED
        found = (finding("LF602", "outputs differ"),) if row.device == "d2" else ()
        outcome = DeviceOutcome(row.device, "cls", verdict, found, measurements=measured, release="r1")
        event = DeviceEvent.FAIL if row.device == "d2" else DeviceEvent.SAME
        state.move(lock, made.id, [change(row, DeviceEvent.BEGIN)])
        moves.append(replace(change(staged(row), event, verdict=verdict), outcome=outcome))
    state.move(lock, made.id, moves)
    running = replace(made, state=RolloutState.RUNNING)
    state.advance(lock, made, RolloutEvent.START, running)
    paused = replace(running, state=RolloutState.PAUSED, reason="wave: 1 of 2 devices in wave 2 failed: d2", wave=1)
    state.advance(lock, running, RolloutEvent.PAUSE, paused)
    for n, seen_at in enumerate((BORN, BORN - 100, BORN - 1e6)):
        state.record_facts([KnownDevice(f"d{n}", {}, "now" if n else "then", seen_at)])
        state.confirm([Confirmed(f"d{n}", "cls", "r1", "ff", "", "then", made.id, BORN, {})])
    yield state, made.id
    state.release(lock)


def test_a_fleet_in_counts(full: tuple[State, str]) -> None:
    state, ident = full
    found: FleetFigures = fleet_figures(state, "lab", BORN + 10)
    assert found.devices == 3
    assert found.conditions == {("cls", "done"): 2, ("cls", "failed"): 1}
    assert found.verdicts == {("cls", "v1", "verified"): 2, ("cls", "v1", "wrong"): 1}
    assert found.confirmed == {("cls", "v1"): 3}
    assert found.findings == {("LF602", "error"): 1}
    assert found.changed == {"cls": 2}
    latency = found.spreads["latency_p50_seconds", "cls"].summary()
    assert [(bound, below) for bound, below in latency.buckets if bound in (0.005, 0.05, 1.0)] == [
        (0.005, 1),
        (0.05, 2),
        (1.0, 3),
    ]
    assert (latency.total, latency.sum_s) == (3, 0.7345)
    assert found.spreads["accuracy_score", "cls"].summary().buckets[5:7] == ((0.9, 0), (0.925, 3))
    assert ("latency_p99_seconds", "cls") not in found.spreads  # the device's value is no number
    assert found.ages.summary().total == 3
    assert dict(found.ages.summary().buckets)[300.0] == 2
    assert found.rollout is not None
    assert (found.rollout.rollout.id, found.rollout.devices, found.rollout.failed, found.rollout.at_work) == (
        ident,
        3,
        1,
        True,
    )
    assert fleet_figures(state, "another", BORN).conditions == {}


def test_names_are_bounded(state: State, clock: Clock) -> None:
    lock = state.acquire("lab", ELSEWHERE)
    models = [f"m{n:03}" for n in range(MOST_MODELS + 20)]
    rows = [DeviceRow(f"d{n}", model, 0, 0, release=f"{n:064}") for n, model in enumerate(models)]
    rows += [DeviceRow(f"e{n}", "m000", 0, 0, release=f"{n:012}x") for n in range(MOST_VERSIONS + 10)]
    made = state.create(lock, rollout(), rows, [], {})
    moves = [RowChange(row, DeviceEvent.BEGIN, staged(row)) for row in rows]
    state.move(lock, made.id, moves)
    state.confirm([Confirmed(r.device, r.model, r.release, "", "", "", made.id, BORN, {}) for r in rows])
    found = fleet_figures(state, "lab", clock.now)
    assert len({model for model, _ in found.conditions}) == MOST_MODELS + 1
    assert found.conditions[OTHER, "working"] == 20
    assert len([version for model, version in found.confirmed if model == "m000"]) == MOST_VERSIONS + 1
    assert sum(found.confirmed.values()) == len(rows)
    state.release(lock)


def test_services_are_read_once_and_again_when_they_are_newer(state: State) -> None:
    served = {"release": "a", "wanted": "a", "worker_deaths": 1, "latency": {"p99_ms": 12.5}}
    status = {"health": "degraded", "drift": 2, "models": {"cls": served, "det": {"release": "b", "wanted": "c"}}}
    for name, what in (
        ("d1", status),
        ("d2", {"health": [], "models": [], "drift": "x"}),
        ("d3", {"at": float("nan")}),
    ):
        state.record_history(ServiceStatus(name, "aa", 1, what, BORN), [])
    services = Services()
    found = services.figures(state)
    assert found.health == {"degraded": 1, "unknown": 2}
    assert (found.devices, found.drifted) == (3, 1)
    assert (found.models["cls"], found.as_wanted["cls"], found.as_wanted["det"], found.died["cls"]) == (1, 1, 0, 1)
    assert dict(found.latency["cls"].summary().buckets)[0.025] == 1
    state.record_history(ServiceStatus("d1", "aa", 2, {"health": "ok"}, BORN + 1), [])
    assert services.figures(state).health == {"ok": 1, "unknown": 2}
