"""How a rollout goes: waves, limits of speed, gates, leases.  Read from `rollout:` in litefleet.yaml; kept with each rollout."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from .windows import check_window, check_zone

Then = Literal["pause", "abort", "rollback"]  # rollback: abort, and revert what this rollout has switched on
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _share(value: Any) -> Any:
    """Return 0.1 for "10%"; a number stays what it is."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)):
        return float(found.group(1)) / 100
    return value


def _duration(value: Any) -> Any:
    """Return seconds for "90s", "10m", "2h", "7d"; a number is seconds."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
        if found is None:
            raise ValueError(f"'{value}' is no length of time: write 90s, 10m, 2h or 7d")
        return float(found.group(1)) * _UNITS[found.group(2)]
    return value


def _wave(value: Any) -> Any:
    """Return a wave's size as it is written: 5, "10%", or a selection such as "lab"."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is no wave: write a number of devices, a percentage such as 10%, or a group")
    if isinstance(value, int) and value < 1:
        raise ValueError(f"a wave of {value} devices is empty: write 1 or more")
    if isinstance(value, str) and value.strip().endswith("%"):
        share = _share(value)
        if not isinstance(share, float) or not 0 < share <= 1:
            raise ValueError(f"'{value}' is no share of the fleet: write 1% to 100%")
    elif isinstance(value, str) and not value.strip():
        raise ValueError("a wave has no name")
    return value


Share = Annotated[float, BeforeValidator(_share), Field(gt=0, le=1)]
More = Annotated[float, BeforeValidator(_share), Field(gt=0, le=100)]  # "20%" more than before; may be over 100 %
Duration = Annotated[float, BeforeValidator(_duration), Field(ge=0, le=366 * 86400)]
WaveSize = Annotated[int | str, BeforeValidator(_wave)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class GateLimit(_Strict):
    """Stops when `count` devices have failed, or more than `share` of them; neither: the gate is open."""

    count: Annotated[int, Field(ge=1)] | None = None
    share: Share | None = None
    then: Then = "pause"


class ClusterLimit(GateLimit):
    """Devices of one CPU part that failed with one finding code; `share` is of all that part's devices in the rollout."""

    of_tried: Share | None = 0.02  # `count` holds only from this share of the part's tried devices on: less is chance


class Regression(_Strict):
    """How much slower or larger than the release before, on the same device; then that device is not switched on."""

    latency: More | None = 0.5  # the growth of the fastest run: others also depend on what else the device was doing
    latency_floor_ms: Annotated[float, Field(ge=0)] = 2.0  # smaller growth is noise
    memory: More | None = 0.5  # the peak RSS's growth
    memory_floor_mb: Annotated[float, Field(ge=0)] = 16.0
    count: Annotated[int, Field(ge=1)] | None = 1  # devices with a regression that stop the rollout
    then: Then = "pause"


class Gates(_Strict):
    """What stops a rollout.  A device that is offline has not failed: it is queued.  A refused login is a failure."""

    canary: GateLimit = GateLimit(count=1)  # failed devices in the first wave
    wave: GateLimit = GateLimit(share=0.2)  # of one wave
    total: GateLimit = GateLimit(share=0.1)  # of all
    cluster: ClusterLimit = ClusterLimit(count=3)
    regression: Regression = Field(default_factory=dict, validate_default=True)

    @classmethod
    def none(cls) -> Gates:
        """Return gates that never stop anything."""
        free = GateLimit()
        return cls(
            canary=free,
            wave=free,
            total=free,
            cluster=ClusterLimit(),
            regression=Regression(latency=None, memory=None, count=None),
        )

    @model_validator(mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        if value is False or value == "off":  # YAML reads off as false
            return cls.none().model_dump()
        return value


class Retry(_Strict):
    """When a device that could not be reached is tried again."""

    first: Duration = 30.0
    longest: Duration = 3600.0
    give_up_after: Duration = 30 * 86400.0  # since it was first found offline


class Keep(_Strict):
    """What stays on a device, besides what runs and what ran before."""

    releases: Annotated[int, Field(ge=0, le=100)] = 2  # of each model, the newest first
    pinned: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    quota_mb: Annotated[float, Field(gt=0)] | None = None  # of everything under the agent's root


class Policy(_Strict):
    """`rollout:` in litefleet.yaml."""

    waves: Annotated[tuple[WaveSize, ...], Field(min_length=1, max_length=50)] = (1, "10%", "50%", "100%")
    success: Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)] = 0.5  # of a wave, before the next one begins
    stratify: bool = True  # every CPU part x libc x runtime has a device in the first wave
    parallel: Annotated[int, Field(ge=1, le=2000)] | None = None  # devices at once; None: ssh.concurrency
    per_jump_host: Annotated[int, Field(ge=1)] = 8  # devices at once behind one jump host
    per_minute: Annotated[int, Field(ge=1)] | None = None  # devices begun in a minute
    soak: Duration = 0.0  # between two waves
    approve: bool | tuple[Annotated[int, Field(ge=1)], ...] = False  # after every wave, or after those numbers (from 1)
    # Files of the next wave are sent while a wave is tried, nothing is activated; "always": also before an approval.
    prepare_next: bool | Literal["always"] = False
    windows: tuple[Annotated[str, AfterValidator(check_window)], ...] = ()  # "Mon-Fri 22:00-05:00"; none: always
    timezone: Annotated[str, AfterValidator(check_zone)] = "UTC"
    lease: Annotated[float, BeforeValidator(_duration), Field(ge=10, le=7 * 86400)] = 600.0
    gates: Gates = Field(default_factory=dict, validate_default=True)
    retry: Retry = Field(default_factory=dict, validate_default=True)
    keep: Keep = Field(default_factory=dict, validate_default=True)

    @model_validator(mode="after")
    def _ends_with_all(self) -> Policy:
        if self.waves[-1] not in ("100%", "all"):
            raise ValueError("the last wave must be 100%, so that every device has its turn")
        return self

    def prepares_after(self, wave: int, approved: bool) -> bool:
        """Return whether the devices of the wave after `wave` (from 0) get their files before their turn."""
        held = self.needs_approval(wave) and not approved
        return self.prepare_next == "always" or (self.prepare_next is True and not held)

    def needs_approval(self, wave: int) -> bool:
        """Return whether a person is asked after wave `wave` (from 0)."""
        return self.approve if isinstance(self.approve, bool) else wave + 1 in self.approve
