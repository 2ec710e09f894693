"""What the engine is to do next.  Times are seconds since the epoch, UTC; devices are names."""

from __future__ import annotations

from dataclasses import dataclass

from .gates import Gate
from .model import DeviceRow
from .states import RolloutEvent


@dataclass(frozen=True)
class Begin:
    """Start a conversation with each of these devices, in this order."""

    devices: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """A gate fired: apply `event` (PAUSE or ABORT) to the rollout."""

    event: RolloutEvent
    gate: Gate
    sentence: str
    devices: tuple[str, ...]  # behind it
    revert: bool = False  # what the rollout has switched on, once its sessions have ended


@dataclass(frozen=True)
class Soak:
    """The wave is done: keep `until` as the rollout's `soak_until`."""

    until: float


@dataclass(frozen=True)
class RecheckWave:
    """The soak is over: contact these devices again, then set `looked` to the wave's number plus one."""

    devices: tuple[str, ...]  # where something of the wave was confirmed; may be none


@dataclass(frozen=True)
class Ask:
    """A person has to approve what comes after `wave`."""

    wave: int  # from 0
    sentence: str


@dataclass(frozen=True)
class Advance:
    """Go to `wave`, with no soak on."""

    wave: int  # from 0


@dataclass(frozen=True)
class Promote:
    """Store these rows: their devices move to the first wave."""

    rows: tuple[DeviceRow, ...]  # changed already
    why: str


@dataclass(frozen=True)
class GiveUp:
    """These devices were offline for as long as the policy waits."""

    devices: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done now."""

    until: float | None  # None: until a conversation ends or a person acts
    why: str


@dataclass(frozen=True)
class OfflineOnly:
    """Everything that may begin is settled but devices that could not be reached; none of them is due yet."""

    until: float  # when one is
    why: str = ""  # what later waves wait for; "" where there are none


@dataclass(frozen=True)
class Finish:
    """Everything is settled."""


Decision = Begin | Stop | Soak | RecheckWave | Ask | Advance | Promote | GiveUp | Wait | OfflineOnly | Finish
