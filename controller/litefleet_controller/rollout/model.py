"""A rollout and its rows, as values.  Times are seconds since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from litefleet_agent.findings import Verdict

from .policy import Policy
from .states import DeviceState, RolloutState

Kind = Literal["rollout", "rollback", "reconcile"]
REVERT = "rollback"  # the request of a rollout that a gate has ended with `then: rollback`


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One model on one device, in one rollout."""

    device: str
    model: str
    wave: int  # from 0; all rows of a device are in one wave
    position: int  # in the fleet's order; the order in which devices of a wave begin
    state: DeviceState = DeviceState.PENDING
    part: str = ""  # the CPU part: "Cortex-A72"; "" = not known yet
    libc: str = ""  # "glibc 2.36"
    runtime: str = ""  # the runtime's key
    jump: str = ""  # the jump host it is behind, as the inventory names it
    release: str = ""  # what it is to run; "" = decided on contact (never reached so far)
    artifact: str = ""  # SHA-256 of its .nb
    before: str = ""  # the release that ran when the plan was made; "" = none
    attempts: int = 0  # conversations begun
    offline_since: float = 0.0  # 0 = it is not
    next_try_at: float = 0.0
    verdict: Verdict | None = None
    codes: tuple[str, ...] = ()  # of the findings that decided, the first one first
    sentence: str = ""  # why
    regressed: bool = False  # slower or larger than the release before
    forgiven: bool = False  # a person resumed after this failure: gates count what comes after

    @property
    def stratum(self) -> tuple[str, str, str]:
        """What the canary wave must have one of: CPU part, libc, runtime; empty texts while it is unknown."""
        return (self.part, self.libc, self.runtime)

    @property
    def known(self) -> bool:
        """Whether the device has ever reported its facts."""
        return bool(self.part or self.libc)

    @property
    def failed(self) -> bool:
        """Whether it counts in the gates: it was tried, it failed, and no person has resumed since."""
        return self.state is DeviceState.FAILED and not self.forgiven


@dataclass(frozen=True)
class Wave:
    """One wave of a plan."""

    size: int  # devices
    spec: str  # as the policy has it: "10%"


@dataclass(frozen=True)
class Rollout:
    """A rollout as a whole, without its rows."""

    id: str  # "r-20261123-0001"
    fleet: str
    kind: Kind
    state: RolloutState
    policy: Policy
    waves: tuple[Wave, ...]
    created_at: float
    by: str  # who asked for it: "user@host"
    models: tuple[str, ...] = ()
    wave: int = 0  # under way, from 0
    soak_until: float = 0.0  # 0 = no soak is on
    looked: int = 0  # waves that were checked again after their soak
    approved: int = 0  # waves after which approval has been given
    reason: str = ""  # why it stopped or waits, one sentence
    behind: tuple[str, ...] = ()  # the devices behind it
    number: int = 0  # of its releases; grows with each rollout
    parent: str = ""  # the rollout that this one repairs or reverts
    limit: str = ""  # the selection it was made for, as `--limit` takes it
    origin: Mapping[str, object] = field(default_factory=dict)  # hashes of configuration, inventory and sources
    request: str = ""  # "pause" or "abort": what another process asks of the one at work; once it is over, REVERT
    updated_at: float = 0.0
