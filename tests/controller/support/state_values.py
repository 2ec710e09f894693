"""Values for the tests of the state."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.release import Release
from litefleet_controller.rollout import DeviceEvent, DeviceRow, DeviceState, Policy, Rollout, RolloutState, Wave
from litefleet_controller.rollout.states import move_device
from litefleet_controller.state import Confirmed, FleetLock, Owner, RowChange, State

ELSEWHERE = Owner("ops", "other-host", 4711, "another-boot", "1")  # whether it lives can't be seen from here
BORN = 1_795_000_000.0  # 2026-11-18 11:06:40 UTC


class Clock:
    """A clock that goes on only when told."""

    def __init__(self) -> None:
        self.now = BORN

    def __call__(self) -> float:
        return self.now


def rollout(fleet: str = "lab", **other: Any) -> Rollout:
    """Return a rollout that is planned."""
    return Rollout(
        id="",
        fleet=fleet,
        kind="rollout",
        state=RolloutState.PLANNED,
        policy=Policy(waves=(1, "50%", "100%"), soak=60.0, windows=("Mon-Fri 22:00-05:00",)),
        waves=(Wave(1, "1"), Wave(2, "100%")),
        created_at=BORN,
        by="ann@desk",
        models=("cls", "det"),
        origin={"config": "ab", "depth": {"x": [1, 2]}},
        **other,
    )


def rows(count: int = 3, release: str = "") -> list[DeviceRow]:
    """Return pending rows."""
    return [
        DeviceRow(f"d{n}", "cls", min(n, 1), n, part="Cortex-A72", libc="glibc 2.36", release=release)
        for n in range(count)
    ]


def release(name: str = "r1", **other: Any) -> Release:
    """Return a release with all its fields, or with others."""
    full = Release(
        id=name,
        model="cls",
        kind="x86_64 cp311 glibc 2.36",
        manifest={"model": {"nb": "ff"}, "limits": [1, 2.5]},
        artifact="ff",
        blobs={"ff": Path("/store/ff"), "gg": Path("/store/gg")},
        runtime_key="key",
        runtime_blob=("cc", Path("/store/cc")),
        runtime_size=7,
        recipe="ee",
        signed={"seal": {"n": 1}, "signature": "s"},
    )
    return replace(full, **other)


def change(row: DeviceRow, event: DeviceEvent, **fields: Any) -> RowChange:
    """Return a legal move of a row."""
    after = replace(row, state=move_device(row.state, event), **fields)
    return RowChange(row, event, after)


def failed(row: DeviceRow, seen: str = "outputs differ") -> RowChange:
    """Return the failure of a row that is staging, with its outcome."""
    outcome = DeviceOutcome(
        row.device,
        row.model,
        Verdict.WRONG,
        findings=(finding("LF604", "a note"), finding("LF602", seen)),
        measurements={
            "latency_ms": {"p50": 4.5, "p99": float("nan")},
            "outputs": [{"name": "o", "cosine": 0.9}],
            "load_ms": 3,
        },
        release="r1",
    )
    moved = change(row, DeviceEvent.FAIL, verdict=Verdict.WRONG, codes=("LF602",), sentence=seen, regressed=True)
    return replace(moved, outcome=outcome)


def confirmed(device: str = "d0", name: str = "r1", at: float = BORN, rollout_id: str = "r-x") -> Confirmed:
    """Return what a device runs."""
    return Confirmed(device, "cls", name, "ff", "key", "print", rollout_id, at, {"latency_ms": {"p50": 4.0}})


def started(
    state: State, count: int = 3, fleet: str = "lab", owner: Owner = ELSEWHERE
) -> tuple[FleetLock, Rollout, list[DeviceRow]]:
    """Hold a fleet and store a planned rollout."""
    lock = state.acquire(fleet, owner)
    made = state.create(lock, rollout(fleet), rows(count), [], {})
    return lock, made, rows(count)


def staged(row: DeviceRow) -> DeviceRow:
    """Return a row as it is when its conversation has begun."""
    return replace(row, state=DeviceState.STAGING)


def sql(where: str, *statements: str) -> list[Any]:
    """Execute statements behind the state's back and return the last one's rows."""
    if "://" in where:
        with psycopg.connect(where, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []
    plain = sqlite3.connect(os.fspath(where), isolation_level=None)
    try:
        for statement in statements:
            found = plain.execute(statement).fetchall()
        return found
    finally:
        plain.close()
