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
from .gates import Fired, Tallies, Tally, evaluate, names
from .model import REVERT, DeviceRow, Rollout
from .policy import Gates, Policy
from .queues import ParallelLimits
from .states import DeviceState, RolloutEvent, RolloutState
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
        self._gates_off = rollout.policy.gates == Gates.none()  # then the success of a wave is not asked for either
        self._rows: dict[str, dict[str, DeviceRow]] = {}  # device -> model -> row
        self._totals: dict[str, DeviceTotals] = {}
        self._states: dict[int, Counter[DeviceState]] = {}  # rows, by wave
        self._phases: dict[int, Counter[Phase]] = {}  # devices, by wave
        self._in_flight: Counter[str] = Counter()  # devices, by jump host
        self._tried: Counter[Stratum] = Counter()  # devices that are evidence for a kind
        self._trials: Counter[Stratum] = Counter()  # devices in flight, by kind
        self._held: dict[Stratum, set[str]] = {}  # devices whose turn has come, and whose kind has no evidence yet
        self._lacking: dict[str, frozenset[Stratum]] = {}  # the same by device
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
        """Replace a row by its stored form, or add a new one."""
        rows = self._rows.setdefault(row.device, {})
        before = rows.get(row.model)
        if before is not None:
            self._states[before.wave][before.state] -= 1
        self._states.setdefault(row.wave, Counter())[row.state] += 1
        rows[row.model] = row
        old, new = self._totals.get(row.device), totals_of(tuple(rows.values()))
        if old != new:
            tried = (old.tried if old is not None else frozenset()) ^ new.tried
            evident = {kind for kind in tried if self._tried[kind]}
            if old is not None:
                self._count(old, -1)
            self._count(new, 1)
            self._totals[row.device] = new
            self._queue(new)
            for kind in tried:
                self._evidence(kind, kind in evident)

    def put_rollout(self, rollout: Rollout) -> None:
        """Replace the rollout by its stored form."""
        advanced = rollout.wave != self._rollout.wave
        self._rollout, self._judged = rollout, False
        if advanced:  # devices of the new wave that are offline are tried from now on
            self._queue_all()

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

    def next_wave(self) -> tuple[DeviceTotals, ...]:
        """Return the devices of the next wave that have not begun."""
        wave = self._rollout.wave + 1
        return tuple(d for d in self._totals.values() if d.wave == wave and d.phase is Phase.PENDING)

    def may_prepare(self, now: float) -> bool:
        """Return whether the next wave's devices may get their files now: the policy says so, and a window is open."""
        rollout = self._rollout
        waiting = rollout.state is RolloutState.WAITING
        if not (waiting or rollout.state is RolloutState.RUNNING):
            return False
        approved = rollout.approved > rollout.wave
        return rollout.policy.prepares_after(rollout.wave, approved) and self._is_open(now)

    def in_flight(self, jump: str) -> int:
        """Return how many devices behind a jump host have a session."""
        return self._in_flight[jump]

    def left_this_minute(self, now: float) -> float:
        """Return how many more sessions may begin within this minute."""
        self._forget_begun(now)
        return self._left_this_minute()

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
            for stratum in device.kinds:
                self._trials[stratum] += sign
        for stratum in device.tried:
            self._tried[stratum] += sign
        for stratum in device.waiting:
            self._waiting[stratum] += sign

    def _queue(self, device: DeviceTotals) -> None:
        """Give a device its turn; one whose kind has no evidence is held, so that one of them is tried first."""
        for queue in (self._pending, self._offline, self._tiring):
            queue.drop(device.device)
        for kind in self._lacking.pop(device.device, ()):
            self._held[kind].discard(device.device)
        due = device.wave <= self._rollout.wave
        if device.phase is Phase.OFFLINE and due and device.since:
            self._tiring.put(device.device, device.since, device.position)
        if due and device.phase in (Phase.PENDING, Phase.OFFLINE) and self._rollout.policy.stratify:
            lacking = frozenset(kind for kind in device.kinds if not self._tried[kind])
            if lacking:
                self._lacking[device.device] = lacking
                for kind in lacking:
                    self._held.setdefault(kind, set()).add(device.device)
                return
        if device.phase is Phase.PENDING:
            self._pending.put(device.device, device.wave, device.position, device.jump)
        elif device.phase is Phase.OFFLINE and due:
            self._offline.put(device.device, device.try_at, device.position, device.jump)

    def _queue_all(self) -> None:
        for queue in (self._pending, self._offline, self._tiring):
            queue.clear()
        for device in self._totals.values():
            self._queue(device)

    def _evidence(self, kind: Stratum, before: bool) -> None:
        """Release held devices when the first evidence for their kind exists, or hold them when it is withdrawn."""
        if bool(self._tried[kind]) == before:
            return
        if before:
            self._queue_all()
            return
        for name in tuple(self._held.get(kind, ())):
            self._queue(self._totals[name])

    def _devices(self, phase: Phase, later: bool = False) -> int:
        """Return how many devices up to this wave, or of the later ones, are in a phase."""
        wave = self._rollout.wave
        return sum(phases[phase] for number, phases in self._phases.items() if (number > wave) == later)

    def _open_now(self) -> bool:
        return self._devices(Phase.PENDING) + self._devices(Phase.IN_FLIGHT) > 0

    def _last(self) -> bool:
        """Return whether no later wave has anything to do."""
        return not any(self._devices(phase, later=True) for phase in Phase if phase is not Phase.SETTLED)

    def _soaking(self, now: float) -> bool:
        rollout = self._rollout
        # One that ends later than a whole soak from now was begun by a clock that was ahead: it begins anew.
        return rollout.looked <= rollout.wave and now < rollout.soak_until <= now + rollout.policy.soak + 1

    # --- decisions

    def _stop(self) -> Stop | None:
        if not self._judged:
            self._fired = evaluate(self._rollout.policy.gates, self._tallies)
            self._judged = True
        fired = self._fired
        if fired is None:
            return None
        return Stop(fired.event, fired.gate, fired.sentence, fired.devices, fired.then == REVERT)

    def _give_up(self, now: float) -> GiveUp | None:
        tired = self._tiring.take(len(self._tiring), now - self._rollout.policy.retry.give_up_after, lambda _: math.inf)
        return GiveUp(tired) if tired else None

    def _promote(self) -> Promote | None:
        """Move devices to the first wave for the kinds that it has not tried, because no device of it could be reached."""
        if not self._rollout.policy.stratify:
            return None
        if self._rollout.wave > 0:
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
        if short := self._short():
            away = self._phases.get(rollout.wave, Counter())[Phase.OFFLINE]
            return None if away else Stop(RolloutEvent.PAUSE, "success", short, self._not_well())
        if rollout.policy.soak > 0 and rollout.looked <= rollout.wave:
            over = 0 < rollout.soak_until <= now
            return RecheckWave(self._confirmed()) if over else Soak(now + rollout.policy.soak)
        if rollout.policy.needs_approval(rollout.wave) and rollout.approved <= rollout.wave:
            return Ask(rollout.wave, self._ask_sentence())
        return Advance(rollout.wave + 1)

    def lacks_success(self) -> bool:
        """Return whether the wave has come to its end and too few of its devices succeeded for the next one."""
        return not self._open_now() and not self._last() and bool(self._short())

    def _short(self) -> str:
        """Return what the wave lacks in success before the next one may begin; "" when it lacks nothing."""
        rollout = self._rollout
        tally = self._tallies.waves.get(rollout.wave, Tally())
        if (
            rollout.approved > rollout.wave
            or self._gates_off
            or tally.well >= rollout.policy.success * tally.expected - 1e-9
        ):
            return ""
        return (
            f"{tally.well} of {tally.expected} device{'s' * (tally.expected != 1)} in wave {rollout.wave + 1} succeeded, and "
            f"{rollout.policy.success:.0%} are needed before the next wave: {names(self._not_well())} did not"
        )

    def _not_well(self) -> tuple[str, ...]:
        wave = self._rollout.wave
        found = (d for d in self._totals.values() if d.wave == wave and d.expected and not d.well)
        return tuple(d.device for d in sorted(found, key=lambda d: (d.position, d.device)))

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

    def _first_of_kinds(self, now: float, most: int, behind: Counter[str]) -> list[DeviceTotals]:
        """Return the devices to try first, at most one of each kind without evidence, and none where one is at work."""
        limit, again = self._rollout.policy.per_jump_host, self._tries_again(now)
        used, taken, chosen = Counter(behind), set[Stratum](), list[DeviceTotals]()

        def ready(device: DeviceTotals) -> bool:
            if device.phase is Phase.OFFLINE and not (again and device.try_at <= now):
                return False
            free = not device.jump or used[device.jump] < limit
            return free and not any(self._trials[kind] or kind in taken for kind in self._lacking[device.device])

        def place(kind: Stratum) -> tuple[int, Stratum]:
            return min(self._totals[name].position for name in self._held[kind]), kind

        # In the fleet's order, also for a board that was made again from the stored rows.
        for kind in sorted((kind for kind, held in self._held.items() if held and not self._trials[kind]), key=place):
            if len(chosen) >= most:
                break
            candidates = (d for d in map(self._totals.__getitem__, self._held[kind]) if ready(d))
            device = min(
                candidates, key=lambda d: (d.phase is Phase.OFFLINE, d.wave, d.position, d.device), default=None
            )
            if device is not None:
                chosen.append(device)
                taken |= device.kinds
                used[device.jump] += 1
        return chosen

    def _begin(self, now: float, free: int) -> Begin | Promote | None:
        most = int(min(free, self._left_this_minute()))
        if most <= 0 or not self._is_open(now):
            return None
        limit, wave = self._rollout.policy.per_jump_host, self._rollout.wave
        behind = Counter(self._in_flight)
        trials = self._first_of_kinds(now, most, behind)
        joining = tuple(replace(r, wave=0) for d in trials if d.wave > 0 for r in self.rows_of(d.device))
        if joining:
            first = ", ".join(dict.fromkeys(row.device for row in joining))
            return Promote(joining, f"no device of its kind has been tried: {first} is tried first, as a canary")
        devices = tuple(d.device for d in trials)
        behind.update(d.jump for d in trials)
        devices += self._pending.take(
            most - len(devices), wave, lambda jump: limit - behind[jump] if jump else math.inf
        )
        if self._tries_again(now):
            behind = Counter(self._in_flight)
            behind.update(self._totals[name].jump for name in devices)
            devices += self._offline.take(
                most - len(devices), now, lambda jump: limit - behind[jump] if jump else math.inf
            )
        return Begin(devices) if devices else None

    def _tries_again(self, now: float) -> bool:
        """Return whether devices that were offline are tried now.

        Not while the wave only waits for conversations to end: with many of them there would always be one, and the wave
        would never settle.
        """
        return self._devices(Phase.PENDING) > 0 or self._last() or self._soaking(now) or self._waits_for_success()

    def _waits_for_success(self) -> bool:
        """Return whether the wave has settled, and only devices that are offline can bring the success that it lacks."""
        return not self._open_now() and bool(self._short())

    # --- waiting

    def _rest(self, now: float, free: int) -> Wait | OfflineOnly:
        """Return what is waited for, when there is nothing to do."""
        due = self._devices(Phase.PENDING) > 0 or (self._tries_again(now) and self._any_offline_until(now))
        again = self._when_again(now)
        tired = self._tiring.first(-math.inf)
        give_up = tired + self._rollout.policy.retry.give_up_after if tired is not None else None
        short = self._short() if not self._last() and not self._soaking(now) else ""
        if not due and (self._last() or short) and not self._open_now():
            return OfflineOnly(min(when for when in (again, give_up, math.inf) if when is not None), short)
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
        if any(held and self._trials[kind] for kind, held in self._held.items()):
            return None, "one device of each kind is tried before its others"
        return None, f"{policy.per_jump_host} devices are at work behind each jump host that others wait for"

    def _when_again(self, now: float) -> float | None:
        """Return when a device that is offline may next be tried."""
        held = (self._totals[name] for name in self._lacking)
        tries = [d.try_at for d in held if d.phase is Phase.OFFLINE and d.try_at > now]
        first = min([*tries, *([queued] if (queued := self._offline.first(now)) is not None else [])], default=None)
        if first is None:
            return None
        policy = self._rollout.policy
        return next_open(policy.windows, policy.timezone, max(first, self._minute_ends(now)))

    def _any_offline_until(self, now: float) -> bool:
        held = (self._totals[name] for name in self._lacking)
        return self._offline.any_until(now) or any(d.phase is Phase.OFFLINE and d.try_at <= now for d in held)

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
