"""What happened on this device, bounded: `<root>/history/<number>.jsonl`, one line per entry, `<CRC-32 of the rest> <JSON>`.

Entries are numbered from 1; a file bears the number of its first.  The oldest file goes when all are too large together.
`history/id` names this history: where it is another one, the numbers begin anew.
An entry that is like one of the last hour is counted, and written again when its count has doubled, or on `flush`.
"""

import json
import os
import re
import secrets
import threading
import zlib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..findings import Finding
from ..releases.atomic import write_atomic
from ..releases.clock import Clock

__all__ = ["History", "Page", "Syncer", "identity", "newest", "read_history"]


class Syncer:
    """Syncs one file at a time in a thread; a file that comes in the meantime is synced after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Optional[int] = None
        self._thread: Optional[threading.Thread] = None

    def sync(self, fd: int) -> None:
        """See to it that what was written to `fd` gets on the disk; the caller may close it.  OSError when there are no files."""
        copy = os.dup(fd)
        with self._lock:
            if self._next is not None:
                os.close(self._next)  # mostly the same file: the newer descriptor syncs both
            self._next = copy
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._work, name="litefleet-sync", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads are to be had: it gets on the disk by itself, later
            if self._next is not None:
                os.close(self._next)
                self._next = None
        else:
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._lock:
                fd, self._next = self._next, None
                if fd is None:
                    self._thread = None
                    return
            try:
                os.fsync(fd)
            except OSError:
                pass  # it is on its way all the same
            finally:
                os.close(fd)

    def close(self, timeout_s: float = 2.0) -> None:
        """Wait until nothing is left to sync, or `patience_s` seconds."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)


_SEGMENTS = 8
_FILE = re.compile(r"([0-9]{1,15})\.jsonl\Z")
_ID = re.compile(r"[0-9a-f]{16}\Z")
_MOST_LINE = 8192
_MOST_TEXT = 500
_MOST_FINDINGS = 10
_REPEAT_WINDOW_S = 3600.0
_MOST_REPEATED = 256
_MOST_READ = 256 << 10  # bytes of JSON in one answer
_SEGMENT_MOST = 256 << 20  # bytes; only somebody else can have made it longer


class Page(NamedTuple):
    """A part of a history, oldest first."""

    identity: str  # of the history, "" = there is none
    entries: List[Dict[str, Any]]
    next: int  # ask on from here
    newest: int  # number of the last entry, 0 = none


class _Repeated:
    """Entries that are alike but for their time and words."""

    def __init__(self, at: float) -> None:
        self.since = at  # seconds since the start
        self.written = 1
        self.times = 0  # that are not written yet
        self.latest: Dict[str, Any] = {}


