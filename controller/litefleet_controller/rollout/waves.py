"""Who is in which wave.  The fleet's order decides, and the same input always gives the same waves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from .model import DeviceRow, Wave
from .policy import Policy
from .states import DeviceState

Groups = Callable[[str], frozenset[str]]  # a selection's text -> names of devices
Stratum = tuple[str, str, str]

_TO_DO = (DeviceState.PENDING, DeviceState.OFFLINE)
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)


@dataclass(frozen=True)
class _Device:
    name: str
    strata: tuple[Stratum, ...]  # of its rows that have something to do; none: it never reported its facts


def assign(rows: Sequence[DeviceRow], policy: Policy, groups: Groups) -> tuple[tuple[DeviceRow, ...], tuple[Wave, ...]]:
    """Return the rows, in the order they came in, with wave and position set, and the waves.

    Rows come in the fleet's order.  Sizes are shares of the devices that have something to do (a row that is PENDING or
    OFFLINE); the others are in the last wave and count in no size.  So are, while they are to be tried, devices that
    never reported their facts.  A wave without devices is dropped; the last one stays when no device has anything to do.
    `groups` gives the devices of a selection that the policy names; what it raises is passed on.
    """
    devices = _to_do(rows)
    parts, specs = _partition(devices, policy, groups)
    kept = [i for i, part in enumerate(parts) if part] or [len(parts) - 1]
    wave_of = {device.name: wave for wave, i in enumerate(kept) for device in parts[i]}
    waves = tuple(Wave(len(parts[i]), specs[i]) for i in kept)
    placed = (replace(row, wave=wave_of.get(row.device, len(waves) - 1), position=at) for at, row in enumerate(rows))
    return tuple(placed), waves if rows else ()


def _to_do(rows: Iterable[DeviceRow]) -> tuple[_Device, ...]:
    """Return the devices that have something to do, in the fleet's order."""
    strata: dict[str, dict[Stratum, None]] = {}
    for row in rows:
        if row.state in _TO_DO:
            kinds = strata.setdefault(row.device, {})
            if row.known:
                kinds[row.stratum] = None
    return tuple(_Device(name, tuple(kinds)) for name, kinds in strata.items())


def _partition(devices: tuple[_Device, ...], policy: Policy, groups: Groups) -> tuple[list[list[_Device]], list[str]]:
    """Return the devices of each of the policy's waves, and what to call each wave."""
    left = [device for device in devices if device.strata]
    parts: list[list[_Device]] = []
    specs = [str(size).strip() for size in policy.waves]
    for number, size in enumerate(policy.waves):
        done = sum(map(len, parts))
        chosen = {device.name for device in _chosen(left, size, len(devices), done, groups)}
        if number == 0 and policy.stratify:
            base = len(chosen)
            chosen |= _one_of_each(left, chosen)
            specs[0] = _grown(specs[0], base, [device for device in left if device.name in chosen])
        parts.append([device for device in left if device.name in chosen])
        left = [device for device in left if device.name not in chosen]
    last = {device.name for device in parts[-1]}
    parts[-1] = [device for device in devices if not device.strata or device.name in last]
    return parts, specs


def _chosen(left: list[_Device], size: int | str, all_devices: int, done: int, groups: Groups) -> list[_Device]:
    """Return those of `left` that a wave's size asks for; `done` devices are in the waves before."""
    if isinstance(size, int):
        return left[: max(0, size - done)]
    if size.strip() == "all":
        return left
    share = _SHARE.fullmatch(size)
    if share is None:
        named = groups(size.strip())
        return [device for device in left if device.name in named]
    return left[: max(0, math.ceil(Fraction(share.group(1)) * all_devices / 100) - done)]


def _one_of_each(devices: Iterable[_Device], chosen: set[str]) -> set[str]:
    """Return who must join `chosen` so that it has one device of every kind: the first of each kind it lacks."""
    listed = list(devices)
    covered = {stratum for device in listed if device.name in chosen for stratum in device.strata}
    joining: set[str] = set()
    for device in listed:
        if not covered.issuperset(device.strata):
            joining.add(device.name)
            covered.update(device.strata)
    return joining


def _grown(spec: str, base: int, canary: list[_Device]) -> str:
    """Return the first wave's text, with a word when it was made larger."""
    if len(canary) == base:
        return spec
    kinds = len({stratum for device in canary for stratum in device.strata})
    if kinds == 1:
        return f"{spec}, grown to {len(canary)} for one kind of device"
    many = "as many" if kinds == len(canary) else str(kinds)
    return f"{spec}, grown to {len(canary)} for {many} kinds of device"
