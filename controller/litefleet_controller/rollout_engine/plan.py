"""A plan: what a rollout would do to each device, in which wave, and why.  Pure; made from a live probe, or from the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from litefleet_agent.findings import Finding

from ..rollout import DeviceRow, DeviceState, Policy, Wave
from ..rollout.waves import assign

Effect = Literal["changes", "unchanged", "failed", "blocked", "offline", "unknown"]
EFFECTS: tuple[Effect, ...] = ("changes", "unchanged", "failed", "blocked", "offline", "unknown")
_IN_WAVES: tuple[Effect, ...] = ("changes", "offline", "unknown")
_STATES: Mapping[DeviceState, Effect] = {
    DeviceState.UNCHANGED: "unchanged",
    DeviceState.FAILED: "failed",
    DeviceState.BLOCKED: "blocked",
    DeviceState.OFFLINE: "offline",
}


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """The plan for one model on one device."""

    row: DeviceRow
    reachable: bool = True
    runs: str = ""  # release id; "" = none
    runs_artifact: str = ""  # SHA-256 of the .nb it runs
    why: str = ""  # why this file and this runtime for this device, one sentence
    bytes_to_send: int = 0
    files: tuple[tuple[str, int], ...] = ()  # what would be sent, and its bytes
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    seen_at: float = 0.0  # seconds since the epoch when it last answered; 0 = never
    outputs: tuple[Mapping[str, str], ...] = ()  # {name, compare, why}: how its outputs are compared with the golden
    golden: str = ""  # what the golden can tell
    version: str = ""  # of the release, for people
    runs_version: str = ""  # of the release that it runs; "" = unknown
    bytes_saved: int = 0  # not sent, as the device copies them from files that it holds
    stored: bool = False  # planned from the state: the device was not asked
    confirmed_at: float = 0.0  # seconds since the epoch when what it runs was confirmed, where `stored`; 0 = never
    shares: bool = False  # its agent gets files from neighbours and serves them

    @property
    def effect(self) -> Effect:
        """What would happen to it."""
        if self.stored and not self.seen_at:
            return "unknown"
        settled = _STATES.get(self.row.state)
        return settled or ("changes" if self.reachable else "offline")

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form; the wave is counted from 1."""
        row = self.row
        return {
            "device": row.device,
            "model": row.model,
            "what": self.effect,
            "wave": row.wave + 1,
            "reachable": self.reachable,
            "runs": self.runs,
            "runs_artifact": self.runs_artifact,
            "release": row.release,
            "artifact": row.artifact,
            "runtime": row.runtime,
            "kind": {"part": row.part, "libc": row.libc, "runtime": row.runtime},
            "why": self.why or row.sentence,
            "bytes_to_send": self.bytes_to_send,
            "bytes_saved": self.bytes_saved,
            "files": [{"what": effect, "bytes": size} for effect, size in self.files],
            "findings": [found.to_dict() for found in self.findings],
            "facts": dict(self.facts),
            "seen_at": self.seen_at,
            "confirmed_at": self.confirmed_at,
            "outputs": [dict(output) for output in self.outputs],
            "golden": self.golden,
            "version": self.version,
            "runs_version": self.runs_version,
        }


class SiteTraffic(NamedTuple):
    """What the line to a site carries, in bytes, where each large file travels once and then from neighbour to neighbour."""

    kind: str  # "jump": the devices behind a jump host; "site": those of a group
    name: str
    devices: int  # that get something
    bytes_to_send: int  # at most: a device that holds a file already may serve it too
    bytes_without: int  # if each device got all its files from the controller

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return self._asdict()


def site_traffic(devices: Sequence[PlannedDevice], sites: Mapping[str, str], least: int) -> tuple[SiteTraffic, ...]:
    """Return what each site's line carries.

    `sites` names each device's site as `Project.site_of` does; files of `least` bytes or more are shared.
    """
    found: dict[str, list[PlannedDevice]] = {}
    for planned in devices:
        if planned.files and (site := sites.get(planned.row.device, "")):
            found.setdefault(site, []).append(planned)
    return tuple(_traffic(site, members, least) for site, members in sorted(found.items()))


def _traffic(site: str, members: Sequence[PlannedDevice], least: int) -> SiteTraffic:
    kind, _, name = site.partition(" ")
    once: dict[str, int] = {}  # of a file, the most that a device would be sent: the first one may be any
    each = 0
    for planned in members:
        for file, size in planned.files:
            if planned.shares and size >= least:
                once[file] = max(size, once.get(file, 0))
            else:
                each += size
    devices = len({planned.row.device for planned in members})
    return SiteTraffic(kind, name, devices, each + sum(once.values()), sum(p.bytes_to_send for p in members))


