"""The journal of changes to a device's links, `<root>/journal`: what an operation is to do, and how far it got.

A `CrcLog` with one line per step, each holding the whole operation, so that a damaged line costs one step and no more.  The last
line of an operation holds its state.  A line is synced before the operation continues.
"""

from __future__ import annotations

import os

from ..formats.checked import is_safe_name, is_sha, mapping, matching, number, text, whole
from ..formats.files import read_regular
from ..formats.light import NamedTuple, TextEnum, dumps, loads
from .atomic import fsync_folder, write_atomic
from .crc_log import CrcLog, Scan
from .lease import Clock, Lease

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Optional, Tuple


def _is_release(text: object) -> bool:
    """Say whether `text` is a release's id, or "" for none."""
    return text == "" or is_sha(text)


class Kind(TextEnum):
    """The kind of an operation."""

    ACTIVATE = "activate"
    ROLLBACK = "rollback"


class State(TextEnum):
    """How far an operation got."""

    BEGUN = "begin"  # links may or may not have changed
    SWITCHED = "switched"  # links changed, under a lease
    UNDOING = "undoing"  # links are being put back on request
    CONFIRMED = "confirmed"
    DONE = "done"  # links changed, without a lease
    UNDONE = "undone"  # links are back


_MOST_TOLD = 1 << 53  # a number that every JSON reader keeps exact


class Told(NamedTuple):
    """Who asked for a switch: a fleet, the controller's state (a random id), and a number that this state increases."""

    fleet: str
    state: str
    number: int

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form, empty for NOBODY."""
        return dict(self._asdict()) if self.state else {}

    @classmethod
    def from_dict(cls, data: object) -> "Told":
        """Read the JSON form back; NOBODY for what is empty or missing.  Raises ValueError for anything else."""
        if not data:
            return NOBODY
        fields = mapping(data)
        state = text(fields.get("state"), 64, "`state`")
        return cls(
            text(fields.get("fleet"), 128, "`fleet`"), state, whole(fields.get("number"), 0, _MOST_TOLD, "`number`")
        )


NOBODY = Told("", "", 0)  # installed from a file, or by a controller that sends no identity


class Order(NamedTuple):
    """What a controller sends with a switch: its identity, and what it has read from the device's `hello`."""

    told: Told
    seen: Told


