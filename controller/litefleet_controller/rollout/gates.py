"""Gates: how many devices may fail before a rollout stops.  Counted per device, after every outcome."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal

from litefleet_agent.findings import CATALOGUE

from .policy import ClusterLimit, GateLimit, Gates, Then
from .states import RolloutEvent
from .totals import DeviceTotals, Phase

Gate = Literal["cluster", "regression", "canary", "wave", "total", "success"]
_EVENTS = {"pause": RolloutEvent.PAUSE, "abort": RolloutEvent.ABORT, "rollback": RolloutEvent.ABORT}
_STRONGEST = ("rollback", "abort", "pause")
_SHOWN = 10  # devices named in a sentence


@dataclass(frozen=True)
class Fired:
    """A gate that stops the rollout."""

    gate: Gate
    then: Then
    sentence: str
    devices: tuple[str, ...]  # behind it, all of them, in the order of their names

    @property
    def event(self) -> RolloutEvent:
        """PAUSE or ABORT."""
        return _EVENTS[self.then]


@dataclass
class Tally:
    """How many devices there are, and which of them failed."""

    size: int = 0
    expected: int = 0  # devices that count in the wave's success
    well: int = 0  # of those, the ones that run what they should
    failed: set[str] = field(default_factory=set)

    def put(self, device: DeviceTotals, sign: int) -> None:
        """Count a device in (`sign` 1) or out (-1)."""
        self.size += sign * device.takes_part
        self.expected += sign * device.expected
        self.well += sign * (device.expected and device.well)
        if device.failed:
            _put(self.failed, device.device, sign)


@dataclass
class Tallies:
    """All that the gates evaluate, kept up to date one device at a time."""

    total: Tally = field(default_factory=Tally)
    waves: dict[int, Tally] = field(default_factory=dict)
    clusters: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # (code, CPU part) -> failed devices
    parts: Counter[str] = field(default_factory=Counter)  # CPU part -> devices
    tried: Counter[str] = field(default_factory=Counter)  # CPU part -> devices that have come to their end
    regressed: set[str] = field(default_factory=set)

    def put(self, device: DeviceTotals, sign: int) -> None:
        """Count a device in (`sign` 1), or out (-1) as it was counted in."""
        self.total.put(device, sign)
        self.waves.setdefault(device.wave, Tally()).put(device, sign)
        for key in device.clusters:
            _put(self.clusters.setdefault(key, set()), device.device, sign)
        for part in device.parts if device.takes_part else ():
            self.parts[part] += sign
            self.tried[part] += sign * (device.phase is Phase.SETTLED)
        if device.regressed:
            _put(self.regressed, device.device, sign)


def evaluate(gates: Gates, tallies: Tallies) -> Fired | None:
    """Return the gate that stops the rollout, or None: first one that reverts, then one that aborts, then one that pauses."""
    return min(_fired(gates, tallies), key=lambda fired: _STRONGEST.index(fired.then), default=None)


def names(devices: Collection[str]) -> str:
    """Return devices as text, "cam-2" before "cam-10"; ten of them, and how many more there are."""
    ordered = sorted(devices, key=_natural)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def _fired(gates: Gates, tallies: Tallies) -> Iterator[Fired]:
    """Yield the gates that fire, the one that says most about the cause first."""
    if gates.cluster.count is not None or gates.cluster.share is not None:
        yield from _clusters(gates.cluster, tallies)
    yield from _regression(gates, tallies.regressed)
    for wave, tally in sorted(tallies.waves.items()):
        if wave == 0:
            yield from _of("canary", gates.canary, tally, " in the first wave failed")
        else:
            yield from _of("wave", gates.wave, tally, f" in wave {wave + 1} failed")
    yield from _of("total", gates.total, tallies.total, " failed")


def _clusters(limit: ClusterLimit, tallies: Tallies) -> Iterator[Fired]:
    for (code, part), failed in sorted(tallies.clusters.items()):
        slug = f" ({CATALOGUE[code].slug})" if code in CATALOGUE else ""
        tail = f" with {part} failed with {code}{slug}"
        size = tallies.parts[part]
        by_chance = len(failed) < (limit.of_tried or 0) * tallies.tried[part]
        if limit.count is not None and len(failed) >= limit.count and not by_chance:
            observed = f"{_devices(len(failed))}{tail}; the limit is {limit.count}"
            yield _stop("cluster", limit.then, observed, failed)
        elif _above(limit.share, len(failed), size):
            observed = f"{len(failed)} of {_devices(size)}{tail}, more than {_percent(limit.share)}"
            yield _stop("cluster", limit.then, observed, failed)


def _regression(gates: Gates, regressed: set[str]) -> Iterator[Fired]:
    limit = gates.regression.count
    if limit is not None and len(regressed) >= limit:
        verb = "is" if len(regressed) == 1 else "are"
        observed = (
            f"{_devices(len(regressed))} {verb} slower or larger than with the release before; the limit is {limit}"
        )
        yield _stop("regression", gates.regression.then, observed, regressed)


def _of(gate: Gate, limit: GateLimit, tally: Tally, tail: str) -> Iterator[Fired]:
    """Yield a gate over a share of devices, when it fires."""
    bad = len(tally.failed)
    observed = f"{bad} of {_devices(tally.size)}{tail}"
    if limit.count is not None and bad >= limit.count:
        yield _stop(gate, limit.then, f"{observed}; the limit is {limit.count}", tally.failed)
    elif _above(limit.share, bad, tally.size):
        yield _stop(gate, limit.then, f"{observed}, more than {_percent(limit.share)}", tally.failed)


def _stop(gate: Gate, then: Then, observed: str, devices: Collection[str]) -> Fired:
    return Fired(gate, then, f"{observed}: {names(devices)}", tuple(sorted(devices, key=_natural)))


def _above(share: float | None, bad: int, size: int) -> bool:
    return share is not None and bad > share * size + 1e-9  # 0.29 * 100 is a little less than 29


def _percent(share: float | None) -> str:
    return f"{(share or 0) * 100:.4g}%"


def _devices(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"


def _natural(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a key that sorts cam-2 before cam-10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    return tuple((0, int(p), "") if p[0] in "0123456789" else (1, 0, p) for p in parts), name


def _put(into: set[str], device: str, sign: int) -> None:
    if sign > 0:
        into.add(device)
    else:
        into.discard(device)
