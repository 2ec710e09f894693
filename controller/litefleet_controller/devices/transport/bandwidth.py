"""Limits of what is sent to devices: the whole fleet's, a site's, a jump host's.  All connections that pass there share one.

Each limit is a bucket of bytes that fills at its rate.  Who sends takes its bytes at once and waits until the bucket has them
again, so that the order is that of asking.  What is small waits for nothing, and counts: a command that sends little is not
slower behind a large file.  What is in no hurry is sent while nobody else waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from litefleet_inventory.model import Device

_SMALL = 4 << 10  # bytes that wait for nothing
_AHEAD_S = 0.1  # of the rate may be sent at once
_LEAST_PIECE, _MOST_PIECE = 4 << 10, 128 << 10  # bytes of one piece


@dataclass
class Hurry:
    """Whether what a task sends waits for all others; it may change meanwhile."""

    none: bool = False


_HURRY: ContextVar[Hurry | None] = ContextVar("hurry", default=None)


def set_hurry(hurry: Hurry) -> None:
    """Set the hurry of what this task, and those that it starts from now on, send."""
    _HURRY.set(hurry)


class BandwidthLimits(NamedTuple):
    """Bytes a second; 0 = no limit."""

    fleet: float = 0.0
    per_jump_host: float = 0.0  # each one's own
    per_site: Mapping[str, float] = {}  # by site


class Bucket:
    """One limit, in bytes a second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0  # when all that was taken will have passed

    def waits_s(self, now: float) -> float:
        """Return the seconds until all that was taken has passed; less than 0 where nobody waits."""
        return self._free_at - now

    def take(self, count: int, now: float) -> float:
        """Take `count` bytes and return the seconds to wait before they are sent; less than 0 for none."""
        self._free_at = max(self._free_at, now - _AHEAD_S) + count / self.rate
        return self._free_at - now


class Line:
    """The limits on the way to one device."""

    def __init__(self, buckets: Sequence[Bucket] = ()) -> None:
        self._buckets = buckets
        slowest = min((bucket.rate for bucket in buckets), default=float("inf"))
        self.piece = int(max(_LEAST_PIECE, min(_MOST_PIECE, slowest * _AHEAD_S)))  # bytes to send at once
        self.held_s = 0.0  # for which something was held back

    async def wait(self, count: int) -> None:
        """Wait until `count` bytes may be sent."""
        if not self._buckets:
            return
        if count > _SMALL and (hurry := _HURRY.get()) is not None:
            await self._let_others_pass(hurry)
        now = time.monotonic()
        wait_s = max(bucket.take(count, now) for bucket in self._buckets)
        if wait_s > 0 and count > _SMALL:
            await asyncio.sleep(wait_s)
            self.held_s += time.monotonic() - now

    async def _let_others_pass(self, hurry: Hurry) -> None:
        began = time.monotonic()
        while hurry.none and (wait_s := max(bucket.waits_s(time.monotonic()) for bucket in self._buckets)) > 0:
            await asyncio.sleep(wait_s)
        self.held_s += time.monotonic() - began


class Bandwidth:
    """The buckets of a fleet; `sites` gives the sites of a device."""

    def __init__(
        self, limits: BandwidthLimits | None = None, sites: Callable[[Device], Sequence[str]] = lambda device: ()
    ) -> None:
        self._limits, self._sites = limits or BandwidthLimits(), sites
        self._made: dict[tuple[str, str], Bucket] = {}

    def line(self, device: Device, hops: Sequence[Device]) -> Line:
        """Return the limits on the way to a device behind these jump hosts."""
        limits = self._limits
        passed = [("fleet", "", limits.fleet)]
        passed += [("site", site, limits.per_site.get(site, 0.0)) for site in self._sites(device)]
        passed += [("jump", f"{hop.host}:{hop.port}", limits.per_jump_host) for hop in hops]
        return Line([self._made.setdefault((kind, name), Bucket(rate)) for kind, name, rate in passed if rate])