class History:
    """The one writer of a root's history.  Nothing here raises for what the file system lacks: it is counted in `lost`."""

    def __init__(self, root: str, most_bytes: int, clock: Optional[Clock] = None) -> None:
        self.lost = 0  # entries that could not be written
        self._folder = os.path.join(root, "history")
        self._most, self._segment_most = most_bytes, max(2048, most_bytes // _SEGMENTS)
        self._clock = clock or Clock()
        self._repeated: Dict[Tuple[str, ...], _Repeated] = {}
        self._syncer = Syncer()
        self._newest = 0
        self._open = ""  # the segment that is written to
        try:
            self._begin()
        except OSError:
            self.lost += 1  # tried again at the first entry

    def add(
        self,
        kind: str,
        model: str = "",
        release: str = "",
        findings: Sequence[Finding] = (),
        text: str = "",
        values: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Write an entry down; one like an earlier one may only be counted for now."""
        key = (kind, model, release) + tuple(f.code for f in findings[:_MOST_FINDINGS])
        entry = self._entry(kind, model, release, findings, text, values)
        known = self._repeated.get(key)
        if known is not None and 0 <= entry["up"] - known.since < _REPEAT_WINDOW_S:
            known.times += 1
            known.latest = entry
            if known.times >= known.written:
                self._write_counted(known)
            return
        if known is not None:
            self._write_counted(known)
        self._remember(key, entry["up"])
        self._write(entry)

    def _entry(
        self,
        kind: str,
        model: str,
        release: str,
        findings: Sequence[Finding],
        text: str,
        values: Optional[Dict[str, Any]],
    ) -> Dict[str, Any]:
        findings_data = [{"code": f.code, "seen": f.observed[:_MOST_TEXT]} for f in findings[:_MOST_FINDINGS]]
        at, up = round(self._clock.wall(), 3), round(self._clock.boottime(), 3)
        entry: Dict[str, Any] = {"at": at, "up": up, "kind": kind[:40], "times": 1}
        more = {
            "model": model[:128],
            "release": release[:64],
            "findings": findings_data,
            "text": text[:_MOST_TEXT],
            "values": values,
        }
        entry.update((name, value) for name, value in more.items() if value)
        return entry

    def _remember(self, key: Tuple[str, ...], up: float) -> None:
        self._repeated.pop(key, None)
        if len(self._repeated) >= _MOST_REPEATED:
            self._write_counted(self._repeated.pop(next(iter(self._repeated))))
        self._repeated[key] = _Repeated(up)

    def _write_counted(self, known: _Repeated) -> None:
        if known.times:
            self._write(dict(known.latest, times=known.times))
            known.written += known.times
            known.times = 0

    def flush(self) -> None:
        """Write down what was only counted so far."""
        for known in self._repeated.values():
            self._write_counted(known)

    # --- files

    def _begin(self) -> None:
        """Find where to go on: after the last whole line of the newest segment."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        if not identity(self._folder):
            write_atomic(os.path.join(self._folder, "id"), [secrets.token_hex(8).encode("ascii")], durable=False)
        segments = _segments(self._folder)
        self._newest = max(0, segments[-1] - 1) if segments else 0
        if segments:
            path = _path(self._folder, segments[-1])
            entries, whole = _scan(_data(path))
            self._newest = max([self._newest] + [entry["n"] for entry in entries])
            if whole != os.path.getsize(path):
                os.truncate(path, whole)  # torn by a power cut
            self._open = path

    def _write(self, entry: Dict[str, Any]) -> None:
        try:
            if not self._open:
                self._begin()
            self._append(dict(entry, n=self._newest + 1))
        except (OSError, ValueError):
            self.lost += 1
            self._open = ""  # looked for anew: the folder may have been removed

    def _append(self, entry: Dict[str, Any]) -> None:
        line = _encode(entry)
        path = self._open
        if not path or os.path.getsize(path) + len(line) > self._segment_most:
            path = _path(self._folder, entry["n"])
            self._drop(len(line))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            end = os.fstat(fd).st_size
            if os.write(fd, line) != len(line):
                os.ftruncate(fd, end)  # a full disk took half of it
                raise OSError("no room")
            self._newest, self._open = entry["n"], path
            self._syncer.sync(fd)
        finally:
            os.close(fd)

    def _drop(self, needed: int) -> None:
        """Remove the oldest segments until `room` more bytes fit."""
        sizes = [(_path(self._folder, n), os.path.getsize(_path(self._folder, n))) for n in _segments(self._folder)]
        total = sum(size for _, size in sizes) + self._segment_most
        for path, size in sizes:
            if total <= self._most:
                break
            os.unlink(path)
            total -= size
        self._open = ""

    def read(self, since: int = 0) -> Page:
        """Return the entries after number `since`, what is only counted so far included."""
        self.flush()
        return read_history(os.path.dirname(self._folder), since)

    def close(self) -> None:
        """Write down what was only counted, and wait until all is on the disk."""
        self.flush()
        self._syncer.close()


def read_history(root: str, since: int = 0, known: str = "", most: int = 500) -> Page:
    """Return up to `most` entries after number `since`, oldest first.  Needs no lock; never raises for damage.

    `known` is the id of the history that `since` is a number of: where this is another one, it is read from its start.
    """
    folder = os.path.join(root, "history")
    own = identity(folder)
    if known and known != own:
        since = 0
    segments = _segments(folder)
    entries: List[Dict[str, Any]] = []
    newest, left = 0, _MOST_READ
    for number, following in zip(segments, segments[1:] + [1 << 60]):  # noqa: B905 - 3.7
        if following <= since + 1 and following != 1 << 60:
            continue
        for entry in _scan(_data(_path(folder, number)))[0]:
            newest = max(newest, entry["n"])
            if entry["n"] > since and left > 0 and len(entries) < most:
                entries.append(entry)
                left -= len(_encode(entry))
    return Page(own, entries, entries[-1]["n"] if entries else since, newest)


def newest(root: str) -> Tuple[str, int]:
    """Return the history's id and the number of its last entry, ("", 0) where there is none."""
    folder = os.path.join(root, "history")
    segments = _segments(folder)
    if not segments:
        return identity(folder), 0
    entries = _scan(_data(_path(folder, segments[-1])))[0]
    return identity(folder), max([segments[-1] - 1] + [entry["n"] for entry in entries])


def identity(folder: str) -> str:
    """Return which history the folder holds, "" for none."""
    try:
        with open(os.path.join(folder, "id"), "rb") as file:
            text = file.read(64).decode("ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if _ID.match(text) else ""


def _segments(folder: str) -> List[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [_FILE.match(name) for name in names]
    return sorted(int(match.group(1)) for match in found if match)


def _path(folder: str, number: int) -> str:
    return os.path.join(folder, "%d.jsonl" % number)


def _data(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_SEGMENT_MOST)
    except OSError:
        return b""


def _encode(entry: Dict[str, Any]) -> bytes:
    data = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode("utf-8")
    if len(data) > _MOST_LINE:
        short = {name: entry[name] for name in ("n", "at", "up", "kind", "times")}
        data = json.dumps(dict(short, text="too long"), sort_keys=True, separators=(",", ":")).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _scan(data: bytes) -> Tuple[List[Dict[str, Any]], int]:
    """Return the intact entries, and the size up to the last line's end."""
    entries = []
    whole = data.rfind(b"\n") + 1
    for line in data[:whole].split(b"\n")[:-1]:
        entry = _decode(line)
        if entry is not None:
            entries.append(entry)
    return entries, whole


def _decode(line: bytes) -> Optional[Dict[str, Any]]:
    if len(line) > _MOST_LINE + 9 or line[:9] != b"%08x " % zlib.crc32(line[9:]):
        return None
    try:
        entry = json.loads(line[9:].decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    number = entry.get("n") if isinstance(entry, dict) else None
    return entry if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 50 else None
