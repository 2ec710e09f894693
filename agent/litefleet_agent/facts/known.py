"""The facts for a session's first answer: what changes only with a file is taken from a note of an earlier session.

A note holds the facts, the process that they belong to, and what the file system said of each file and folder behind them.  It is
kept with the code of the first answer (see `bytecode`), which a restart of the device outdates.
"""

from __future__ import annotations

import sys
import time

from ..bytecode import stamp_of
from ..formats.files import Tree
from ..formats.light import NamedTuple
from .present import Process, this_process, with_present_state
from .values import Facts

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Any, Iterable, Optional, Tuple

    Stamp = Optional[Tuple[int, int, int, int]]

_ONLINE = "/sys/devices/system/cpu/online"  # processors come and go without a change to any file
_SETTLED_NS = 3 * 10**9  # a file that changed so recently may change again within its time stamp's unit


class Note(NamedTuple):
    """Facts that hold while nothing behind them changes; all in plain tuples, as marshal takes them."""

    process: Tuple[object, ...]
    online: str
    files: Tuple[Tuple[str, Stamp], ...]
    facts: Tuple[object, ...]


class Known(NamedTuple):
    """The facts, and the note to keep."""

    facts: Facts
    note: Optional[Tuple[object, ...]]  # None where a file behind the facts has only just changed
    loaded: Tuple[str, ...] = ()  # the modules that were loaded because there was no note that holds


def gather_known(root: str, noted: object) -> Known:
    """Describe this machine as `gather` does; `noted` is the note of an earlier session, or None."""
    own = this_process()
    tree = Tree("/")
    note = Note(*noted) if isinstance(noted, tuple) and len(noted) == len(Note._fields) else None
    if note is not None and _holds(note, own, tree):
        return Known(with_present_state(_facts(note.facts), tree, own, root), tuple(note))
    before = set(sys.modules)
    from .machine import files_behind, gather

    loaded = tuple(name for name in sys.modules if name not in before)
    facts = gather(root, process=own)
    files = tuple((path, stamp_of(path)) for path in files_behind(facts, own))
    if not settled(files):
        return Known(facts, None, loaded)
    return Known(facts, (_identity(own), tree.text(_ONLINE, 4096), files, _plain(facts)), loaded)


def settled(files: Iterable[Tuple[str, Stamp]]) -> bool:
    """Return whether none of the files has changed so recently that another change could leave its stamp as it is."""
    latest = time.time_ns() - _SETTLED_NS
    return all(stamp is None or max(stamp[1:3]) < latest for _, stamp in files)


def _holds(note: Note, own: Process, tree: Tree) -> bool:
    if note.process != _identity(own) or note.online != tree.text(_ONLINE, 4096):
        return False
    return all(stamp_of(path) == stamp for path, stamp in note.files)


def _identity(own: Process) -> Tuple[object, ...]:
    """Return what of a process decides the facts; the agent's archive among `packages` does not."""
    packages = tuple(path for path in own.packages if not path.startswith("/proc/self/fd/") and path[-4:] != ".pyz")
    return tuple(own._replace(packages=packages, kernel="", hostname=""))


def _plain(value: Any) -> Any:
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value


def _facts(values: Tuple[object, ...]) -> Facts:
    empty = Facts()
    made = [type(old)(*new) if hasattr(old, "_fields") else new for old, new in zip(empty, values)]  # type: ignore[misc]  # noqa: B905
    return Facts(*made)  # type: ignore[arg-type]
