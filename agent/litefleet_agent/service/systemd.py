"""Reports to systemd: states by sd_notify's protocol, events to the journal or stderr.  Never raises, never blocks.

Without NOTIFY_SOCKET no states are sent; without a journal, events are lines on stderr.
"""

import errno
import os
import select
import socket
import struct
import time
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ..findings import Finding

JOURNAL = "/run/systemd/journal/socket"
MESSAGE_IDS = {  # journalctl MESSAGE_ID=...
    "started": "22b3fa3db6c85010928e59128efd9ebe",
    "stopped": "0dcad45b46835f19ac5af0569edfd364",
    "switched": "f25b817e5f7754029b0ef9b4ca3ccfb2",
    "went-back": "6cd5abc1ea825784ab49f25c49e6562a",
    "worker-died": "979f2072d3e25aae8e0f483be28bc2c2",
    "refused-release": "ab82c4fec55950be91dcd615d4cd6a6d",
    "drift": "6877b71b0a8159529de477208dc70070",
    "health": "035ec7b3c36b5b50abb47acd08b45103",
    "worker-worn": "aa5e810d77b8453a9bd64a5b4ac8c7cd",
    "settings": "b9e999dfb8674ef5b5eba0625c5ccae2",
}
_PRIORITIES = {  # of syslog: 3 error, 4 warning, 5 notice, 6 information
    "started": 6,
    "stopped": 6,
    "switched": 5,
    "went-back": 4,
    "worker-died": 4,
    "refused-release": 3,
    "drift": 4,
    "health": 3,
    "worker-worn": 4,
    "settings": 3,
}
_LINE = 2000  # bytes; below PIPE_BUF, so that a pipe accepts all or nothing
_VALUE = 8192  # bytes of one field
_SHORT = 512  # bytes of one field when the event did not fit
_CODES = 20  # findings of one event


class Log:
    """Writes events to the device's log."""

    def __init__(self, environ: Mapping[str, str], stderr: int = 2, journal: str = JOURNAL) -> None:
        self.lost = 0  # events that could not be written
        self._stderr, self._journal = stderr, journal
        self._native = _is_journal(environ.get("JOURNAL_STREAM", ""), stderr)
        self._prefix = not os.isatty(stderr)

    def event(
        self, kind: str, model: str = "", release: str = "", findings: Sequence[Finding] = (), text: str = ""
    ) -> None:
        """Write one event; a `kind` that is not in MESSAGE_IDS has no message id."""
        message = _sentence(kind, model, release, findings, text)
        if self._native and self._send(_fields(kind, message, model, release, findings)):
            return
        if not self._print(_PRIORITIES.get(kind, 5), message):
            self.lost += 1

    def _send(self, fields: List[Tuple[str, str]]) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                try:
                    out.sendto(_encode(fields, _VALUE), self._journal)
                except OSError as error:
                    if error.errno != errno.EMSGSIZE:
                        raise
                    out.sendto(_encode(fields, _SHORT), self._journal)
        except OSError:
            return False
        return True

    def _print(self, priority: int, message: str) -> bool:
        prefix = "<%d>" % priority if self._prefix else ""
        line = ("%s%s" % (prefix, " ".join(message.split()))).encode("utf-8", "replace")[:_LINE] + b"\n"
        try:
            if not select.select([], [self._stderr], [], 0)[1]:
                return False
            return os.write(self._stderr, line) == len(line)
        except (OSError, ValueError):
            return False


def _is_journal(stream: str, fd: int) -> bool:
    """Return whether `fd` is the stream that systemd connected to its journal (see JOURNAL_STREAM in systemd.exec(5))."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return stream == "%d:%d" % (status.st_dev, status.st_ino)


def _sentence(kind: str, model: str, release: str, findings: Sequence[Finding], text: str) -> str:
    head = " ".join(part for part in (model, kind, release[:12]) if part)
    details = [text] if text else []
    details += ["%s %s: %s" % (f.code, f.entry.slug, f.observed) for f in findings[:_CODES]]
    return "%s: %s" % (head, "; ".join(details)) if details else head


def _fields(kind: str, message: str, model: str, release: str, findings: Sequence[Finding]) -> List[Tuple[str, str]]:
    fields = [
        ("MESSAGE", message),
        ("PRIORITY", str(_PRIORITIES.get(kind, 5))),
        ("SYSLOG_IDENTIFIER", "litefleet-agent"),
    ]
    named: Dict[str, str] = {
        "MESSAGE_ID": MESSAGE_IDS.get(kind, ""),
        "LITEFLEET_KIND": kind,
        "LITEFLEET_MODEL": model,
        "LITEFLEET_RELEASE": release,
    }
    fields += [(name, value) for name, value in named.items() if value]
    return fields + [("LITEFLEET_CODE", f.code) for f in findings[:_CODES]]


def _encode(fields: Sequence[Tuple[str, str]], most: int) -> bytes:
    """Return the journal's native form; a value with a line break has its length before it, so that it cannot add fields."""
    parts = []
    for name, text in fields:
        value = text.encode("utf-8", "replace")[:most]
        if b"\n" in value:
            parts.append(name.encode("ascii") + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        else:
            parts.append(name.encode("ascii") + b"=" + value + b"\n")
    return b"".join(parts)


_MOST = 8192  # bytes of one message
_MOST_USEC = 1 << 53


class Notifier:
    """Sends states to the service manager that started this process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.address = _address(environ.get("NOTIFY_SOCKET", ""))

    def send(self, text: str) -> bool:
        """Send `NAME=value` lines ("READY=1", "STATUS=..."), and return whether they were accepted."""
        if not self.address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                data = text.encode("utf-8", "replace")[:_MOST]
                return out.sendto(data, self.address) == len(data)
        except (OSError, ValueError):
            return False  # the service continues without its manager

    def status(self, text: str) -> bool:
        """Send the status line that `systemctl status` shows."""
        return self.send("STATUS=%s" % " ".join(text.split()))

    def reloading(self) -> bool:
        """Report that the service reloads; READY=1 ends that state."""
        return self.send("RELOADING=1\nMONOTONIC_USEC=%d" % (time.monotonic() * 1e6))


def _address(address: str) -> str:
    """Return the address for the kernel: a path, or an abstract name with its NUL; "" for any other."""
    if address[:1] == "@" and len(address) > 1:
        return "\0" + address[1:]
    return address if address[:1] == "/" else ""


def watchdog_interval(environ: Mapping[str, str], pid: int) -> Optional[float]:
    """Return the longest interval in seconds between two WATCHDOG=1 of this process, None without a watchdog."""
    watchdog_pid = environ.get("WATCHDOG_PID", "")
    interval = environ.get("WATCHDOG_USEC", "")
    if watchdog_pid and watchdog_pid != str(pid):
        return None
    if not interval.isdigit() or len(interval) > 16 or not 0 < int(interval) < _MOST_USEC:
        return None
    return int(interval) / 1e6


def without_manager(environ: Mapping[str, str] = os.environ) -> Dict[str, str]:
    """Return the environment for children, without the variables that let them report as the service."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
    return {name: value for name, value in environ.items() if name not in ours}
