"""The conversations of one run: begun, held, and every row that they leave open settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_inventory.model import Device

from ..devices.fan_out import Slots
from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress
from ..rollout import DeviceEvent, DeviceState, Row
from ..rollout.board import retry_at
from ..rollout.states import move_device
from ..state.model import Change, StateError
from .changes import orphans
from .store import Book, Ledger, told

__all__ = ["Converse", "LookAgain", "Talks"]

Converse = Callable[[Device, Sequence[Row], Ledger], Awaitable[list[DeviceOutcome]]]
LookAgain = Callable[[Device, Sequence[Row]], Awaitable[list[tuple[Row, Finding]]]]
_log = logging.getLogger(__name__)
_LATER = frozenset({"LF508", "LF509"})  # the device is busy, or we were interrupted: another try may do


class Talks:
    """Devices at work, and what became of those that are done; `most` at once."""

    def __init__(
        self,
        book: Book,
        devices: Mapping[str, Device],
        converse: Converse,
        look_again: LookAgain,
        progress: Progress,
        most: int,
        wake: asyncio.Event,
    ) -> None:
        self.outcomes: dict[tuple[str, str], DeviceOutcome] = {}
        self._book = book
        self._devices = devices
        self._converse = converse
        self._look_again = look_again
        self._progress = progress
        self._free = most
        self._wake = wake  # set whenever one ends
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._broken: BaseException | None = None

    @property
    def free(self) -> int:
        """How many more may begin."""
        return self._free - len(self._tasks)

    @property
    def busy(self) -> bool:
        """Whether any is under way."""
        return bool(self._tasks)

    def check(self) -> None:
        """Raise what ended a conversation that must not end so: the state can't be written."""
        if self._broken is not None:
            raise self._broken

    async def ended(self) -> None:
        """Wait until all that are under way have ended by themselves."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """End all that are under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def give_back(self) -> None:
        """End every conversation and leave its rows as if their turn had not come."""
        await self.cancel()
        await self._book.written()
        await self._book.commit(orphans(self._book.board.rows()))

    async def begin(self, names: Sequence[str], now: float) -> None:
        """Start a conversation with each of these devices."""
        changes = []
        for name in names:
            for row in self._book.board.rows_of(name):
                if row.state in (DeviceState.PENDING, DeviceState.OFFLINE):
                    after = replace(
                        row, state=move_device(row.state, DeviceEvent.BEGIN), attempts=row.attempts + 1, next_try_at=0.0
                    )
                    changes.append(Change(row, DeviceEvent.BEGIN, after))
        await self._book.commit(changes)
        for name in names:
            self._book.board.begun(name, now)
            task = asyncio.create_task(self._device(name), name=name)
            self._tasks[task] = name
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._wake.set()

    async def _device(self, name: str) -> None:
        """Hold one conversation, and settle every row that it left open."""
        rows = [r for r in self._book.board.rows_of(name) if r.state is DeviceState.STAGING]
        device = self._devices.get(name)
        if device is None:
            found = finding("LF616", f"{name} is no longer in the inventory")
            outcomes = [DeviceOutcome(name, r.model, Verdict.FAILED, (found,)) for r in rows]
        else:
            outcomes = await self._settled(device, rows)
        for outcome in outcomes:
            self.outcomes[(name, outcome.model)] = outcome
            self._progress.device_done(outcome)
            row = self._book.row(name, outcome.model)
            if row.state.in_flight:
                await self._settle(row, outcome)

    async def _settled(self, device: Device, rows: Sequence[Row]) -> list[DeviceOutcome]:
        try:
            return await self._converse(device, rows, Ledger(self._book, device.name))
        except StateError:
            raise  # nothing more can be remembered: the run ends
        except Exception as error:  # a bug in one conversation must not stop the other devices
            _log.exception("unexpected error on %s", device.name)
            found = finding("LF900", f"{type(error).__name__}: {error}")
            left = [row for row in rows if self._book.row(row.device, row.model).state.in_flight]
            return [DeviceOutcome(device.name, row.model, Verdict.FAILED, (found,)) for row in left]

    async def _settle(self, row: Row, outcome: DeviceOutcome) -> None:
        now = self._book.clock.now()
        unreached = outcome.verdict is Verdict.UNREACHABLE or any(f.code in _LATER for f in outcome.findings)
        event = DeviceEvent.LOSE if unreached else DeviceEvent.FAIL
        after = told(row, event, outcome)
        if unreached:
            since = row.offline_since or now
            after = replace(after, offline_since=since, verdict=Verdict.UNREACHABLE)
            after = replace(after, next_try_at=retry_at(after, self._book.rollout.policy, now))
        await self._book.commit([Change(row, event, after, outcome)])

    async def give_up(self, names: Sequence[str]) -> None:
        """Settle devices that were offline for as long as the policy waits."""
        days = self._book.rollout.policy.retry.give_up_after / 86400
        changes = []
        for row in (r for n in names for r in self._book.board.rows_of(n) if r.state is DeviceState.OFFLINE):
            found = finding("LF615", f"{row.device} could not be reached for {days:.1f} days")
            outcome = DeviceOutcome(row.device, row.model, Verdict.UNREACHABLE, (found,), release=row.release)
            changes.append(Change(row, DeviceEvent.GIVE_UP, told(row, DeviceEvent.GIVE_UP, outcome), outcome))
        await self._book.commit(changes)

    async def look(self, names: Sequence[str]) -> None:
        """After a soak: a device that no longer does what it was confirmed to do counts as failed."""
        slots = Slots(self._free, self._book.rollout.policy.per_jump_host)

        async def one(name: str) -> list[tuple[Row, Finding]]:
            rows = [r for r in self._book.board.rows_of(name) if r.state is DeviceState.CONFIRMED]
            device = self._devices.get(name)
            if device is None:
                return []
            async with slots.taken(device):
                return await self._look_again(device, rows)

        for found in await asyncio.gather(*(one(name) for name in names)):
            for row, why in found:
                outcome = DeviceOutcome(
                    row.device, row.model, why.entry.verdict or Verdict.FAILED, (why,), release=row.release
                )
                self.outcomes[(row.device, row.model)] = outcome
                await self._book.commit([Change(row, DeviceEvent.FAIL, told(row, DeviceEvent.FAIL, outcome), outcome)])
