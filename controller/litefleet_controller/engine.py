"""Carries a rollout out: asks the board what is next, does it, and commits every outcome before the next step depends on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_inventory.model import Device

from .changes import orphans, skips
from .fleet import Slots
from .outcome import DeviceOutcome
from .patience import Patience
from .reports.progress import Progress
from .rollout import DeviceEvent, DeviceState, Rollout, RolloutEvent, RolloutState, Row
from .rollout.board import (
    Advance,
    Ask,
    Begin,
    Board,
    Decision,
    Finish,
    GiveUp,
    Look,
    OfflineOnly,
    Promote,
    Soak,
    Stop,
    Wait,
    retry_at,
)
from .rollout.states import move_device, move_rollout
from .state.port import Change, Confirmed, Hold, StateError, StatePort

__all__ = ["Clock", "Converse", "Engine", "InlineWriter", "Patience", "SystemClock", "ThreadWriter", "Writer"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_POLL_S = 2.0  # how often requests of other processes are looked for
_LATER = frozenset({"LF508", "LF509"})  # the device is busy, or we were interrupted: another try may do


class Clock(Protocol):
    """Wall time; the simulated fleet has its own."""

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
    """Keeps the event loop free while the database syncs: all calls go through one thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "state")

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns; a cancelled caller does not tear a commit."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args)))

    def close(self) -> None:
        """Finish what was begun."""
        self._thread.shutdown()


class InlineWriter:
    """Calls straight away: for time that is not real."""

    async def __call__(self, call: Callable[..., _T], *args: Any) -> _T:
        """Return what `call` returns."""
        return call(*args)


class Ledger:
    """One device's moves, each committed before the conversation goes on."""

    def __init__(self, engine: Engine, device: str) -> None:
        self._engine = engine
        self._device = device

    async def note(self, event: DeviceEvent, outcome: DeviceOutcome, hello: Mapping[str, Any]) -> None:
        """Commit one event of the device's conversation."""
        row = self._engine.row(self._device, outcome.model)
        confirmed = None
        after = told(row, event, outcome)
        if after.state.well:
            confirmed = Confirmed(
                device=row.device,
                model=row.model,
                release=after.release,
                artifact=after.artifact,
                runtime=row.runtime,
                fingerprint=str(hello.get("fingerprint", ""))[:64],
                rollout=self._engine.rollout.id,
                at=self._engine.clock.now(),
                measurements=outcome.measurements,
            )
        await self._engine.commit([Change(row, event, after, outcome, confirmed)])


Converse = Callable[[Device, Sequence[Row], Ledger], Awaitable[list[DeviceOutcome]]]
LookAgain = Callable[[Device, Sequence[Row]], Awaitable[list[tuple[Row, Finding]]]]


