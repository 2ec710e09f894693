"""The conversations of one run: begun, held, and every row that they leave open settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_inventory.model import Device

from ..devices.fan_out import Slots, in_order
from ..devices.identity import Identity
from ..devices.outcome import DeviceOutcome, unexpected
from ..devices.progress import Progress
from ..rollout import DeviceEvent, DeviceRow, DeviceState
from ..rollout.board import retry_at
from ..rollout.states import move_device
from ..state import State
from ..state.model import FleetLock, RowChange
from .prepare import Prepare
from .store import Clock, DeviceRecorder, RolloutStore, Writer, orphans, row_after
from .tracing import NO_TRACE, Trace

DeviceTask = Callable[[Device, Sequence[DeviceRow], DeviceRecorder], Awaitable[list[DeviceOutcome]]]
Recheck = Callable[[Device, Sequence[DeviceRow]], Awaitable[list[tuple[DeviceRow, Finding]]]]
BUSY = "LF508"
_LOST, _LOST_TRIES = "LF515", 3  # a worker of a cluster ended: another one takes the device at once, so many times
_LATER = frozenset({BUSY, "LF509"})  # the device is busy, or the run was interrupted: a later attempt may succeed


async def no_sessions() -> None:
    """Do nothing: for engines that no session was kept open for."""


@dataclass(frozen=True)
class EngineDeps:
    """What a rollout's engine works with."""

    state: State
    lock: FleetLock
    devices: Mapping[str, Device]  # by name, as the inventory has them now
    device_task: DeviceTask
    recheck: Recheck
    progress: Progress
    concurrency: int  # devices at work at once, where the policy sets no limit of its own
    clock: Clock
    write: Writer
    identity: Identity  # under which devices are switched
    let_go: Callable[[], Awaitable[None]] = (
        no_sessions  # closes the sessions that are open since the devices were probed
    )
    trace: Trace = NO_TRACE
    prepare: Prepare | None = None  # sends a device its files before its turn


