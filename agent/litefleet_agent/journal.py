"""What a device was about to do with its links, and how far it got: `<root>/journal`.

One line per step, `<CRC-32 of the rest> <JSON of the whole operation>`: each line stands for itself, so a damaged one costs
one step and no more.  The last line of an operation says its state.  Lines are synced before anything goes on.
"""

import json
import os
import zlib
from typing import Dict, List, NamedTuple, Optional, Tuple

from .atomic import fsync_folder, write_atomic
from .operation import Operation

__all__ = ["Contents", "Journal"]

COMPACT_AT = 128 * 1024  # bytes
_KEPT = 50  # finished operations that stay when it is compacted
_MAX_READ = 4 << 20  # bytes; only somebody else can have made it longer
_MAX_LINE = 16 * 1024


class Contents(NamedTuple):
    """What the journal says."""

    operations: List[Operation]  # each in its last state, in the order of their numbers
    damaged: int  # lines that were passed over

    def open(self) -> List[Operation]:
        """Return the operations that still have to come to an end: of each model at most the last one."""
        last = {operation.model: operation for operation in self.operations}
        return [operation for operation in last.values() if operation.open]


def _encode(operation: Operation) -> bytes:
    data = json.dumps(operation.to_dict(), sort_keys=True, separators=(",", ":")).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _intact(line: bytes) -> bool:
    return len(line) <= _MAX_LINE and line[:9] == b"%08x " % zlib.crc32(line[9:])


def _decode(line: bytes) -> Optional[Operation]:
    try:
        return Operation.from_dict(json.loads(line[9:].decode("utf-8")))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None  # a newer agent's, or a person's


def _scan(data: bytes) -> Tuple[List[Operation], int, int]:
    """Return the steps, the number of damaged lines, and the size up to the end of the last intact line."""
    steps, damaged, doubtful, place, whole = [], 0, 0, 0, 0
    for line in data.split(b"\n")[:-1]:
        place += len(line) + 1
        if not _intact(line):
            doubtful += 1  # torn, should nothing intact follow
            continue
        damaged, doubtful, whole = damaged + doubtful, 0, place
        step = _decode(line)
        if step is None:
            damaged += 1
        else:
            steps.append(step)
    return steps, damaged, whole


class Journal:
    """The journal of one root.  Reading needs no lock; whoever appends holds the store's."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, "journal")

    def read(self) -> Contents:
        """Return what it says, nothing when there is none; OSError when it can't be read."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Contents([], 0)
        try:
            steps, damaged, _ = _scan(self._data(fd)[1])
        finally:
            os.close(fd)
        last: Dict[int, Operation] = {step.number: step for step in steps}
        return Contents([last[number] for number in sorted(last)], damaged)

    @staticmethod
    def _data(fd: int) -> Tuple[int, bytes]:
        """Return the offset from which it is read, and the bytes."""
        offset = max(0, os.fstat(fd).st_size - _MAX_READ)
        parts = []
        os.lseek(fd, offset, os.SEEK_SET)
        for part in iter(lambda: os.read(fd, 1 << 20), b""):
            parts.append(part)
        return offset, b"".join(parts)

    def append(self, operation: Operation) -> None:
        """Add an operation's step, durable when this returns; OSError leaves the journal as it was, if at all possible."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            offset, data = self._data(fd)
            if not data:
                fsync_folder(self._root)  # before the first line, so that an empty file always means: perhaps not yet
            end = offset + _scan(data)[2]
            if end != offset + len(data):
                os.ftruncate(fd, end)  # a torn last line
            self._write(fd, end, _encode(operation))
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        if size > COMPACT_AT:
            self._compact()

    @staticmethod
    def _write(fd: int, end: int, line: bytes) -> None:
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError:
            try:
                os.ftruncate(fd, end)
            except OSError:
                pass  # the next append does it
            raise

    def _compact(self) -> None:
        contents = self.read()
        still_open = contents.open()
        finished = [o for o in contents.operations if o not in still_open]
        kept = sorted(finished[-_KEPT:] + still_open, key=lambda o: o.number)
        try:
            write_atomic(self._path, [_encode(o) for o in kept])
        except OSError:
            pass  # what was to be written is written: it stays long until there is room

    def clear_unfinished(self) -> None:
        """Remove what a compaction that was cut short left; OSError when it can't be."""
        for name in os.listdir(self._root):
            if name.startswith(".tmp-journal-"):
                os.unlink(os.path.join(self._root, name))