class Operation(NamedTuple):
    """One change of one model's links.  Release ids are SHA-256 texts; "" stands for nothing."""

    number: int  # grows with each operation on this device
    kind: Kind
    model: str
    before: str  # what `current` was
    before_previous: str  # what `previous` was
    to: str
    state: State
    at: float  # seconds since the epoch: when it entered this state
    lease: Optional[Lease] = None
    why: str = ""  # why it was or is to be undone
    told: Told = NOBODY  # who asked for it; older agents do not keep it

    @property
    def open(self) -> bool:
        """Whether it is not finished."""
        return self.state in (State.BEGUN, State.SWITCHED, State.UNDOING)

    def moved(self, state: State, clock: Clock, why: str = "") -> "Operation":
        """Return the operation in another state, as of now."""
        return self._replace(state=state, at=clock.wall(), why=why[:1000])

    def overdue(self, clock: Clock) -> str:
        """Return why it must be undone now, or ""."""
        if self.state is State.BEGUN:
            return "the switch was interrupted"
        if self.state is State.UNDOING:
            return self.why or "a revert was interrupted"
        return self.lease.over(clock) if self.open and self.lease else ""

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        told = {"told": self.told.to_dict()} if self.told.state else {}
        return {
            "op": self.number,
            "kind": self.kind.value,
            "model": self.model,
            "from": self.before,
            "from_previous": self.before_previous,
            "to": self.to,
            "state": self.state.value,
            "at": self.at,
            "lease": dict(self.lease._asdict()) if self.lease else None,
            "why": self.why,
            **told,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Operation":
        """Read the JSON form back.  Raises KeyError for a missing field, ValueError for one that is not well formed."""
        return cls(
            int(number(data["op"])),
            Kind(data["kind"]),
            matching(is_safe_name, data["model"]),
            matching(_is_release, data["from"]),
            matching(_is_release, data["from_previous"]),
            matching(_is_release, data["to"]),
            State(data["state"]),
            number(data["at"]),
            None if data["lease"] is None else _lease(mapping(data["lease"])),
            text(data["why"], 2000),
            Told.from_dict(data.get("told")),
        )


def _lease(data: Mapping[str, object]) -> Lease:
    return Lease(
        number(data["seconds"]),
        text(data["boot_id"], 100),
        number(data["deadline_boottime"]),
        number(data["deadline_wall"]),
    )


COMPACT_AT = 128 * 1024  # bytes
KEPT = 50  # finished operations that stay when it is compacted
_MAX_READ = 4 << 20  # bytes; the agent itself never makes it longer
_LONGEST_STEP = 16 * 1024  # bytes
_LOG = CrcLog(longest=_LONGEST_STEP)


class Contents(NamedTuple):
    """Contents of the journal."""

    operations: List[Operation]  # each in its last state, in the order of their numbers
    damaged: int  # lines that were skipped

    def open(self) -> List[Operation]:
        """Return the unfinished operations: of each model at most the last one."""
        last = {operation.model: operation for operation in self.operations}
        return [operation for operation in last.values() if operation.open]

    @property
    def told(self) -> Told:
        """What the device was last told; NOBODY where no operation kept it."""
        return next((o.told for o in reversed(self.operations) if o.told.state), NOBODY)


def _operations(scan: Scan) -> Tuple[List[Operation], int]:
    """Return the steps of a journal and how many of its lines hold none."""
    steps, damaged = [], scan.damaged
    for entry in scan.entries:
        try:
            steps.append(Operation.from_dict(entry))
        except (KeyError, TypeError, ValueError, OverflowError):
            damaged += 1  # written by a newer agent or by hand
    return steps, damaged


class Journal:
    """The journal of one root.  Reading needs no lock; a caller that appends holds the store's lock."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = os.path.join(root, "journal")

    def read(self) -> Contents:
        """Return its contents, empty when there is no journal.  Raises OSError when it cannot be read."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # not waiting for a FIFO's writer
        except FileNotFoundError:
            return Contents([], 0)
        try:
            steps, damaged = _operations(_LOG.scan(self._data(fd)[1]))
        finally:
            os.close(fd)
        last: Dict[int, Operation] = {}
        for step in steps:
            earlier = last.get(step.number)
            if earlier is not None and not step.told.state:  # an older agent continued this operation
                step = step._replace(told=earlier.told)
            last[step.number] = step
        return Contents([last[number] for number in sorted(last)], damaged)

    @staticmethod
    def _data(fd: int) -> Tuple[int, bytes]:
        """Return the offset from which the journal is read, and the bytes."""
        offset = max(0, os.fstat(fd).st_size - _MAX_READ)
        parts = []
        os.lseek(fd, offset, os.SEEK_SET)
        for part in iter(lambda: os.read(fd, 1 << 20), b""):
            parts.append(part)
        return offset, b"".join(parts)

    def append(self, operation: Operation) -> None:
        """Append an operation's step, durable on return.  Raises OSError, with the journal unchanged where that is possible."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            offset, data = self._data(fd)
            if not data:
                fsync_folder(self._root)  # before the first line, so that an empty file always means: perhaps not yet
            end = offset + _LOG.scan(data).intact_end
            if end != offset + len(data):
                os.ftruncate(fd, end)  # a torn last line
            _LOG.write(fd, end, _LOG.encode(operation.to_dict()))
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        if size > COMPACT_AT:
            self._compact()

    def _compact(self) -> None:
        contents = self.read()
        still_open = contents.open()
        finished = [o for o in contents.operations if o not in still_open]
        kept = sorted(finished[-KEPT:] + still_open, key=lambda o: o.number)
        try:
            write_atomic(self._path, [_LOG.encode(o.to_dict()) for o in kept])
        except OSError:
            pass  # the step itself is written: the journal stays long until there is space

    def clear_unfinished(self) -> None:
        """Remove the temporary file of an interrupted compaction.  Raises OSError."""
        for name in os.listdir(self._root):
            if name.startswith(".tmp-journal-"):
                os.unlink(os.path.join(self._root, name))


class LeaseCopies:
    """A copy of each open lease, `<root>/leases/<model>.json`: by it a lease that the journal has lost is found after a restart.

    Until then the lease watchdog remembers it.  A copy is made before the switch begins, and removed once it is confirmed or
    undone.  One that a power cut brings back is of an operation that the journal holds as finished.
    """

    def __init__(self, root: str) -> None:
        self._folder = os.path.join(root, "leases")

    def keep(self, operation: Operation) -> None:
        """Write the copy of an operation under a lease, durably.  Raises OSError."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        write_atomic(os.path.join(self._folder, operation.model + ".json"), [dumps(operation.to_dict()).encode()])

    def drop(self, model: str) -> None:
        """Remove the copy of a model's lease.  Raises OSError."""
        try:
            os.unlink(os.path.join(self._folder, model + ".json"))
        except FileNotFoundError:
            pass

    def kept(self) -> List[Operation]:
        """Return the copies; what cannot be read is left out."""
        found = []
        try:
            for name in sorted(os.listdir(self._folder)):
                if not name.startswith("."):
                    found += self._read(os.path.join(self._folder, name))
        except OSError:
            pass
        return found

    @staticmethod
    def _read(path: str) -> List[Operation]:
        try:
            operation = Operation.from_dict(mapping(loads(read_regular(path, _LONGEST_STEP).decode("utf-8"))))
        except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return []
        return [operation] if operation.model + ".json" == os.path.basename(path) and operation.lease else []
