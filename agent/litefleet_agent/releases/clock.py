"""The device's clocks, as one value: tests give another."""

import time

__all__ = ["Clock"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Clock:
    """What this device's kernel says."""

    def boot_id(self) -> str:
        """Return the id of this boot, another one after each restart; "" where the kernel tells none."""
        try:
            with open(_BOOT_ID, encoding="ascii", errors="replace") as file:
                return file.read(64).strip()
        except OSError:
            return ""

    def boottime(self) -> float:
        """Return seconds since the start, suspended time included where the kernel counts it."""
        try:
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        except (AttributeError, OSError):
            return time.monotonic()

    def wall(self) -> float:
        """Return seconds since the epoch; wrong on a device without a battery until it has asked somebody."""
        return time.time()
