"""Keeps the records of a measurement on disk while it runs, so that one that was cut is continued.

One file per measurement, named by a key over everything that decides its records; a line per sample, each with its CRC.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from litefleet_agent.releases.crc_log import CrcLog

from .metrics import Record

_LOG = CrcLog(4 << 20)
_MOST_BYTES = 1 << 30
_KEPT = 500  # files of a project, the newest
_FORM = 1  # raise it when records change their meaning


def key_of(*facts: object) -> str:
    """Return the key of a measurement over JSON values."""
    return hashlib.sha256(json.dumps([_FORM, *facts]).encode()).hexdigest()[:40]


class Journal:
    """The records of one measurement, by the number of their sample."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / f"{key}.log"

    def read(self, samples: int) -> dict[int, Record]:
        """Return the intact records of samples below `samples`; none where the file is missing or unreadable."""
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                return {}
            entries = _LOG.scan(self._path.read_bytes()).entries
        except OSError:
            return {}
        found: dict[int, Record] = {}
        for entry in entries:
            number, record = entry.get("n"), entry.get("r")
            if isinstance(number, int) and 0 <= number < samples and isinstance(record, list):
                found[number] = record
        return found

    def add(self, records: Mapping[int, Record]) -> None:
        """Append records and sync them.  Raises: OSError."""
        new = not self._path.exists()
        if new:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._prune()
        lines = b"".join(_LOG.encode({"n": number, "r": record}) for number, record in records.items())
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            end = os.fstat(fd).st_size
            # A line that a power cut tore has no newline: what follows it must begin on a line of its own.
            _LOG.write(fd, end, lines if new else b"\n" + lines)
        finally:
            os.close(fd)

    def clear(self) -> None:
        """Forget all records."""
        self._path.unlink(missing_ok=True)

    def _prune(self) -> None:
        """Remove all but the newest files."""
        with contextlib.suppress(OSError):
            files = sorted(self._path.parent.glob("*.log"), key=lambda path: path.stat().st_mtime)
            for path in files[: max(0, len(files) - _KEPT)]:
                path.unlink(missing_ok=True)
