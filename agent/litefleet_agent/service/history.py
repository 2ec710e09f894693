"""The history of events on this device, bounded: `<root>/history/<number>.jsonl`, one line per entry (see releases.crc_log).

Entries are numbered from 1; a file is named by the number of its first entry.  The oldest file is removed when all together
exceed their limit.  `history/id` identifies the history: under another id, the numbers begin again.
An entry that repeats one of the last hour is counted, and written again when its count has doubled, or on `flush`.
"""

import os
import re
import secrets
import threading
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..findings import Finding
from ..formats.files import read_regular
from ..releases.atomic import write_atomic
from ..releases.crc_log import CrcLog
from ..releases.lease import Clock

_SEGMENTS = 8  # files of a full history
_FILE = re.compile(r"([0-9]{1,15})\.jsonl\Z")
_ID = re.compile(r"[0-9a-f]{16}\Z")
_LONGEST = 8192  # bytes of an entry's JSON
_LOG = CrcLog(_LONGEST)
_MOST_TEXT = 500  # characters
_MOST_FINDINGS = 10
_REPEAT_WINDOW_S = 3600.0
_MOST_REPEATED = 256  # different entries whose repeats are counted
_MOST_READ = 256 << 10  # bytes of JSON in one page
_SEGMENT_MOST = 256 << 20  # bytes; a longer file is not this program's
_MOST_NUMBER = 1 << 50


class Page(NamedTuple):
    """A part of a history, oldest entry first."""

    identity: str  # of the history; "" = none exists
    entries: List[Dict[str, object]]
    next: int  # the `since` of the next page
    newest: int  # number of the last entry; 0 = none


