"""Decides the next step of a rollout, from its rows and their tallies in memory, updated one row at a time.

No clock, no network, no database: the engine stores what happened, puts it on the board, and calls `next`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

from .decisions import (
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
from .gates import Fired, Tallies, Tally, evaluate
from .model import DeviceRow, Rollout
from .policy import Policy
from .queues import ParallelLimits
from .states import DeviceState, RolloutState
from .totals import DeviceTotals, Phase, Stratum, totals_of
from .windows import next_open, open_until

__all__ = [
    "Advance",
    "Ask",
    "Begin",
    "Board",
    "Decision",
    "Finish",
    "GiveUp",
    "OfflineOnly",
    "Promote",
    "RecheckWave",
    "Soak",
    "Stop",
    "Wait",
    "retry_at",
]

_MINUTE = 60.0


def retry_at(row: DeviceRow, policy: Policy, now: float) -> float:
    """Return when a device that could not be reached is tried again: later each time, and not all at the same time."""
    doubled = policy.retry.first * 2.0 ** min(max(row.attempts - 1, 0), 60)
    spread = int.from_bytes(hashlib.sha256(row.device.encode()).digest()[:4], "big") / 0xFFFFFFFF
    return now + max(1.0, min(doubled, policy.retry.longest) * (0.8 + 0.4 * spread))


class Board:
    """A rollout at work.  Not for several threads."""

    def __init__(self, rollout: Rollout, rows: Iterable[DeviceRow] = ()) -> None:
        self._rollout = rollout
        self._rows: dict[str, dict[str, DeviceRow]] = {}  # device -> model -> row
        self._totals: dict[str, DeviceTotals] = {}
        self._states: dict[int, Counter[DeviceState]] = {}  # rows, by wave
        self._phases: dict[int, Counter[Phase]] = {}  # devices, by wave
        self._in_flight: Counter[str] = Counter()  # devices, by jump host
        self._tried: Counter[Stratum] = Counter()  # devices that stand for a kind in the first wave
        self._waiting: Counter[Stratum] = Counter()  # devices of later waves that could
        self._pending, self._offline, self._tiring = ParallelLimits(), ParallelLimits(), ParallelLimits()
        self._tallies = Tallies()
        self._fired: Fired | None = None
        self._judged = True
        self._begun: deque[float] = deque()
        for row in rows:
            self.put(row)

    @property
    def rollout(self) -> Rollout:
        """The rollout as it was last put."""
        return self._rollout

    @property
    def tallies(self) -> Tallies:
        """The counts that the gates evaluate; read-only."""
        return self._tallies

    def put(self, row: DeviceRow) -> None:
        """Put a row as it is now stored; one that is new joins."""
        rows = self._rows.setdefault(row.device, {})
        before = rows.get(row.model)
        if before is not None:
            self._states[before.wave][before.state] -= 1
        self._states.setdefault(row.wave, Counter())[row.state] += 1
        rows[row.model] = row
        old, new = self._totals.get(row.device), totals_of(tuple(rows.values()))
        if old != new:
            if old is not None:
                self._count(old, -1)
            self._count(new, 1)
            self._totals[row.device] = new
            self._queue(new)

    def put_rollout(self, rollout: Rollout) -> None:
        """Put the rollout as it is now stored."""
        advanced = rollout.wave != self._rollout.wave
        self._rollout, self._judged = rollout, False
        if advanced:  # devices of the new wave that are offline are tried from now on
            for queue in (self._pending, self._offline, self._tiring):
                queue.clear()
            for device in self._totals.values():
                self._queue(device)

    def begun(self, device: str, now: float) -> None:
        """Record that a session with `device` began; called once for each, with its rows put as well."""
        self._begun.append(now)

    def row(self, device: str, model: str) -> DeviceRow | None:
        """Return one row, or None."""
        return self._rows.get(device, {}).get(model)

    def rows_of(self, device: str) -> tuple[DeviceRow, ...]:
        """Return a device's rows, in the order they came in."""
        return tuple(self._rows.get(device, {}).values())

    def rows(self) -> tuple[DeviceRow, ...]:
        """Return all rows, device by device."""
        return tuple(row for rows in self._rows.values() for row in rows.values())

    def counts(self, wave: int | None = None) -> dict[DeviceState, int]:
        """Return how many rows there are in each state that has any, in one wave or in all."""
        of = [self._states.get(wave, Counter())] if wave is not None else self._states.values()
        total: Counter[DeviceState] = Counter()
        for states in of:
            total.update(states)
        return {state: total[state] for state in DeviceState if total[state]}

    def next(self, now: float, free: int) -> Decision:
        """Return the next decision at `now`, when `free` more sessions may begin.

        The same question gets the same answer until a row, the rollout or a start is put.
        """
        if self._rollout.state is not RolloutState.RUNNING:
            return Wait(None, f"the rollout is {self._rollout.state}")
        self._forget_begun(now)
        decision: Decision | None = self._stop() or self._give_up(now)
        if decision is None and not self._open_now():
            decision = self._promote() or self._after_wave(now)
        return decision or self._begin(now, free) or self._rest(now, free)

    # --- tallies

    def _count(self, device: DeviceTotals, sign: int) -> None:
        self._judged = False
        self._tallies.put(device, sign)
        self._phases.setdefault(device.wave, Counter())[device.phase] += sign
        if device.phase is Phase.IN_FLIGHT:
            self._in_flight[device.jump] += sign
        for stratum in device.tried:
            self._tried[stratum] += sign
        for stratum in device.waiting:
            self._waiting[stratum] += sign

    def _queue(self, device: DeviceTotals) -> None:
        for queue in (self._pending, self._offline, self._tiring):
            queue.drop(device.device)
        if device.phase is Phase.PENDING:
            self._pending.put(device.device, device.wave, device.position, device.jump)
        elif device.phase is Phase.OFFLINE and device.wave <= self._rollout.wave:
            self._offline.put(device.device, device.try_at, device.position, device.jump)
            if device.since:
                self._tiring.put(device.device, device.since, device.position)

    def _devices(self, phase: Phase, later: bool = False) -> int:
        """Return how many devices up to this wave, or of the later ones, are in a phase."""
        wave = self._rollout.wave
        return sum(phases[phase] for number, phases in self._phases.items() if (number > wave) == later)

    def _open_now(self) -> bool:
        return self._devices(Phase.PENDING) + self._devices(Phase.IN_FLIGHT) > 0

    def _last(self) -> bool:
        """Say whether no later wave has anything to do."""
        return not any(self._devices(phase, later=True) for phase in Phase if phase is not Phase.SETTLED)

    def _soaking(self, now: float) -> bool:
        rollout = self._rollout
        return rollout.looked <= rollout.wave and now < rollout.soak_until

    # --- decisions

    def _stop(self) -> Stop | None:
        if not self._judged:
            self._fired = evaluate(self._rollout.policy.gates, self._tallies)
            self._judged = True
        fired = self._fired
        return Stop(fired.event, fired.gate, fired.sentence, fired.devices) if fired else None

    def _give_up(self, now: float) -> GiveUp | None:
        tired = self._tiring.take(len(self._tiring), now - self._rollout.policy.retry.give_up_after, lambda _: math.inf)
        return GiveUp(tired) if tired else None

    def _promote(self) -> Promote | None:
        """Move devices to the first wave for the kinds that it has not tried, because nobody there could be reached."""
        if self._rollout.wave > 0 or not self._rollout.policy.stratify:
            return None
        missing = {kind for kind, number in self._waiting.items() if number > 0 and not self._tried[kind]}
        if not missing:
            return None
        chosen: list[str] = []
        kinds = ["/".join(filter(None, kind)) for kind in sorted(missing)]
        for device in sorted(self._totals.values(), key=lambda d: (d.wave, d.position)):
            if device.phase is Phase.PENDING and missing & device.waiting:
                chosen.append(device.device)
                missing -= device.waiting
        moved = tuple(replace(row, wave=0) for name in chosen for row in self.rows_of(name))
        return Promote(moved, f"no {', '.join(kinds)} in the first wave could be tried: {', '.join(chosen)} joins it")

    def _after_wave(self, now: float) -> Decision | None:
        """Return what comes between this wave, which has settled, and the next."""
        rollout = self._rollout
        if self._last():
            return None if self._devices(Phase.OFFLINE) else Finish()
        if self._soaking(now):
            return None
        if rollout.policy.soak > 0 and rollout.looked <= rollout.wave:
            return RecheckWave(self._confirmed()) if rollout.soak_until else Soak(now + rollout.policy.soak)
        if rollout.policy.needs_approval(rollout.wave) and rollout.approved <= rollout.wave:
            return Ask(rollout.wave, self._ask_sentence())
        return Advance(rollout.wave + 1)

    def _confirmed(self) -> tuple[str, ...]:
        wave = self._rollout.wave
        found = {r.device: r.position for r in self.rows() if r.wave == wave and r.state is DeviceState.CONFIRMED}
        return tuple(sorted(found, key=lambda name: (found[name], name)))

    def _ask_sentence(self) -> str:
        wave = self._rollout.wave
        observed = ", ".join(f"{number} {state}" for state, number in self.counts(wave).items()) or "nothing to do"
        following = self._tallies.waves.get(wave + 1, Tally()).size
        return (
            f"wave {wave + 1} of {len(self._rollout.waves)} is done: {observed}; "
            f"wave {wave + 2}, {following} device{'s' * (following != 1)}, waits for approval"
        )

    def _begin(self, now: float, free: int) -> Begin | None:
        most = int(min(free, self._left_this_minute()))
        if most <= 0 or not self._is_open(now):
            return None
        limit, wave = self._rollout.policy.per_jump_host, self._rollout.wave
        behind = Counter(self._in_flight)
        devices = self._pending.take(most, wave, lambda jump: limit - behind[jump] if jump else math.inf)
        if self._tries_again(now):
            behind.update(self._totals[name].jump for name in devices)
            devices += self._offline.take(
                most - len(devices), now, lambda jump: limit - behind[jump] if jump else math.inf
            )
        return Begin(devices) if devices else None

    def _tries_again(self, now: float) -> bool:
        """Say whether devices that were offline are tried now.

        Not while the wave only waits for conversations to end: with many of them there would always be one, and the wave
        would never settle.
        """
        return self._devices(Phase.PENDING) > 0 or self._last() or self._soaking(now)

    # --- waiting

    def _rest(self, now: float, free: int) -> Wait | OfflineOnly:
        """Return what is waited for, when there is nothing to do."""
        due = self._devices(Phase.PENDING) > 0 or (self._tries_again(now) and self._offline.any_until(now))
        again = self._when_again(now)
        tired = self._tiring.first(-math.inf)
        give_up = tired + self._rollout.policy.retry.give_up_after if tired is not None else None
        if not due and self._last() and not self._open_now():
            return OfflineOnly(min(when for when in (again, give_up, math.inf) if when is not None))
        slot, why = self._when_slot(now, free) if due else (None, "devices are at work")
        soak = self._rollout.soak_until if self._soaking(now) else None
        again = again if free > 0 and self._tries_again(now) else None
        whens = [when for when in (slot, again, soak, give_up) if when is not None]
        if not due and soak is not None:
            why = "the wave soaks"
        return Wait(min(whens, default=None), why)

    def _when_slot(self, now: float, free: int) -> tuple[float | None, str]:
        """Return when a device that is due may be begun, and what it waits for."""
        policy = self._rollout.policy
        if not self._is_open(now):
            return next_open(policy.windows, policy.timezone, now), f"outside the windows {', '.join(policy.windows)}"
        if free <= 0:
            return None, "as many devices are at work as may be at once"
        if self._left_this_minute() <= 0:
            return self._minute_ends(now), f"{policy.per_minute} devices were begun within a minute"
        return None, f"{policy.per_jump_host} devices are at work behind each jump host that others wait for"

    def _when_again(self, now: float) -> float | None:
        """Return when a device that is offline may next be tried."""
        first = self._offline.first(now)
        if first is None:
            return None
        policy = self._rollout.policy
        return next_open(policy.windows, policy.timezone, max(first, self._minute_ends(now)))

    # --- limits

    def _is_open(self, now: float) -> bool:
        policy = self._rollout.policy
        return open_until(policy.windows, policy.timezone, now) is not None

    def _forget_begun(self, now: float) -> None:
        while self._begun and self._begun[0] + _MINUTE <= now:
            self._begun.popleft()

    def _left_this_minute(self) -> float:
        limit = self._rollout.policy.per_minute
        return math.inf if limit is None else limit - len(self._begun)

    def _minute_ends(self, now: float) -> float:
        """Return when another device may be begun, as far as the limit per minute goes."""
        limit = self._rollout.policy.per_minute
        if limit is None or len(self._begun) < limit:
            return now
        return self._begun[len(self._begun) - limit] + _MINUTE
