"""One rollout's rows, in memory and in the state: memory changes only after the commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from litefleet_agent.formats.checked import shortened

from ..common.checked import mapping_or_empty
from ..devices.deliver import fingerprint_of
from ..devices.identity import Identity
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceEvent, DeviceRow, DeviceState, Rollout, RolloutEvent
from ..rollout.board import Board
from ..rollout.states import move_device, move_rollout
from ..state import State
from ..state.model import Confirmed, FleetLock, RowChange
from .group_commit import GroupCommit

_T = TypeVar("_T")


class Clock(Protocol):
    """The wall clock; the simulated fleet has its own."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


class Writer(Protocol):
    """Runs the state's blocking calls, one after another."""

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns."""
        ...


class ThreadWriter:
    """Runs all calls on one thread, so that the event loop is not blocked while the database syncs."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "state")

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns; cancelling the caller does not cancel the commit."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args)))

    def close(self) -> None:
        """Wait for the calls that were started."""
        self._thread.shutdown()


class RolloutStore:
    """One rollout's rows; every change is committed before it is on the board."""

    def __init__(
        self,
        state: State,
        lock: FleetLock,
        rollout: Rollout,
        rows: Sequence[DeviceRow],
        clock: Clock,
        write: Writer,
        identity: Identity,
    ) -> None:
        self.rollout = rollout
        self.identity = identity  # with the number that devices are told from now on
        self.board = Board(rollout, rows)
        self.clock = clock
        self._state, self._lock, self._write = state, lock, write
        self._commits = GroupCommit(self._persist)

    def row(self, device: str, model: str) -> DeviceRow:
        """Return a row of this rollout; KeyError when it does not exist (a bug in the caller)."""
        found = self.board.row(device, model)
        if found is None:
            raise KeyError((device, model))
        return found

    async def commit(self, changes: Sequence[RowChange]) -> None:
        """Store transitions of rows, then put them on the board; those of several devices may share a transaction.

        Cancelling the caller does not separate the two steps: see `flush`.
        """
        if changes:
            await self._commits.store(changes)

    async def _persist(self, changes: Sequence[RowChange]) -> None:
        number = await self._write(self._state.move, self._lock, self.rollout.id, changes)
        self.identity = replace(self.identity, number=max(self.identity.number, number))
        for change in changes:
            self.board.put(change.after)

    async def relocate(self, rows: Sequence[DeviceRow]) -> None:
        """Store rows whose wave, position or time changed."""
        await self._write(self._state.relocate, self._lock, self.rollout.id, rows)
        for row in rows:
            self.board.put(row)

    async def advance(
        self,
        event: RolloutEvent | None,
        after: Rollout,
        details: Mapping[str, object],
        changes: Sequence[RowChange] = (),
    ) -> None:
        """Store a transition of the whole rollout (without an event, only changed fields), and transitions of rows with it."""
        if event is not None:
            after = replace(after, state=move_rollout(self.rollout.state, event))
        after = replace(after, updated_at=self.clock.now())
        await self._write(self._state.advance, self._lock, self.rollout, event, after, changes, (), details)
        self.rollout = after
        self.board.put_rollout(after)
        for change in changes:
            self.board.put(change.after)

    async def requested_action(self) -> str:
        """Return what another process requests: "pause", "abort" or ""."""
        return await self._write(self._state.requested_action, self.rollout.id)

    async def begun_since(self, since: float) -> tuple[tuple[float, str], ...]:
        """Return (epoch seconds, device) of the sessions begun from `since` on, the oldest first."""
        return await self._write(self._state.begun_since, self.rollout.id, since)

    async def renew(self) -> None:
        """Renew the fleet's lock; FleetLockLost when another controller has taken over."""
        await self._write(self._state.renew, self._lock)

    async def flush(self) -> None:
        """Wait for all commits that are under way."""
        await self._commits.flush()


