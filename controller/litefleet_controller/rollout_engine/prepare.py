"""Sends the files of the next wave while the wave before it is tried, judged or soaks, where the policy has `prepare_next`.

Nothing is activated or proven, no row changes, and nothing depends on it: a device's own turn runs as always, and finds less to
send.  The wave's own sessions come first: what is sent ahead takes the places that they leave, and gives them back.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from litefleet_agent.findings import Verdict
from litefleet_agent.formats.checked import shortened
from litefleet_inventory.model import Device

from ..devices.identity import Identity
from ..devices.outcome import DeviceOutcome, unexpected
from ..devices.progress import Progress
from ..devices.transport.bandwidth import Hurry, set_hurry
from ..rollout import DeviceRow, DeviceState
from ..rollout.gates import names
from ..rollout.queues import ParallelLimits
from .store import DeviceRecorder, RolloutStore

Prepare = Callable[[Device, Sequence[DeviceRow], Identity], Awaitable[list[DeviceOutcome]]]
_Task = Callable[[Device, Sequence[DeviceRow], DeviceRecorder], Awaitable[list[DeviceOutcome]]]
_NOT_BEGUN = frozenset({state for state in DeviceState if state.settled} | {DeviceState.PENDING})
_MINUTE = 60.0
_MOST_NAMED = 100  # devices in one entry of the audit log


@dataclass
class _Wave:
    """What became of the devices of one wave."""

    number: int  # from 0
    devices: int
    sent: dict[str, int] = field(default_factory=dict)  # bytes, by device that has all its files
    failed: dict[str, str] = field(default_factory=dict)  # why a device has not


class NextWave:
    """The devices of the next wave to which files are being sent; `prepare` None: none ever are."""

    def __init__(
        self,
        store: RolloutStore,
        prepare: Prepare | None,
        devices: Mapping[str, Device],
        progress: Progress,
        most: int,
        wake: asyncio.Event,
    ) -> None:
        self._store, self._prepare, self._devices, self._progress = store, prepare, devices, progress
        self._most, self._wake = most, wake
        self._wave: _Wave | None = None  # until it was reported
        self._queue = ParallelLimits()  # devices that are still to be prepared
        self._tasks: dict[str, tuple[asyncio.Task[None], Hurry]] = {}
        self._begun: deque[float] = deque()  # epoch seconds, of the last minute
        self._broken: BaseException | None = None
        self._looked_at = -1  # the latest wave that was looked at, from 0

    @property
    def busy(self) -> bool:
        """Whether anything is being sent ahead."""
        return bool(self._tasks)

    def before(self, task: _Task) -> _Task:
        """Return a device's own task that first waits for what is still being sent to the device ahead of it."""
        if self._prepare is None:
            return task

        async def then(device: Device, rows: Sequence[DeviceRow], recorder: DeviceRecorder) -> list[DeviceOutcome]:
            if device.name in self._tasks:
                under_way, hurry = self._tasks[device.name]
                hurry.none = False
                await asyncio.wait([under_way])
            return await task(device, rows, recorder)

        return then

    async def check(self, now: float) -> None:
        """Stop where nothing may be sent ahead any more: the rollout has stopped, or its windows are closed."""
        if self._prepare is None:
            return
        board = self._store.board
        if self._broken is not None:
            raise self._broken
        if self._tasks and not board.may_prepare(now):
            await self._end(self._ahead())
        wave = self._wave
        if wave is not None and (wave.number <= board.rollout.wave or not (self._tasks or self._queue)):
            await self._report(wave)

    def begin(self, now: float, free: int) -> None:
        """Send files to more devices of the next wave, as far as `free` sessions and all limits let it."""
        board = self._store.board
        if self._prepare is None or not board.may_prepare(now):
            return
        self._look(board.rollout.wave + 1)
        while self._begun and self._begun[0] + _MINUTE <= now:
            self._begun.popleft()
        most = int(min(free - len(self._tasks), board.left_this_minute(now) - len(self._begun), self._most))
        if most <= 0 or not self._queue:
            return
        behind, limit = self._behind(), board.rollout.policy.per_jump_host
        chosen = self._queue.take(
            most, 0.0, lambda jump: limit - board.in_flight(jump) - behind[jump] if jump else math.inf
        )
        for name in chosen:
            self._queue.drop(name)
            if all(row.wave == self._looked_at and row.state in _NOT_BEGUN for row in self._rows(name)):
                self._start(name, now)

    async def give_way(self, begin: Collection[str], free: int) -> None:
        """Stop sending to other devices where sessions with `begin` need their places; `free`: without what is sent ahead."""
        if not self._tasks:
            return
        others, left = self._ahead(begin), free - len(begin)
        behind, limit = self._behind(), self._store.board.rollout.policy.per_jump_host
        for name in begin:
            jump = self._jump(name)
            behind[jump] += name not in self._tasks
        ended: list[str] = []
        for name in reversed(others):  # the latest first: it has the least to lose
            jump = self._jump(name)
            crowded = bool(jump) and self._store.board.in_flight(jump) + behind[jump] > limit
            if len(others) - len(ended) > left or crowded:
                ended.append(name)
                behind[jump] -= 1
        await self._end(ended)

    async def cancel(self) -> None:
        """Stop everything."""
        self._queue.clear()
        await self._end(tuple(self._tasks))

    async def close(self) -> None:
        """Stop everything at the end of a run, and say what was done."""
        await self.cancel()
        if self._wave is not None:
            await self._report(self._wave)

    # --- one wave

    def _look(self, wave: int) -> None:
        """Queue the devices of a wave when it is looked at for the first time."""
        if wave == self._looked_at:
            return
        self._looked_at = wave
        self._queue.clear()
        found = [device for device in self._store.board.next_wave() if device.device in self._devices]
        for device in found:
            self._queue.put(device.device, 0.0, device.position, device.jump)
        if found:
            self._wave = _Wave(wave, len(found))
            self._progress.message(f"the files of wave {wave + 1} are sent while wave {wave} is tried")

    def _ahead(self, but: Collection[str] = ()) -> list[str]:
        """Return the devices that are being prepared and whose own session has not begun, the earliest first."""
        return [n for n in self._tasks if n not in but and not any(r.state.in_flight for r in self._rows(n))]

    def _rows(self, name: str) -> tuple[DeviceRow, ...]:
        return self._store.board.rows_of(name)

    def _jump(self, name: str) -> str:
        return next((row.jump for row in self._rows(name)), "")

    def _behind(self) -> Counter[str]:
        """Return how many devices are being prepared behind each jump host."""
        return Counter(self._jump(name) for name in self._ahead())

    async def _report(self, wave: _Wave) -> None:
        """Say once what was sent ahead to a wave's devices, and record it."""
        self._wave = None
        sent = f"{len(wave.sent)} of {wave.devices} devices had their files before their turn"
        self._progress.message(f"wave {wave.number + 1}: {sent}")
        if wave.failed:
            first, why = next(iter(wave.failed.items()))
            away = f"{names(set(wave.failed))} could not be sent files ahead, and are sent them at their turn"
            self._progress.message(f"{away}; {first}: {why}")
        details = {
            "action": "prepare",
            "prepared_wave": wave.number + 1,
            "devices": wave.devices,
            "prepared": len(wave.sent),
            "bytes": sum(wave.sent.values()),
            "not_prepared": dict(list(wave.failed.items())[:_MOST_NAMED]),
        }
        await self._store.advance(None, self._store.rollout, details)

    # --- one device

    def _start(self, name: str, now: float) -> None:
        self._begun.append(now)
        hurry = Hurry(none=True)
        task = asyncio.create_task(self._send(name, hurry), name=name)
        self._tasks[name] = task, hurry
        task.add_done_callback(lambda task: self._done(name, task))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error  # the state cannot be written
        self._wake.set()

    async def _send(self, name: str, hurry: Hurry) -> None:
        assert self._prepare is not None
        set_hurry(hurry)
        wave, rows = self._wave, [row for row in self._rows(name) if row.state is DeviceState.PENDING]
        try:
            outcomes = await self._prepare(self._devices[name], rows, self._store.identity)
        except Exception as error:  # a bug in one of these sessions must not stop the rollout
            outcomes = [unexpected(name, "", error)]
        if wave is None:
            return
        wrong = [outcome for outcome in outcomes if outcome.verdict is not Verdict.VERIFIED]
        if wrong:
            wave.failed[name] = shortened(wrong[0].sentence, 300)
        else:
            wave.sent[name] = sum(outcome.sent_bytes for outcome in outcomes)

    async def _end(self, ended: Sequence[str]) -> None:
        """Stop sending to devices; those whose turn has not come are queued again."""
        tasks = [self._tasks[name][0] for name in ended]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._wave is None:
            return
        done = {*self._wave.sent, *self._wave.failed}
        for device in self._store.board.next_wave() if ended else ():
            if device.wave == self._looked_at and device.device in ended and device.device not in done:
                self._queue.put(device.device, 0.0, device.position, device.jump)