class Engine:
    """One rollout under way in this process; `run` may be called once."""

    def __init__(
        self,
        state: StatePort,
        hold: Hold,
        rollout: Rollout,
        rows: Sequence[Row],
        devices: Mapping[str, Device],
        converse: Converse,
        look_again: LookAgain,
        progress: Progress,
        concurrency: int,
        clock: Clock,
        write: Writer,
    ) -> None:
        self.state, self.hold, self.clock, self.write = state, hold, clock, write
        self.rollout = rollout
        self.board = Board(rollout, rows)
        self.outcomes: dict[tuple[str, str], DeviceOutcome] = {}  # of this run
        self._devices = devices
        self._converse = converse
        self._look_again = look_again
        self._progress = progress
        self._free = rollout.policy.parallel or concurrency
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._commits: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._lost: BaseException | None = None

    # --- the loop

    async def run(self, patience: Patience) -> Rollout:
        """Go on until the rollout stops, ends, or there is nothing to do that `patience` waits for.

        Raises: LostHold when another controller took over; CancelledError after Ctrl-C, with everything in flight given back.
        """
        beat = asyncio.create_task(self._beat())
        self._progress.expect(len([r for r in self.board.rows() if not r.state.settled]))
        try:
            await self._adopt()
            while True:
                self._check()
                await self._heed()
                now = self.clock.now()
                decision = self.board.next(now, self._free - len(self._tasks))
                if not await self._act(decision, now, patience):
                    break
            self._check()  # a conversation may have ended badly while the last thing was done
            if self.rollout.state is RolloutState.ABORTED:
                await self.commit(skips(self.board.rows()))  # what was lost on its last way
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back())
            raise
        finally:
            beat.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(beat, *self._tasks, return_exceptions=True)
        return self.rollout

    async def _act(self, decision: Decision, now: float, patience: Patience) -> bool:
        """Do what was decided; False when this run is over."""
        match decision:
            case Begin(devices):
                await self._begin(devices, now)
            case GiveUp(devices):
                await self._give_up(devices)
            case Look(devices):
                await self._look(devices)
            case Promote(rows, why):
                self._progress.message(why)
                await self.relocate(rows)
            case Wait(until, why):
                return await self._wait(until, now, patience)
            case OfflineOnly(until):
                if patience is not Patience.ALL and not self._tasks:
                    return False
                return await self._wait(until, now, patience)
            case _:
                return await self._step(decision, now)
        return True

    async def _step(self, decision: Stop | Ask | Soak | Advance | Finish, now: float) -> bool:
        """Move the rollout as a whole; False when it has come to its end."""
        rollout = self.rollout
        match decision:
            case Stop(event, gate, sentence, devices):
                await self._stop(event, f"{gate}: {sentence}" if gate else sentence, devices)
            case Ask(wave, sentence):
                self._progress.message(sentence)
                await self._advance(RolloutEvent.ASK, replace(rollout, reason=sentence, behind=()), {"wave": wave + 1})
            case Soak(until):
                self._progress.message(f"wave {rollout.wave + 1} soaks for {until - now:.0f} s")
                await self._advance(None, replace(rollout, soak_until=until), {"soak_until": until})
            case Advance(wave):
                self._progress.message(f"wave {wave + 1} of {len(rollout.waves)}")
                await self._advance(None, replace(rollout, wave=wave, soak_until=0.0), {"wave": wave + 1})
            case Finish():
                if self._tasks:  # every row is settled; the last words of their conversations are not yet in
                    await asyncio.wait(self._tasks)
                    return True
                await self._advance(RolloutEvent.FINISH, replace(rollout, reason="", behind=()), self._counts())
                return False
        return True

    async def _wait(self, until: float | None, now: float, patience: Patience) -> bool:
        if not self._tasks and (until is None or patience is Patience.NONE):
            return False  # nothing in flight can change anything: a person or a later run has to
        pause = _POLL_S if until is None else max(0.0, min(until - now, _POLL_S))
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        return True

    async def _beat(self) -> None:
        """Keep the hold fresh; losing it ends the run."""
        while True:
            await asyncio.sleep(10)
            try:
                await self.write(self.state.renew, self.hold)
            except Exception as error:  # the run must not go on as if it were ours
                self._lost = error
                self._wake.set()
                return

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    # --- devices

    def row(self, device: str, model: str) -> Row:
        """Return a row of this rollout; KeyError when there is none (a programmer's mistake)."""
        found = self.board.row(device, model)
        if found is None:
            raise KeyError((device, model))
        return found

    async def _begin(self, names: Sequence[str], now: float) -> None:
        changes = []
        for name in names:
            for row in self.board.rows_of(name):
                if row.state in (DeviceState.PENDING, DeviceState.OFFLINE):
                    after = replace(
                        row, state=move_device(row.state, DeviceEvent.BEGIN), attempts=row.attempts + 1, next_try_at=0.0
                    )
                    changes.append(Change(row, DeviceEvent.BEGIN, after))
        await self.commit(changes)
        for name in names:
            self.board.begun(name, now)
            task = asyncio.create_task(self._device(name), name=name)
            self._tasks[task] = name
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lost = error
        self._wake.set()

    async def _device(self, name: str) -> None:
        """Hold one conversation, and settle every row that it left open."""
        rows = [r for r in self.board.rows_of(name) if r.state is DeviceState.STAGING]
        device = self._devices.get(name)
        if device is None:
            found = finding("LF616", f"{name} is no longer in the inventory")
            outcomes = [DeviceOutcome(name, r.model, Verdict.FAILED, (found,)) for r in rows]
        else:
            outcomes = await self._settled(device, rows)
        for outcome in outcomes:
            self.outcomes[(name, outcome.model)] = outcome
            self._progress.device_done(outcome)
            row = self.row(name, outcome.model)
            if row.state.in_flight:
                await self._settle(row, outcome)

    async def _settled(self, device: Device, rows: Sequence[Row]) -> list[DeviceOutcome]:
        try:
            return await self._converse(device, rows, Ledger(self, device.name))
        except StateError:
            raise  # nothing more can be remembered: the run ends
        except Exception as error:  # a bug in one conversation must not stop the other devices
            _log.exception("unexpected error on %s", device.name)
            found = finding("LF900", f"{type(error).__name__}: {error}")
            left = [row for row in rows if self.row(row.device, row.model).state.in_flight]
            return [DeviceOutcome(device.name, row.model, Verdict.FAILED, (found,)) for row in left]

    async def _settle(self, row: Row, outcome: DeviceOutcome) -> None:
        now = self.clock.now()
        unreached = outcome.verdict is Verdict.UNREACHABLE or any(f.code in _LATER for f in outcome.findings)
        event = DeviceEvent.LOSE if unreached else DeviceEvent.FAIL
        after = told(row, event, outcome)
        if unreached:
            since = row.offline_since or now
            after = replace(after, offline_since=since, verdict=Verdict.UNREACHABLE)
            after = replace(after, next_try_at=retry_at(after, self.rollout.policy, now))
        await self.commit([Change(row, event, after, outcome)])

    async def commit(self, changes: Sequence[Change]) -> None:
        """Store moves of rows; only then does this process believe in them.

        A caller that is cancelled meanwhile does not tear the two apart: see `_give_back`.
        """
        if changes:
            task = asyncio.create_task(self._write_down(changes))
            self._commits.add(task)
            task.add_done_callback(self._commits.discard)
            await asyncio.shield(task)

    async def _write_down(self, changes: Sequence[Change]) -> None:
        await self.write(self.state.move, self.hold, self.rollout.id, changes)
        for change in changes:
            self.board.put(change.after)

    async def relocate(self, rows: Sequence[Row]) -> None:
        """Store rows whose place or time changed."""
        await self.write(self.state.relocate, self.hold, self.rollout.id, rows)
        for row in rows:
            self.board.put(row)

    async def _adopt(self) -> None:
        """Take over what a dead controller had in flight: the device itself says where it stands."""
        await self.commit(orphans(self.board.rows()))

    async def _give_back(self) -> None:
        """End every conversation and leave its rows as if their turn had not come."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._commits, return_exceptions=True)
        await self.commit(orphans(self.board.rows()))

    async def _give_up(self, names: Sequence[str]) -> None:
        days = self.rollout.policy.retry.give_up_after / 86400
        changes = []
        for row in (r for n in names for r in self.board.rows_of(n) if r.state is DeviceState.OFFLINE):
            found = finding("LF615", f"{row.device} could not be reached for {days:.1f} days")
            outcome = DeviceOutcome(row.device, row.model, Verdict.UNREACHABLE, (found,), release=row.release)
            changes.append(Change(row, DeviceEvent.GIVE_UP, told(row, DeviceEvent.GIVE_UP, outcome), outcome))
        await self.commit(changes)

    async def _look(self, names: Sequence[str]) -> None:
        """After a soak: a device that no longer does what it was confirmed to do counts as failed."""
        self._progress.message(f"looking again at wave {self.rollout.wave + 1}")
        slots = Slots(self._free, self.rollout.policy.per_jump_host)

        async def one(name: str) -> list[tuple[Row, Finding]]:
            rows = [r for r in self.board.rows_of(name) if r.state is DeviceState.CONFIRMED]
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
                await self.commit([Change(row, DeviceEvent.FAIL, told(row, DeviceEvent.FAIL, outcome), outcome)])
        await self._advance(
            None, replace(self.rollout, looked=self.rollout.wave + 1), {"looked": self.rollout.wave + 1}
        )

    # --- the rollout itself

    async def _advance(
        self, event: RolloutEvent | None, after: Rollout, what: Mapping[str, Any], changes: Sequence[Change] = ()
    ) -> None:
        if event is not None:
            after = replace(after, state=move_rollout(self.rollout.state, event))
        after = replace(after, updated_at=self.clock.now())
        await self.write(self.state.advance, self.hold, self.rollout, event, after, changes, (), what)
        self.rollout = after
        self.board.put_rollout(after)
        for change in changes:
            self.board.put(change.after)

    async def _stop(self, event: RolloutEvent, reason: str, behind: Sequence[str]) -> None:
        after = replace(self.rollout, reason=reason, behind=tuple(behind), request="")
        changes = skips(self.board.rows()) if event is RolloutEvent.ABORT else []
        await self._advance(event, after, {"reason": reason, "devices": list(behind)[:100]}, changes)
        self._progress.message(f"{'aborted' if event is RolloutEvent.ABORT else 'paused'}: {reason}")

    async def _heed(self) -> None:
        """Do what another process asked for."""
        if self.rollout.state is not RolloutState.RUNNING:
            return
        asked = await self.write(self.state.asked, self.rollout.id)
        if asked in ("pause", "abort"):
            await self._stop(RolloutEvent(asked), f"{asked} was asked for by an operator", ())

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self.board.rows():
            counts[row.state] = counts.get(row.state, 0) + 1
        return counts


def told(row: Row, event: DeviceEvent, outcome: DeviceOutcome) -> Row:
    """Return a row after an event, with what the outcome says of it."""
    decided = [f for f in outcome.findings if f.entry.verdict is not None]
    well = event in (DeviceEvent.SAME, DeviceEvent.PROVE, DeviceEvent.SWITCH, DeviceEvent.LEASE, DeviceEvent.CONFIRM)
    return replace(
        row,
        state=move_device(row.state, event),
        release=outcome.release or row.release,
        artifact=outcome.artifact or row.artifact,
        offline_since=0.0 if event is not DeviceEvent.LOSE else row.offline_since,
        verdict=outcome.verdict,
        codes=() if well else tuple(f.code for f in decided),
        sentence="" if well else outcome.sentence[:500],
        regressed=any(f.code in ("LF413", "LF414") for f in outcome.findings),
        forgiven=False,
    )
