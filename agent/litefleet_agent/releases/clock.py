"""The device's clocks as one object, which tests replace."""

import time

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
