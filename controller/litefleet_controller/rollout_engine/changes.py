"""Moves that go over many rows at once: what a dead controller had in flight, and what an ended rollout leaves undone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..rollout import DeviceEvent, DeviceRow, DeviceState
from ..rollout.states import move_device
from ..state.model import RowChange

__all__ = ["endings", "orphans", "retries", "skips"]


def orphans(rows: Iterable[DeviceRow]) -> list[RowChange]:
    """Return the moves that give back what is in flight: on the next contact the device itself says where it stands."""
    return [
        RowChange(r, DeviceEvent.ORPHAN, replace(r, state=move_device(r.state, DeviceEvent.ORPHAN)))
        for r in rows
        if r.state.in_flight
    ]


def skips(rows: Iterable[DeviceRow]) -> list[RowChange]:
    """Return the moves that end what has not begun."""
    return [
        RowChange(r, DeviceEvent.SKIP, replace(r, state=move_device(r.state, DeviceEvent.SKIP), next_try_at=0.0))
        for r in rows
        if r.state in (DeviceState.PENDING, DeviceState.OFFLINE)
    ]


def endings(rows: Iterable[DeviceRow]) -> tuple[list[RowChange], list[RowChange]]:
    """Return the moves that give back what is in flight, and then those that end all that is left undone."""
    rows = tuple(rows)
    released = orphans(rows)
    return released, skips([*rows, *(change.after for change in released)])


def retries(rows: Iterable[DeviceRow]) -> list[RowChange]:
    """Return the moves that give failed rows another try, as if nothing had been said of them."""
    return [RowChange(r, DeviceEvent.RETRY, _fresh(r)) for r in rows if r.state is DeviceState.FAILED]


def _fresh(row: DeviceRow) -> DeviceRow:
    return replace(
        row,
        state=move_device(row.state, DeviceEvent.RETRY),
        verdict=None,
        codes=(),
        sentence="",
        regressed=False,
        forgiven=False,
        offline_since=0.0,
        next_try_at=0.0,
    )
