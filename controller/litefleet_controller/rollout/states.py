"""The life of a rollout, and of one device in it, as two tables.  What is not in a table cannot happen."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class DeviceState(enum.StrEnum):
    """The state of one model on one device in a rollout."""

    PENDING = "pending"  # its turn has not come
    STAGING = "staging"  # being sent and proven beside what runs
    PROVEN = "proven"  # proven on the device; what runs is still what ran before
    SWITCHING = "switching"  # asked to activate; unknown yet whether it did
    LEASED = "leased"  # switched on, and goes back by itself unless confirmed
    CONFIRMED = "confirmed"  # switched on for good
    UNCHANGED = "unchanged"  # ran this release already, proven in this same environment
    FAILED = "failed"  # refused, wrong, slow, crashed, no login...: runs what it ran before
    BLOCKED = "blocked"  # known before anything was sent: no file or no runtime is available for it
    OFFLINE = "offline"  # could not be reached, which may pass by itself; taken up again when it is due
    SKIPPED = "skipped"  # the rollout ended before its turn came
    ROLLED_BACK = "rolled-back"  # was confirmed, and then reverted

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self in _SETTLED

    @property
    def in_flight(self) -> bool:
        """Whether a controller is at work on it, or died over it."""
        return self in _IN_FLIGHT

    @property
    def well(self) -> bool:
        """Whether the device runs what it should."""
        return self in (DeviceState.CONFIRMED, DeviceState.UNCHANGED)


_SETTLED = frozenset(
    {
        DeviceState.CONFIRMED,
        DeviceState.UNCHANGED,
        DeviceState.FAILED,
        DeviceState.BLOCKED,
        DeviceState.SKIPPED,
        DeviceState.ROLLED_BACK,
    }
)
_IN_FLIGHT = frozenset({DeviceState.STAGING, DeviceState.PROVEN, DeviceState.SWITCHING, DeviceState.LEASED})


class DeviceEvent(enum.StrEnum):
    """What happens to one model on one device."""

    BEGIN = "begin"  # a conversation starts
    SAME = "same"  # the device runs this release already
    PROVE = "prove"  # the device proved the release
    SWITCH = "switch"  # the controller is about to ask for the switch
    LEASE = "lease"  # the device switched, for the length of its lease
    CONFIRM = "confirm"  # the device made the switch final
    FAIL = "fail"  # a verdict other than verified
    LOSE = "lose"  # the connection could not be made, or broke
    ORPHAN = "orphan"  # the controller that was at work on it is dead
    GIVE_UP = "give-up"  # it was offline for as long as the policy waits
    SKIP = "skip"  # the rollout is aborted or superseded
    RETRY = "retry"  # an operator asks for another try
    ROLL_BACK = "roll-back"  # reverted to another release


class RolloutState(enum.StrEnum):
    """Where a rollout stands."""

    PLANNED = "planned"
    RUNNING = "running"  # under way, whether or not a controller is at work on it right now
    WAITING = "waiting"  # for a person's approval
    PAUSED = "paused"  # by a gate or by a person
    ABORTED = "aborted"
    DONE = "done"
    SUPERSEDED = "superseded"  # a newer rollout took over what was still open

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self in (RolloutState.ABORTED, RolloutState.DONE, RolloutState.SUPERSEDED)


class RolloutEvent(enum.StrEnum):
    """What happens to a rollout."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ASK = "ask"  # a person's approval is needed
    APPROVE = "approve"
    ABORT = "abort"
    FINISH = "finish"
    REOPEN = "reopen"  # failed devices are tried again, or new ones joined
    SUPERSEDE = "supersede"


