"""How long a release may run unconfirmed: a lease, and the device's clocks that it is measured on, which tests replace."""

from __future__ import annotations

import time

from ..formats.light import NamedTuple

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Clock:
    """The clocks of this device's kernel."""

    def boot_id(self) -> str:
        """Return the id of this boot, another one after each restart; "" where the kernel has none."""
        try:
            with open(_BOOT_ID, encoding="ascii", errors="replace") as file:
                return file.read(64).strip()
        except OSError:
            return ""

    def boottime(self) -> float:
        """Return seconds since the start of the device, suspended time included where the kernel counts it."""
        try:
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        except (AttributeError, OSError):
            return time.monotonic()

    def wall(self) -> float:
        """Return seconds since the epoch; wrong on a device without a battery until a time server has answered."""
        return time.time()


_SLACK_S = 1.0  # a lease cannot have more left than was granted, except for rounding


class Lease(NamedTuple):
    """How long a release may run unconfirmed; a lease ends with the boot in which it was granted."""

    seconds: float
    boot_id: str
    deadline_boottime: float  # seconds, on Clock.boottime()
    deadline_wall: float  # for display only: the wall clock may be set at any time

    @classmethod
    def grant(cls, clock: Clock, seconds: float) -> "Lease":
        """Return a lease of `seconds` from now."""
        return cls(seconds, clock.boot_id(), clock.boottime() + seconds, clock.wall() + seconds)

    def remaining_s(self, clock: Clock) -> float:
        """Return the seconds that are left, 0 when it has expired."""
        return 0.0 if self.over(clock) else self.deadline_boottime - clock.boottime()

    def over(self, clock: Clock) -> str:
        """Return why it has expired, or ""."""
        left = self.deadline_boottime - clock.boottime()
        if self.boot_id != clock.boot_id() or left > self.seconds + _SLACK_S:
            return "the device restarted before the release was confirmed"
        return "nobody confirmed it within %g s" % self.seconds if left <= 0 else ""
