"""A log file of independent lines: `<CRC-32 of the rest, 8 hexadecimal digits> <JSON object>`, one per line.

A damaged line costs that line and nothing else; a line that a power cut tore at the end is recognised by its missing newline or
its CRC.  The journal of releases and the service's history are such files; each opens, syncs and shortens its own.
"""

from __future__ import annotations

import os
import zlib

from ..formats.light import NamedTuple, dumps, loads

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Optional

_HEAD = 9  # bytes before the JSON: the CRC and a space


class Scan(NamedTuple):
    """What the bytes of a log hold."""

    entries: List[Dict[str, object]]  # of the intact lines, in their order
    damaged: int  # lines passed over that an intact line follows, and intact lines that hold no JSON object
    intact_end: int  # bytes up to the end of the last intact line
    complete_end: int  # bytes up to the last newline


class CrcLog:
    """The format of one kind of log; `longest` bounds the JSON of a line in bytes, when it is read."""

    def __init__(self, longest: int) -> None:
        self._longest = longest

    @staticmethod
    def encode(entry: Mapping[str, object]) -> bytes:
        """Return the line of an entry, its newline included."""
        data = dumps(entry).encode("utf-8")
        return b"%08x %s\n" % (zlib.crc32(data), data)

    def is_intact(self, line: bytes) -> bool:
        """Return whether a line (without its newline) is as it was written."""
        return len(line) <= self._longest + _HEAD and line[:_HEAD] == b"%08x " % zlib.crc32(line[_HEAD:])

    def decode(self, line: bytes) -> Optional[Dict[str, object]]:
        """Return the entry of a line (without its newline); None for a damaged one and for what is no JSON object."""
        return _parse(line) if self.is_intact(line) else None

    def scan(self, data: bytes) -> Scan:
        """Read the bytes of a log, or of its end; what follows the last newline is not read."""
        entries: List[Dict[str, object]] = []
        damaged = doubtful = place = intact_end = 0
        for line in data.split(b"\n")[:-1]:
            place += len(line) + 1
            if not self.is_intact(line):
                doubtful += 1  # torn, unless an intact line follows
                continue
            damaged, doubtful, intact_end = damaged + doubtful, 0, place
            entry = _parse(line)
            if entry is None:
                damaged += 1
            else:
                entries.append(entry)
        return Scan(entries, damaged, intact_end, place)

    @staticmethod
    def write(fd: int, end: int, line: bytes, durable: bool = True) -> None:
        """Write a line to a file that is open for appending and `end` bytes long; with `durable` it is synced too.

        Raises OSError, after the file was cut to `end` bytes again where that is possible.
        """
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        except OSError:
            try:
                os.ftruncate(fd, end)
            except OSError:
                pass  # the next append truncates it
            raise


def _parse(line: bytes) -> Optional[Dict[str, object]]:
    try:
        entry = loads(line[_HEAD:].decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