class DeviceRecorder:
    """One device's transitions, each committed before the session continues."""

    def __init__(self, store: RolloutStore, device: str) -> None:
        self._store = store
        self._device = device
        self._stored: DeviceOutcome | None = None  # the latest

    @property
    def identity(self) -> Identity:
        """The identity under which the device is switched."""
        return self._store.identity

    async def record(
        self,
        event: DeviceEvent,
        outcome: DeviceOutcome,
        hello: Mapping[str, object],
        then: DeviceEvent | None = None,
    ) -> None:
        """Commit one event of the device's session, and in the same transaction the one that follows it at once."""
        changes = [self._change(self._store.row(self._device, outcome.model), event, outcome, hello)]
        if then is not None:
            changes.append(self._change(changes[0].after, then, outcome, hello))
        if outcome is self._stored:  # by an earlier event: writing it again takes longer than the event
            changes = [replace(change, outcome=None) for change in changes]
        elif self._stored is not None and _measured_alike(self._stored, outcome):
            changes = [replace(change, measured=True) for change in changes]
        await self._store.commit(changes)
        self._stored = outcome

    def _change(
        self, row: DeviceRow, event: DeviceEvent, outcome: DeviceOutcome, hello: Mapping[str, object]
    ) -> RowChange:
        confirmed = None
        after = row_after(row, event, outcome)
        runs = str(mapping_or_empty(hello.get("current")).get(outcome.model) or "")[:64]
        if event is DeviceEvent.SWITCH and runs != after.release:
            after = replace(after, before=runs)  # what a rollback returns to; the plan may have been older
        if after.state.well:
            confirmed = Confirmed(
                device=row.device,
                model=row.model,
                release=after.release,
                artifact=after.artifact,
                runtime=row.runtime,
                fingerprint=fingerprint_of(hello),
                rollout=self._store.rollout.id,
                at=self._store.clock.now(),
                measurements=outcome.measurements,
            )
        return RowChange(row, event, after, outcome, confirmed)


def _measured_alike(stored: DeviceOutcome, outcome: DeviceOutcome) -> bool:
    """Whether two outcomes are of one model and have the same findings and measurements: 40 rows of the state, each."""
    same = (stored.model, stored.findings) == (outcome.model, outcome.findings)
    return same and stored.measurements is outcome.measurements


def row_after(row: DeviceRow, event: DeviceEvent, outcome: DeviceOutcome) -> DeviceRow:
    """Return a row after an event, with the outcome's verdict and release."""
    decided = [f for f in outcome.findings if f.decides]
    well = event in (DeviceEvent.SAME, DeviceEvent.PROVE, DeviceEvent.SWITCH, DeviceEvent.LEASE, DeviceEvent.CONFIRM)
    return replace(
        row,
        state=move_device(row.state, event),
        release=outcome.release or row.release,
        artifact=outcome.artifact or row.artifact,
        offline_since=0.0 if event is not DeviceEvent.LOSE else row.offline_since,
        verdict=outcome.verdict,
        codes=() if well else tuple(f.code for f in decided),
        sentence="" if well else shortened(outcome.sentence, 500),
        regressed=any(f.code in ("LF413", "LF414") for f in outcome.findings),
        forgiven=False,
    )


# --- moves that go over many rows at once


def orphans(rows: Iterable[DeviceRow]) -> list[RowChange]:
    """Return the transitions that make rows in flight pending again: at the next contact the device reports its own state."""
    return [
        RowChange(r, DeviceEvent.ORPHAN, replace(r, state=move_device(r.state, DeviceEvent.ORPHAN)))
        for r in rows
        if r.state.in_flight
    ]


def skips(rows: Iterable[DeviceRow]) -> list[RowChange]:
    """Return the transitions that skip rows which have not begun."""
    return [
        RowChange(r, DeviceEvent.SKIP, replace(r, state=move_device(r.state, DeviceEvent.SKIP), next_try_at=0.0))
        for r in rows
        if r.state in (DeviceState.PENDING, DeviceState.OFFLINE)
    ]


def endings(rows: Iterable[DeviceRow]) -> tuple[list[RowChange], list[RowChange]]:
    """Return the transitions that make rows in flight pending again, and then those that skip all open rows."""
    rows = tuple(rows)
    released = orphans(rows)
    return released, skips([*rows, *(change.after for change in released)])


def retries(rows: Iterable[DeviceRow]) -> list[RowChange]:
    """Return the transitions that make failed rows pending again, without their earlier verdict."""
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