class DeviceSessions:
    """Sessions with at most `most` devices at once, and the outcomes of those that ended."""

    def __init__(
        self,
        store: RolloutStore,
        deps: EngineDeps,
        most: int,
        wake: asyncio.Event,
        device_task: DeviceTask,
    ) -> None:
        self.outcomes: dict[tuple[str, str], DeviceOutcome] = {}
        self._store = store
        self._devices = deps.devices
        self._device_task = device_task
        self._recheck = deps.recheck
        self._progress = deps.progress
        self._trace = deps.trace
        self._free = most
        self._wake = wake  # set whenever one ends
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._broken: BaseException | None = None

    @property
    def free(self) -> int:
        """How many more sessions may begin."""
        return self._free - len(self._tasks)

    @property
    def busy(self) -> bool:
        """Whether any session is under way."""
        return bool(self._tasks)

    def check(self) -> None:
        """Re-raise a failure to write the state from a device's session."""
        if self._broken is not None:
            raise self._broken

    async def ended(self) -> None:
        """Wait until all sessions have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Cancel all sessions."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def release_devices(self) -> None:
        """Cancel every session and make its rows pending again."""
        await self.cancel()
        await self._store.flush()
        await self._store.commit(orphans(self._store.board.rows()))

    async def begin(self, names: Sequence[str], now: float) -> None:
        """Start a session with each of these devices."""
        changes = []
        for name in names:
            for row in self._store.board.rows_of(name):
                if row.state in (DeviceState.PENDING, DeviceState.OFFLINE):
                    after = replace(
                        row, state=move_device(row.state, DeviceEvent.BEGIN), attempts=row.attempts + 1, next_try_at=0.0
                    )
                    changes.append(RowChange(row, DeviceEvent.BEGIN, after))
        await self._store.commit(changes)
        for name in names:
            self._store.board.begun(name, now)
            task = asyncio.create_task(self._device(name), name=name)
            self._tasks[task] = name
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._wake.set()

    async def _device(self, name: str) -> None:
        """Run one session, and settle every row that it left open."""
        rows = [r for r in self._store.board.rows_of(name) if r.state is DeviceState.STAGING]
        with self._trace.device(name, rows):
            await self._settle(name, rows)

    async def _settle(self, name: str, rows: Sequence[DeviceRow]) -> None:
        device = self._devices.get(name)
        if device is None:
            found = finding("LF616", f"{name} is no longer in the inventory")
            outcomes = [DeviceOutcome(name, r.model, Verdict.FAILED, (found,)) for r in rows]
        else:
            outcomes = await self._run_task(device, rows)
        for outcome in map(_with_later_try, outcomes):
            self.outcomes[(name, outcome.model)] = outcome
            self._progress.device_done(outcome)
            self._trace.outcome(outcome)
            row = self._store.row(name, outcome.model)
            if row.state.in_flight:
                await self._finish_row(row, outcome)

    async def _run_task(self, device: Device, rows: Sequence[DeviceRow]) -> list[DeviceOutcome]:
        try:
            return await self._device_task(device, rows, DeviceRecorder(self._store, device.name))
        except Exception as error:  # a bug in one session must not stop the other devices
            left = [row for row in rows if self._store.row(row.device, row.model).state.in_flight]
            return [unexpected(device.name, row.model, error) for row in left]

    async def _finish_row(self, row: DeviceRow, outcome: DeviceOutcome) -> None:
        now = self._store.clock.now()
        unreached = outcome.verdict is Verdict.UNREACHABLE
        event = DeviceEvent.LOSE if unreached else DeviceEvent.FAIL
        after = row_after(row, event, outcome)
        if unreached:
            since = row.offline_since or now
            after = replace(after, offline_since=since, verdict=Verdict.UNREACHABLE)
            again = _LOST in after.codes and row.attempts < _LOST_TRIES
            after = replace(after, next_try_at=now if again else retry_at(after, self._store.rollout.policy, now))
        await self._store.commit([RowChange(row, event, after, outcome)])

    async def give_up(self, names: Sequence[str]) -> None:
        """Fail devices that were offline for as long as the policy retries them."""
        days = self._store.rollout.policy.retry.give_up_after / 86400
        changes = []
        for row in (r for n in names for r in self._store.board.rows_of(n) if r.state is DeviceState.OFFLINE):
            found = finding("LF615", f"{row.device} could not be reached for {days:.1f} days")
            outcome = DeviceOutcome(row.device, row.model, Verdict.UNREACHABLE, (found,), release=row.release)
            changes.append(RowChange(row, DeviceEvent.GIVE_UP, row_after(row, DeviceEvent.GIVE_UP, outcome), outcome))
        await self._store.commit(changes)

    async def recheck_devices(self, names: Sequence[str]) -> None:
        """Check devices after a soak: one whose release or environment has changed counts as failed."""
        slots = Slots(self._free, self._store.rollout.policy.per_jump_host)

        async def one(name: str) -> list[tuple[DeviceRow, Finding]]:
            rows = [r for r in self._store.board.rows_of(name) if r.state is DeviceState.CONFIRMED]
            device = self._devices.get(name)
            if device is None:
                return []
            async with slots.slot(device):
                return await self._recheck(device, rows)

        for found in await in_order(names, one):
            for row, why in found:
                outcome = DeviceOutcome(
                    row.device, row.model, why.entry.verdict or Verdict.FAILED, (why,), release=row.release
                )
                self.outcomes[(row.device, row.model)] = outcome
                await self._store.commit(
                    [RowChange(row, DeviceEvent.FAIL, row_after(row, DeviceEvent.FAIL, outcome), outcome)]
                )


def _with_later_try(outcome: DeviceOutcome) -> DeviceOutcome:
    """Return the outcome of a device that is busy, or was interrupted, as that of one that is tried again: it has not failed."""
    later = any(found.code in _LATER for found in outcome.findings)
    return replace(outcome, verdict=Verdict.UNREACHABLE) if later else outcome
