"""Carries a rollout out: asks the board what is next, and does it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from litefleet_inventory.model import Device

from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress
from ..devices.steps import Patience
from ..rollout import Rollout, RolloutEvent, RolloutState, Row
from ..rollout.board import Advance, Ask, Begin, Decision, Finish, GiveUp, Look, OfflineOnly, Promote, Soak, Stop, Wait
from ..state.model import Hold, StatePort
from .changes import orphans, skips
from .sessions import Converse, LookAgain, Talks
from .store import Book, Clock, Writer

__all__ = ["Engine"]

_POLL_S = 2.0  # how often requests of other processes are looked for


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
        self._book = Book(state, hold, rollout, rows, clock, write)
        self._progress = progress
        self._wake = asyncio.Event()
        most = rollout.policy.parallel or concurrency
        self._talks = Talks(self._book, devices, converse, look_again, progress, most, self._wake)
        self._lost: BaseException | None = None

    @property
    def rollout(self) -> Rollout:
        """The rollout as it stands."""
        return self._book.rollout

    @property
    def rows(self) -> tuple[Row, ...]:
        """Its rows as they stand."""
        return self._book.board.rows()

    @property
    def outcomes(self) -> Mapping[tuple[str, str], DeviceOutcome]:
        """What this run learned, by (device, model)."""
        return self._talks.outcomes

    # --- the loop

    async def run(self, patience: Patience) -> Rollout:
        """Go on until the rollout stops, ends, or there is nothing to do that `patience` waits for.

        Raises: LostHold when another controller took over; CancelledError after Ctrl-C, with everything in flight given back.
        """
        beat = asyncio.create_task(self._beat())
        self._progress.expect(len([r for r in self.rows if not r.state.settled]))
        try:
            await self._book.commit(orphans(self.rows))  # the devices themselves say where a dead controller left them
            while True:
                self._check()
                await self._heed()
                now = self._book.clock.now()
                decision = self._book.board.next(now, self._talks.free)
                if not await self._act(decision, now, patience):
                    break
            self._check()  # a conversation may have ended badly while the last thing was done
            if self.rollout.state is RolloutState.ABORTED:
                await self._book.commit(skips(self.rows))  # what was lost on its last way
        except asyncio.CancelledError:
            await asyncio.shield(self._talks.give_back())
            raise
        finally:
            beat.cancel()
            await self._talks.cancel()
            await asyncio.gather(beat, return_exceptions=True)
        return self.rollout

    async def _act(self, decision: Decision, now: float, patience: Patience) -> bool:
        """Do what was decided; False when this run is over."""
        match decision:
            case Begin(devices):
                await self._talks.begin(devices, now)
            case GiveUp(devices):
                await self._talks.give_up(devices)
            case Look(devices):
                self._progress.message(f"looking again at wave {self.rollout.wave + 1}")
                await self._talks.look(devices)
                looked = self.rollout.wave + 1
                await self._book.advance(None, replace(self.rollout, looked=looked), {"looked": looked})
            case Promote(rows, why):
                self._progress.message(why)
                await self._book.relocate(rows)
            case Wait(until, why):
                return await self._wait(until, now, patience)
            case OfflineOnly(until):
                if patience is not Patience.ALL and not self._talks.busy:
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
                await self._book.advance(
                    RolloutEvent.ASK, replace(rollout, reason=sentence, behind=()), {"wave": wave + 1}
                )
            case Soak(until):
                self._progress.message(f"wave {rollout.wave + 1} soaks for {until - now:.0f} s")
                await self._book.advance(None, replace(rollout, soak_until=until), {"soak_until": until})
            case Advance(wave):
                self._progress.message(f"wave {wave + 1} of {len(rollout.waves)}")
                await self._book.advance(None, replace(rollout, wave=wave, soak_until=0.0), {"wave": wave + 1})
            case Finish():
                if self._talks.busy:  # every row is settled; the last words of their conversations are not yet in
                    await self._talks.ended()
                    return True
                counts = {state.value: n for state, n in self._book.board.counts().items()}
                await self._book.advance(RolloutEvent.FINISH, replace(rollout, reason="", behind=()), counts)
                return False
        return True

    async def _wait(self, until: float | None, now: float, patience: Patience) -> bool:
        if not self._talks.busy and (until is None or patience is Patience.NONE):
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
                await self._book.renew()
            except Exception as error:  # the run must not go on as if it were ours
                self._lost = error
                self._wake.set()
                return

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._talks.check()

    async def _stop(self, event: RolloutEvent, reason: str, behind: Sequence[str]) -> None:
        after = replace(self.rollout, reason=reason, behind=tuple(behind), request="")
        changes = skips(self.rows) if event is RolloutEvent.ABORT else []
        await self._book.advance(event, after, {"reason": reason, "devices": list(behind)[:100]}, changes)
        self._progress.message(f"{'aborted' if event is RolloutEvent.ABORT else 'paused'}: {reason}")

    async def _heed(self) -> None:
        """Do what another process asked for."""
        if self.rollout.state is not RolloutState.RUNNING:
            return
        asked = await self._book.asked()
        if asked in ("pause", "abort"):
            await self._stop(RolloutEvent(asked), f"{asked} was asked for by an operator", ())
