"""How often a login may fail: for each address and for all together, in bounded memory; and what of it the audit log gets."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...common.errors import LitefleetError

OF_ONE = (5, 30.0)  # failed logins of one address at once, and the seconds until one more may fail
OF_ALL = (50, 1.0)
LOGGED = (20, 10.0)  # refusals that the audit log gets at once, and the seconds until it gets one more
_MOST = 4096  # addresses that are remembered
_LOG = logging.getLogger("litefleet.serve")


@dataclass
class Bucket:
    """Holds `size` tokens, and gets one more each `every_s` seconds."""

    size: int
    every_s: float
    tokens: float
    at: float

    @classmethod
    def full(cls, limit: tuple[int, float], now: float) -> Bucket:
        """Return a full one."""
        return cls(limit[0], limit[1], float(limit[0]), now)

    def wait_s(self, now: float) -> float:
        """Return the seconds until it has a token; 0: it has one."""
        self.tokens = min(self.size, self.tokens + (now - self.at) / self.every_s)
        self.at = now
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) * self.every_s

    def take(self, now: float) -> bool:
        """Take a token, where it has one."""
        if self.wait_s(now) > 0:
            return False
        self.tokens -= 1
        return True


class Attempts:
    """Counts failed logins.  An address from which somebody has logged in is not held up by others' failures."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._one = threading.Lock()
        self._failed: OrderedDict[str, Bucket] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()
        self._all = Bucket.full(OF_ALL, clock())

    def wait_s(self, address: str) -> float:
        """Return the seconds until a login from this address is looked at; 0: now."""
        network, now = _network(address), self._clock()
        with self._one:
            own = self._failed.get(network)
            others = 0.0 if network in self._good else self._all.wait_s(now)
            return max(own.wait_s(now) if own else 0.0, others)

    def failed(self, address: str) -> None:
        """Count a failed login."""
        network, now = _network(address), self._clock()
        with self._one:
            own = self._failed.pop(network, None) or Bucket.full(OF_ONE, now)
            own.take(now)
            self._failed[network] = own
            self._all.take(now)
            while len(self._failed) > _MOST:
                self._failed.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Remember an address from which somebody has logged in."""
        network = _network(address)
        with self._one:
            self._good.pop(network, None)
            self._good[network] = None
            while len(self._good) > _MOST:
                self._good.popitem(last=False)


def _network(address: str) -> str:
    """Return what counts as one address: all of an IPv6 network of 64 bits, which one customer has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))


class LoginLog:
    """Writes logins and refusals to the audit log; of many refusals, the first ones and a count of the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.write: Callable[[str, str, Mapping[str, object]], None] = lambda who, action, what: None
        self._clock = clock
        self._one = threading.Lock()
        self._logged = Bucket.full(LOGGED, clock())
        self._left_out = 0

    def note(self, who: str, action: str, what: Mapping[str, object]) -> None:
        """Write an entry; it may block for a moment.  An audit log that cannot be written keeps nobody from logging in."""
        try:
            self.write(who, action, what)
        except LitefleetError as error:
            _LOG.warning("the audit log cannot be written: %s (%s, by %s)", error, action, who)

    def refused(self, who: str, action: str, what: Mapping[str, object]) -> None:
        """Write an entry about a refusal, unless there were too many: then it is counted in the next one."""
        with self._one:
            if not self._logged.take(self._clock()):
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        self.note(who, action, {**what, "left_out": left_out} if left_out else what)
