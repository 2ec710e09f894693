"""What the service tells systemd, by sd_notify's protocol; without NOTIFY_SOCKET nothing is told.  Never raises, never blocks."""

import os
import socket
import time
from typing import Dict, Mapping, Optional

from .log import Log

__all__ = ["Log", "Notifier", "watchdog_interval", "without_manager"]

_MOST = 8192  # bytes of one message
_MOST_USEC = 1 << 53


class Notifier:
    """Sends states to the service manager that started this process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.address = _address(environ.get("NOTIFY_SOCKET", ""))

    def send(self, text: str) -> bool:
        """Send `NAME=value` lines ("READY=1", "STATUS=..."), and say whether they were taken."""
        if not self.address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                data = text.encode("utf-8", "replace")[:_MOST]
                return out.sendto(data, self.address) == len(data)
        except (OSError, ValueError):
            return False  # a manager that can't be told is no reason to stop serving

    def status(self, text: str) -> bool:
        """Tell in one line what the service does, as `systemctl status` shows it."""
        return self.send("STATUS=%s" % " ".join(text.split()))

    def reloading(self) -> bool:
        """Tell that settings are being read again; READY=1 ends it."""
        return self.send("RELOADING=1\nMONOTONIC_USEC=%d" % (time.monotonic() * 1e6))

    def extend(self, seconds: float) -> bool:
        """Ask for this much time from now on before start or stop count as hung."""
        return self.send("EXTEND_TIMEOUT_USEC=%d" % (seconds * 1e6))

    def main_pid(self, pid: int) -> bool:
        """Tell which process is the service's main one."""
        return self.send("MAINPID=%d" % pid)

    def failed(self, number: int, text: str) -> bool:
        """Tell the errno that the service ends with, and a sentence."""
        return self.send("ERRNO=%d\nSTATUS=%s" % (number, " ".join(text.split())))


def _address(told: str) -> str:
    """Return the address as the kernel wants it: a path, or an abstract name with its NUL; "" for what is neither."""
    if told[:1] == "@" and len(told) > 1:
        return "\0" + told[1:]
    return told if told[:1] == "/" else ""


def watchdog_interval(environ: Mapping[str, str], pid: int) -> Optional[float]:
    """Return within how many seconds systemd wants to hear WATCHDOG=1 from this process, None for never."""
    whose = environ.get("WATCHDOG_PID", "")
    told = environ.get("WATCHDOG_USEC", "")
    if whose and whose != str(pid):
        return None
    if not told.isdigit() or len(told) > 16 or not 0 < int(told) < _MOST_USEC:
        return None
    return int(told) / 1e6


def without_manager(environ: Mapping[str, str] = os.environ) -> Dict[str, str]:
    """Return an environment for children, who must not speak to the manager in the service's name."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
    return {name: value for name, value in environ.items() if name not in ours}