class History:
    """The one writer of a device's history.  No method raises for the file system's errors: `lost` counts them."""

    def __init__(self, root: str, most_bytes: int, clock: Optional[Clock] = None) -> None:
        self.lost = 0  # entries that could not be written
        self._folder = os.path.join(root, "history")
        self._most, self._segment_most = most_bytes, max(2048, most_bytes // _SEGMENTS)
        self._clock = clock or Clock()
        self._repeated: Dict[Tuple[str, ...], _Repeated] = {}
        self._syncer = Syncer()
        self._newest = 0
        self._open = ""  # path of the file that is appended to; "" = none
        try:
            self._begin()
        except OSError:
            self.lost += 1  # the first entry tries again

    def add(
        self,
        kind: str,
        model: str = "",
        release: str = "",
        findings: Sequence[Finding] = (),
        text: str = "",
        values: Optional[Mapping[str, object]] = None,
    ) -> None:
        """Append an entry.  A repeat of a recent entry may only increment its counter."""
        key = (kind, model, release) + tuple(f.code for f in findings[:_MOST_FINDINGS])
        entry = self._entry(kind, model, release, findings, text, values)
        known = self._repeated.get(key)
        if known is not None and 0 <= entry.up - known.since < _REPEAT_WINDOW_S:
            known.times += 1
            known.latest = entry
            if known.times >= known.written:
                self._write_counted(known)
            return
        if known is not None:
            self._write_counted(known)
        self._remember(key, entry)
        self._write(entry, 1)

    def _entry(
        self,
        kind: str,
        model: str,
        release: str,
        findings: Sequence[Finding],
        text: str,
        values: Optional[Mapping[str, object]],
    ) -> "_Entry":
        at, up = round(self._clock.wall(), 3), round(self._clock.boottime(), 3)
        details: Dict[str, object] = {
            "model": model[:128],
            "release": release[:64],
            "findings": [{"code": f.code, "seen": f.observed[:_MOST_TEXT]} for f in findings[:_MOST_FINDINGS]],
            "text": text[:_MOST_TEXT],
            "values": values,
        }
        return _Entry(at, up, kind[:40], {name: value for name, value in details.items() if value})

    def _remember(self, key: Tuple[str, ...], entry: "_Entry") -> None:
        self._repeated.pop(key, None)
        if len(self._repeated) >= _MOST_REPEATED:
            self._write_counted(self._repeated.pop(next(iter(self._repeated))))
        self._repeated[key] = _Repeated(entry)

    def _write_counted(self, known: "_Repeated") -> None:
        if known.times:
            self._write(known.latest, known.times)
            known.written += known.times
            known.times = 0

    def flush(self) -> None:
        """Write the repeats that were only counted so far."""
        for known in self._repeated.values():
            self._write_counted(known)

    # --- files

    def _begin(self) -> None:
        """Find the end of the newest file, and remove a line that a power cut tore."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        if not identity(self._folder):
            write_atomic(os.path.join(self._folder, "id"), [secrets.token_hex(8).encode("ascii")], durable=False)
        segments = _segments(self._folder)
        self._newest = max(0, segments[-1] - 1) if segments else 0
        if segments:
            path = _path(self._folder, segments[-1])
            entries, complete_end = _scan(path)
            self._newest = max([self._newest] + [entry.number for entry in entries])
            if complete_end != os.path.getsize(path):
                os.truncate(path, complete_end)
            self._open = path

    def _write(self, entry: "_Entry", times: int) -> None:
        try:
            if not self._open:
                self._begin()
            self._append(self._newest + 1, entry.line(self._newest + 1, times))
        except (OSError, ValueError):
            self.lost += 1
            self._open = ""  # found again by the next entry: the folder may have been removed

    def _append(self, number: int, line: bytes) -> None:
        path = self._open
        if not path or os.path.getsize(path) + len(line) > self._segment_most:
            path = _path(self._folder, number)
            self._drop_oldest()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _LOG.write(fd, os.fstat(fd).st_size, line, durable=False)
            self._newest, self._open = number, path
            self._syncer.sync(fd)
        finally:
            os.close(fd)

    def _drop_oldest(self) -> None:
        """Remove the oldest files until another full one fits."""
        sizes = [(_path(self._folder, n), os.path.getsize(_path(self._folder, n))) for n in _segments(self._folder)]
        total = sum(size for _, size in sizes) + self._segment_most
        for path, size in sizes:
            if total <= self._most:
                break
            os.unlink(path)
            total -= size
        self._open = ""

    def read(self, since: int = 0) -> Page:
        """Return the entries after number `since`, with the repeats that were only counted so far."""
        self.flush()
        return read_history(os.path.dirname(self._folder), since)

    def close(self) -> None:
        """Write the counted repeats, and wait up to 2 s until all is synced."""
        self.flush()
        self._syncer.close()


class _Entry(NamedTuple):
    """An event that is not numbered yet; `details` are the JSON keys that have a value."""

    at: float  # seconds since 1970
    up: float  # seconds since the boot
    kind: str
    details: Dict[str, object]

    def line(self, number: int, times: int) -> bytes:
        """Return the entry's line; one that is too long loses its details."""
        head: Dict[str, object] = {"n": number, "at": self.at, "up": self.up, "kind": self.kind, "times": times}
        line = _LOG.encode(dict(head, **self.details))
        return line if _LOG.decode(line[:-1]) is not None else _LOG.encode(dict(head, text="too long"))


class _Repeated:
    """Entries with the same kind, model, release and finding codes."""

    def __init__(self, entry: _Entry) -> None:
        self.since = entry.up
        self.written = 1
        self.times = 0  # repeats that are not written yet
        self.latest = entry


class Syncer:
    """Syncs one file at a time in a thread; a file that arrives meanwhile is synced next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Optional[int] = None
        self._thread: Optional[threading.Thread] = None

    def sync(self, fd: int) -> None:
        """Sync the file of `fd` soon; the caller may close it.  Raises OSError when no descriptor is left."""
        copy = os.dup(fd)
        with self._lock:
            if self._next is not None:
                os.close(self._next)  # nearly always the same file, and the newer descriptor syncs both writes
            self._next = copy
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._work, name="litefleet-sync", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is available: the kernel writes the file later
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
                pass  # the kernel writes the file later
            finally:
                os.close(fd)

    def close(self, timeout_s: float = 2.0) -> None:
        """Wait until all files are synced, at most `timeout_s` seconds."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)


# --- reading


class _Numbered(NamedTuple):
    """An entry as it was read."""

    number: int
    content: Dict[str, object]


def read_history(root: str, since: int = 0, known: str = "", most: int = 500) -> Page:
    """Return up to `most` entries after number `since`, oldest first, in at most 256 KiB.  Takes no lock.

    `known` is the id of the history that `since` counts in: another history is read from its start.  Damaged lines are
    skipped, files that cannot be read count as empty.
    """
    folder = os.path.join(root, "history")
    own = identity(folder)
    if known and known != own:
        since = 0
    segments = _segments(folder)
    entries: List[Dict[str, object]] = []
    last, newest_number, left = since, 0, _MOST_READ
    for number, following in zip(segments, segments[1:] + [1 << 60]):  # noqa: B905 - 3.7
        if following <= since + 1 and following != 1 << 60:
            continue
        for entry in _scan(_path(folder, number))[0]:
            newest_number = max(newest_number, entry.number)
            if entry.number > since and left > 0 and len(entries) < most:
                entries.append(entry.content)
                last = entry.number
                left -= len(_LOG.encode(entry.content))
    return Page(own, entries, last, newest_number)


def newest(root: str) -> Tuple[str, int]:
    """Return the history's id and the number of its last entry, ("", 0) when none exists."""
    folder = os.path.join(root, "history")
    segments = _segments(folder)
    if not segments:
        return identity(folder), 0
    entries = _scan(_path(folder, segments[-1]))[0]
    return identity(folder), max([segments[-1] - 1] + [entry.number for entry in entries])


def identity(folder: str) -> str:
    """Return the id of the history in a folder, "" for none."""
    try:
        text = read_regular(os.path.join(folder, "id"), 64).decode("ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if _ID.match(text) else ""


def _segments(folder: str) -> List[int]:
    """Return the numbers of the first entries of all files, in order."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [_FILE.match(name) for name in names]
    return sorted(int(match.group(1)) for match in found if match)


def _path(folder: str, number: int) -> str:
    return os.path.join(folder, "%d.jsonl" % number)


def _scan(path: str) -> Tuple[List[_Numbered], int]:
    """Return the intact entries of a file, and the size up to the end of its last complete line."""
    try:
        scan = _LOG.scan(read_regular(path, _SEGMENT_MOST))
    except OSError:
        return [], 0
    entries = []
    for content in scan.entries:
        number = content.get("n")
        if isinstance(number, int) and not isinstance(number, bool) and 0 < number < _MOST_NUMBER:
            entries.append(_Numbered(number, content))
    return entries, scan.complete_end
