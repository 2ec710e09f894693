"""Runs a rollout: asks the board for the next decision, and carries it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ..devices.outcome import DeviceOutcome
from ..devices.steps import WaitPolicy
from ..rollout import DeviceRow, DeviceState, Rollout, RolloutEvent, RolloutState
from ..rollout.board import (
    Advance,
    Ask,
    Begin,
    Decision,
    Finish,
    GiveUp,
    OfflineOnly,
    Promote,
    RecheckWave,
    Soak,
    Stop,
    Wait,
)
from ..rollout.gates import names
from ..rollout.model import REVERT
from .prepare import NextWave
from .sessions import BUSY, DeviceSessions, EngineDeps
from .store import RolloutStore, orphans, skips

_FAR = 1e11  # seconds since the epoch: a window that never opens
_POLL_S = 2.0  # how often other processes' requests are polled while nothing happens
_REQUEST_S = (
    0.5  # and how often at most: sessions end many times a second, and each turn of the loop would ask the database
)
_BUSY_TRIES = 3  # sessions with a device that another session holds, before a later run is left to try


class RolloutEngine:
    """One rollout under way in this process; `run` may be called once."""

    def __init__(self, deps: EngineDeps, rollout: Rollout, rows: Sequence[DeviceRow]) -> None:
        self._store = RolloutStore(deps.state, deps.lock, rollout, rows, deps.clock, deps.write, deps.identity)
        self._progress = deps.progress
        self._devices = deps.devices
        self._let_go = deps.let_go
        self._wake = asyncio.Event()
        most = rollout.policy.parallel or deps.concurrency
        self._ahead = NextWave(self._store, deps.prepare, deps.devices, deps.progress, most, self._wake)
        device_task = self._ahead.before(deps.device_task)
        self._sessions = DeviceSessions(self._store, deps, most, self._wake, device_task)
        self._lost: BaseException | None = None
        self._reported = ""  # what the run waits for, as it was last reported
        self._request_due = 0.0  # by the event loop's clock: when other processes' requests are read again

    @property
    def rollout(self) -> Rollout:
        """The rollout as it was last stored."""
        return self._store.rollout

    @property
    def rows(self) -> tuple[DeviceRow, ...]:
        """Its rows as they were last stored."""
        return self._store.board.rows()

    @property
    def outcomes(self) -> Mapping[tuple[str, str], DeviceOutcome]:
        """The outcomes of this run, by (device, model)."""
        return self._sessions.outcomes

    # --- the loop

    async def run(self, wait_policy: WaitPolicy) -> Rollout:
        """Run until the rollout stops, ends, or has nothing to do that `wait_policy` waits for.

        Raises: FleetLockLost when another controller took over; CancelledError after Ctrl-C (rows in flight are pending again).
        """
        renewal = asyncio.create_task(self._renew_lock())
        self._progress.expect(len([r for r in self.rows if not r.state.settled]))
        try:
            await self._skip_removed()
            await self._count_begun()
            await self._store.commit(orphans(self.rows))  # devices report themselves where a dead controller left them
            while True:
                self._check()
                await self._apply_request()
                now = self._store.clock.now()
                await self._ahead.check(now)
                decision = self._store.board.next(now, self._sessions.free)
                if isinstance(decision, Wait):
                    self._ahead.begin(now, self._sessions.free)
                if not await self._act(decision, now, wait_policy):
                    break
            await self._ahead.close()
            self._check()  # a session may have failed during the last step
            if self.rollout.state is RolloutState.ABORTED:
                await self._store.commit(skips(self.rows))  # devices that went offline while they were being stopped
        except asyncio.CancelledError:
            await asyncio.shield(self._sessions.release_devices())
            raise
        finally:
            renewal.cancel()
            await self._ahead.cancel()
            await self._sessions.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        return self.rollout

    async def _skip_removed(self) -> None:
        """Skip devices that have left the inventory since: they count in no gate and no wave's success."""
        gone = [
            r
            for r in self.rows
            if r.device not in self._devices and r.state in (DeviceState.PENDING, DeviceState.OFFLINE)
        ]
        if gone:
            self._progress.message(f"no longer in the inventory, skipped: {names({r.device for r in gone})}")
            await self._store.commit(skips(gone))

    async def _count_begun(self) -> None:
        """Count the sessions that an earlier controller began in the last minute, for the limit per minute."""
        for at, device in await self._store.begun_since(self._store.clock.now() - 60):
            self._store.board.begun(device, at)

    async def _act(self, decision: Decision, now: float, wait_policy: WaitPolicy) -> bool:
        """Carry out a decision; return False when this run is over."""
        match decision:
            case Begin(devices):
                await self._ahead.give_way(devices, self._sessions.free)
                await self._sessions.begin(devices, now)
            case GiveUp(devices):
                await self._sessions.give_up(devices)
            case RecheckWave(devices):
                self._progress.message(f"checking again wave {self.rollout.wave + 1}")
                await self._ahead.give_way(devices, self._sessions.free)
                await self._sessions.recheck_devices(devices)
                looked = self.rollout.wave + 1
                await self._store.advance(None, replace(self.rollout, looked=looked), {"looked": looked})
            case Promote(rows, why):
                self._progress.message(why)
                await self._store.relocate(rows)
            case Wait(until, why):
                if (
                    until is not None
                    and until < _FAR
                    and why.startswith("outside the windows")
                    and why != self._reported
                ):
                    self._reported = why
                    opens = (
                        datetime.fromtimestamp(until, UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
                    )
                    self._progress.message(f"{why}: the next one opens at {opens} UTC")
                return await self._wait(until, now, wait_policy)
            case OfflineOnly(until, why):
                return await self._wait_for_offline(until, why, now, wait_policy)
            case _:
                return await self._step(decision, now)
        return True

    async def _wait_for_offline(self, until: float, why: str, now: float, wait_policy: WaitPolicy) -> bool:
        """Wait for devices that are offline as far as `wait_policy` says; for one that is only busy, as for a soak."""
        if why and why != self.rollout.reason:
            self._progress.message(why)
            await self._store.advance(None, replace(self.rollout, reason=why), {"action": "waits", "reason": why})
        soon = wait_policy is WaitPolicy.ALL or (wait_policy is WaitPolicy.WAVES and self._busy_devices())
        return (soon or self._sessions.busy) and await self._wait(until, now, wait_policy)

    def _busy_devices(self) -> bool:
        """Whether a device is held by another session, which ends soon where its controller is dead (within 30 s)."""
        return any(
            row.state is DeviceState.OFFLINE and BUSY in row.codes and row.attempts < _BUSY_TRIES for row in self.rows
        )

    async def _step(self, decision: Stop | Ask | Soak | Advance | Finish, now: float) -> bool:
        """Apply a decision on the whole rollout; return False when it has ended."""
        rollout = self.rollout
        match decision:
            case Stop(event, gate, sentence, devices, revert):
                await self._stop(event, f"{gate}: {sentence}" if gate else sentence, devices, REVERT if revert else "")
            case Ask(wave, sentence):
                await self._let_go()
                self._progress.message(sentence)
                await self._store.advance(
                    RolloutEvent.ASK, replace(rollout, reason=sentence, behind=()), {"wave": wave + 1}
                )
            case Soak(until):
                await self._let_go()
                self._progress.message(f"wave {rollout.wave + 1} soaks for {until - now:.0f} s")
                await self._store.advance(None, replace(rollout, soak_until=until), {"soak_until": until})
            case Advance(wave):
                self._progress.message(f"wave {wave + 1} of {len(rollout.waves)}")
                await self._store.advance(
                    None, replace(rollout, wave=wave, soak_until=0.0, reason=""), {"wave": wave + 1}
                )
            case Finish():
                if self._sessions.busy:  # every row is settled, but their sessions have not ended yet
                    await self._sessions.ended()
                    return True
                counts = {state.value: n for state, n in self._store.board.counts().items()}
                await self._store.advance(RolloutEvent.FINISH, replace(rollout, reason="", behind=()), counts)
                return False
        return True

    async def _wait(self, until: float | None, now: float, wait_policy: WaitPolicy) -> bool:
        busy = self._sessions.busy or self._ahead.busy
        if not busy and (until is None or wait_policy is WaitPolicy.NONE):
            return False  # nothing is in flight: only a person or a later run can change anything
        if not busy:
            await self._let_go()  # what follows does not follow at once
        pause = _POLL_S if until is None else max(0.0, min(until - now, _POLL_S))
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        return True

    async def _renew_lock(self) -> None:
        """Renew the fleet's lock; the run ends when it is lost."""
        while True:
            await asyncio.sleep(10)
            try:
                await self._store.renew()
            except Exception as error:  # without the lock the run must not continue
                self._lost = error
                self._wake.set()
                return

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._sessions.check()

    async def _stop(self, event: RolloutEvent, reason: str, behind: Sequence[str], request: str = "") -> None:
        """Pause or abort; `request` says what is to be done once it has stopped."""
        await self._let_go()
        after = replace(self.rollout, reason=reason, behind=tuple(behind), request=request)
        changes = skips(self.rows) if event is RolloutEvent.ABORT else []
        await self._store.advance(event, after, {"reason": reason, "devices": list(behind)[:100]}, changes)
        self._progress.message(f"{'aborted' if event is RolloutEvent.ABORT else 'paused'}: {reason}")

    async def _apply_request(self) -> None:
        """Carry out another process's request to pause or abort."""
        now = asyncio.get_running_loop().time()
        if self.rollout.state not in (RolloutState.RUNNING, RolloutState.WAITING) or now < self._request_due:
            return
        self._request_due = now + _REQUEST_S
        requested_action = await self._store.requested_action()
        if requested_action in ("pause", "abort"):
            await self._stop(RolloutEvent(requested_action), f"{requested_action} was asked for by an operator", ())