D, E = DeviceState, DeviceEvent
DEVICE_TABLE: Mapping[tuple[DeviceState, DeviceEvent], DeviceState] = {
    (D.PENDING, E.BEGIN): D.STAGING,
    (D.PENDING, E.SKIP): D.SKIPPED,
    (D.STAGING, E.SAME): D.UNCHANGED,
    (D.STAGING, E.PROVE): D.PROVEN,
    (D.STAGING, E.SWITCH): D.SWITCHING,  # back to a kept release, which was proven on the device long ago
    (D.STAGING, E.FAIL): D.FAILED,
    (D.STAGING, E.LOSE): D.OFFLINE,
    (D.STAGING, E.ORPHAN): D.PENDING,
    (D.PROVEN, E.SWITCH): D.SWITCHING,
    (D.PROVEN, E.FAIL): D.FAILED,
    (D.PROVEN, E.LOSE): D.OFFLINE,
    (D.PROVEN, E.ORPHAN): D.PENDING,
    (D.SWITCHING, E.LEASE): D.LEASED,
    (D.SWITCHING, E.CONFIRM): D.CONFIRMED,  # without a lease
    (D.SWITCHING, E.FAIL): D.FAILED,
    (
        D.SWITCHING,
        E.LOSE,
    ): D.OFFLINE,  # it may have switched: then it goes back by itself, or is confirmed on the next contact
    (D.SWITCHING, E.ORPHAN): D.PENDING,
    (D.LEASED, E.CONFIRM): D.CONFIRMED,
    (D.LEASED, E.FAIL): D.FAILED,
    (D.LEASED, E.LOSE): D.OFFLINE,
    (D.LEASED, E.ORPHAN): D.PENDING,
    (D.OFFLINE, E.BEGIN): D.STAGING,
    (D.OFFLINE, E.GIVE_UP): D.FAILED,
    (D.OFFLINE, E.SKIP): D.SKIPPED,
    (D.OFFLINE, E.RETRY): D.PENDING,
    (D.FAILED, E.RETRY): D.PENDING,
    (D.BLOCKED, E.RETRY): D.PENDING,
    (D.CONFIRMED, E.FAIL): D.FAILED,  # checked again after the soak, it no longer did what it should
    (D.UNCHANGED, E.FAIL): D.FAILED,
    (D.CONFIRMED, E.ROLL_BACK): D.ROLLED_BACK,
    (D.UNCHANGED, E.ROLL_BACK): D.ROLLED_BACK,
    (D.FAILED, E.ROLL_BACK): D.ROLLED_BACK,  # it had switched, and failed the check after the soak
    (D.SKIPPED, E.ROLL_BACK): D.ROLLED_BACK,  # it may have switched when its controller died, before the rollout ended
}

R, F = RolloutState, RolloutEvent
ROLLOUT_TABLE: Mapping[tuple[RolloutState, RolloutEvent], RolloutState] = {
    (R.PLANNED, F.START): R.RUNNING,
    (R.PLANNED, F.ABORT): R.ABORTED,
    (R.RUNNING, F.PAUSE): R.PAUSED,
    (R.RUNNING, F.ASK): R.WAITING,
    (R.RUNNING, F.ABORT): R.ABORTED,
    (R.RUNNING, F.FINISH): R.DONE,
    (R.RUNNING, F.SUPERSEDE): R.SUPERSEDED,
    (R.WAITING, F.APPROVE): R.RUNNING,
    (R.WAITING, F.PAUSE): R.PAUSED,
    (R.WAITING, F.ABORT): R.ABORTED,
    (R.WAITING, F.SUPERSEDE): R.SUPERSEDED,
    (R.PAUSED, F.RESUME): R.RUNNING,
    (R.PAUSED, F.ABORT): R.ABORTED,
    (R.PAUSED, F.SUPERSEDE): R.SUPERSEDED,
    (R.DONE, F.REOPEN): R.RUNNING,
}
del D, E, R, F


class IllegalMove(ValueError):
    """An event that cannot happen in this state; nothing was changed."""


def move_device(state: DeviceState, event: DeviceEvent) -> DeviceState:
    """Return the state after `event`; IllegalMove where the table has none."""
    after = DEVICE_TABLE.get((state, event))
    if after is None:
        raise IllegalMove(f"a device that is {state} cannot {event}")
    return after


def move_rollout(state: RolloutState, event: RolloutEvent) -> RolloutState:
    """Return the state after `event`; IllegalMove where the table has none."""
    after = ROLLOUT_TABLE.get((state, event))
    if after is None:
        raise IllegalMove(f"a rollout that is {state} cannot {event}")
    return after
