"""One change of what a model's links point to, as a value: what it was, what it is to be, how far it got."""

import enum
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional

from .clock import Clock

__all__ = ["Kind", "Lease", "Operation", "State"]

_ID = re.compile(r"(?:[0-9a-f]{64})?\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_SLACK_S = 1.0  # a lease can't have more left than it was granted, but for rounding


class Kind(str, enum.Enum):
    """What was asked for."""

    ACTIVATE = "activate"
    ROLLBACK = "rollback"


class State(str, enum.Enum):
    """How far an operation got."""

    BEGUN = "begin"  # links may or may not have changed
    SWITCHED = "switched"  # links changed, under a lease
    UNDOING = "undoing"  # links are on their way back, by somebody's wish
    CONFIRMED = "confirmed"
    DONE = "done"  # links changed, without a lease
    UNDONE = "undone"  # links are back


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError("not a text of at most %d characters" % limit)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        raise ValueError("not a number")
    return value


def _matching(pattern: Any, value: Any) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise ValueError("not well formed: %r" % (value,))
    return value


@dataclass(frozen=True)
class Lease:
    """For how long a release may run unconfirmed; it ends with the boot in which it was granted."""

    seconds: float
    boot_id: str
    deadline_boottime: float  # seconds, on Clock.boottime()
    deadline_wall: float  # for people only: the wall clock may be set at any time

    @classmethod
    def grant(cls, clock: Clock, seconds: float) -> "Lease":
        """Return a lease of `seconds` from now."""
        return cls(seconds, clock.boot_id(), clock.boottime() + seconds, clock.wall() + seconds)

    def remaining_s(self, clock: Clock) -> float:
        """Return the seconds that are left, 0 when it is over."""
        return 0.0 if self.over(clock) else self.deadline_boottime - clock.boottime()

    def over(self, clock: Clock) -> str:
        """Return why it is over, or ""."""
        left = self.deadline_boottime - clock.boottime()
        if self.boot_id != clock.boot_id() or left > self.seconds + _SLACK_S:
            return "the device restarted before the release was confirmed"
        return "nobody confirmed it within %g s" % self.seconds if left <= 0 else ""


@dataclass(frozen=True)
class Operation:
    """One change of one model's links.  Release ids are SHA-256 texts; "" stands for nothing."""

    number: int  # grows with each operation on this device
    kind: Kind
    model: str
    before: str  # what `current` was
    before_previous: str  # what `previous` was
    to: str
    state: State
    at: float  # seconds since the epoch: when it came to this state
    lease: Optional[Lease] = None
    why: str = ""  # it was or is to be undone

    @property
    def open(self) -> bool:
        """Whether it still has to come to an end."""
        return self.state in (State.BEGUN, State.SWITCHED, State.UNDOING)

    def moved(self, state: State, clock: Clock, why: str = "") -> "Operation":
        """Return it in another state, as of now."""
        return replace(self, state=state, at=clock.wall(), why=why[:1000])

    def overdue(self, clock: Clock) -> str:
        """Return why it has to be undone by now, or ""."""
        if self.state is State.BEGUN:
            return "the switch was cut short"
        if self.state is State.UNDOING:
            return self.why or "it was to go back"
        return self.lease.over(clock) if self.open and self.lease else ""

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form."""
        return {
            "op": self.number,
            "kind": self.kind.value,
            "model": self.model,
            "from": self.before,
            "from_previous": self.before_previous,
            "to": self.to,
            "state": self.state.value,
            "at": self.at,
            "lease": dict(vars(self.lease)) if self.lease else None,
            "why": self.why,
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Operation":
        """Read the JSON form back; KeyError, TypeError or ValueError for what is none."""
        lease = data["lease"]
        return cls(
            int(_number(data["op"])),
            Kind(data["kind"]),
            _matching(_NAME, data["model"]),
            _matching(_ID, data["from"]),
            _matching(_ID, data["from_previous"]),
            _matching(_ID, data["to"]),
            State(data["state"]),
            _number(data["at"]),
            None if lease is None else _lease(lease),
            _text(data["why"], 2000),
        )


def _lease(data: Any) -> Lease:
    return Lease(
        _number(data["seconds"]),
        _text(data["boot_id"], 100),
        _number(data["deadline_boottime"]),
        _number(data["deadline_wall"]),
    )