@dataclass(frozen=True)
class Plan:
    """A whole plan; `devices` has one entry for each model on each device, in the fleet's order."""

    fleet: str
    created_at: str  # ISO 8601, UTC
    models: tuple[str, ...]
    waves: tuple[Wave, ...]
    devices: tuple[PlannedDevice, ...] = field(repr=False)  # asyncio.run() asks for the repr of what it returns, twice
    policy: Policy
    number: int = 0  # of the releases it would make; 0 = not given yet
    numbers: Mapping[str, int] = field(default_factory=dict)  # the same by model, where they differ
    offline: bool = False  # made from the state alone: only a look at what a rollout, which asks every device, may do
    sites: tuple[SiteTraffic, ...] = ()  # with a site cache: what its sites' lines carry

    @property
    def seen(self) -> tuple[float, float] | None:
        """When the facts that it is based on were seen: the oldest and the newest, seconds since the epoch."""
        seen = [planned.seen_at for planned in self.devices if planned.seen_at]
        return (min(seen), max(seen)) if seen else None

    @property
    def never_seen(self) -> tuple[str, ...]:
        """The devices that an offline plan knows nothing of."""
        return tuple(dict.fromkeys(p.row.device for p in self.devices if p.effect == "unknown"))

    @property
    def rows(self) -> tuple[DeviceRow, ...]:
        """The rows of the rollout that it would be."""
        return tuple(planned.row for planned in self.devices)

    @property
    def counts(self) -> dict[str, int]:
        """Entries by what would happen: changes, unchanged, failed, blocked, offline, unknown."""
        counted = Counter(planned.effect for planned in self.devices)
        return {effect: counted[effect] for effect in EFFECTS if counted[effect]}

    @property
    def bytes_total(self) -> int:
        """Bytes that would travel in all."""
        return sum(planned.bytes_to_send for planned in self.devices)

    def with_versions(self, versions: Mapping[str, str]) -> Plan:
        """Return the plan with the versions of its releases, given by their ids."""
        devices = tuple(
            replace(p, version=versions.get(p.row.release, ""), runs_version=versions.get(p.runs, ""))
            for p in self.devices
        )
        return replace(self, devices=devices)

    def in_wave(self, wave: int) -> tuple[PlannedDevice, ...]:
        """Return what would be tried in one wave (from 0); unchanged and blocked devices are in none."""
        return tuple(p for p in self.devices if p.row.wave == wave and p.effect in _IN_WAVES)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "plan",
            "fleet": self.fleet,
            "created_at": self.created_at,
            "models": list(self.models),
            "number": self.number,
            "numbers": dict(self.numbers),
            "counts": self.counts,
            "bytes_to_send": self.bytes_total,
            **({"sites": [site.to_dict() for site in self.sites]} if self.sites else {}),
            **self._based_on(),
            "policy": self.policy.model_dump(mode="json"),
            "waves": [self._wave(index) for index in range(len(self.waves))],
            "devices": [planned.to_dict() for planned in self.devices],
        }

    def _based_on(self) -> dict[str, object]:
        if not self.offline:
            return {"offline": False}
        oldest, newest = self.seen or (0.0, 0.0)
        return {"offline": True, "based_on": {"oldest": oldest, "newest": newest, "never_seen": list(self.never_seen)}}

    def _wave(self, index: int) -> dict[str, object]:
        members = self.in_wave(index)
        return {
            "wave": index + 1,
            "size": self.waves[index].size,
            "spec": self.waves[index].spec,
            "devices": list(dict.fromkeys(p.row.device for p in members)),
            "kinds": len({p.row.stratum for p in members if p.row.known}),
            "bytes_to_send": sum(p.bytes_to_send for p in members),
        }


def make_plan(
    drafts: Sequence[PlannedDevice],
    policy: Policy,
    groups: Callable[[str], frozenset[str]],
    *,
    fleet: str,
    created_at: str,
    models: Sequence[str] = (),
    number: int = 0,
    numbers: Mapping[str, int] | None = None,
) -> Plan:
    """Return the plan for drafts in the fleet's order, each put into its wave; `groups` gives a selection's device names.

    Raises: ValueError when a draft comes twice; whatever `groups` raises for a selection that names nothing.
    """
    keys = [(draft.row.device, draft.row.model) for draft in drafts]
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"{twice[1]} on {twice[0]} is planned twice")
    rows, waves = assign([draft.row for draft in drafts], policy, groups)
    assigned = {(row.device, row.model): row for row in rows}
    devices = tuple(replace(draft, row=assigned[key]) for draft, key in zip(drafts, keys, strict=True))
    named = tuple(models) or tuple(dict.fromkeys(draft.row.model for draft in drafts))
    return Plan(fleet, created_at, named, tuple(waves), devices, policy, number, dict(numbers or {}))
