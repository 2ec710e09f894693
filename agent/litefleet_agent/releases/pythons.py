"""Pythons that controllers brought into the agent's root: removes those that nothing runs any more.

`python/KEY/` holds one, `python/current` names the one in use.  The controller places them by sh, before any agent runs.
"""

import os
import re
import shutil
from typing import List, Set

from .atomic import fsync_folder
from .store import Store

_KEY = re.compile(r"^[0-9a-f]{32}$")
# What a broken transfer or removal left.
_LEFT = re.compile(r"^\.(?:new|gone)-[0-9a-f-]{1,80}$|^\.current-\d{1,20}$|^\.part-[0-9a-f]{64}$")


def sweep_pythons(store: Store, executable: str) -> None:
    """Remove the brought Pythons but `executable`'s own and those that a process runs in; the caller holds the store's lock.

    Where `executable` is the device's own, the one that `current` names goes too: it was brought for want of that.
    Raises OSError.
    """
    folder = store.path("python")
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    folder = os.path.realpath(folder)
    keys = [name for name in names if _KEY.match(name)]
    used = _in_use(folder) | {key for key in keys if _lies_in(executable, os.path.join(folder, key))}
    if used and not used & {_current(folder)}:
        used.add(_current(folder))  # another session has just placed it
    for key in keys:
        if key not in used:
            _drop(folder, key)
    for name in names:
        if _LEFT.match(name):
            _remove_left(os.path.join(folder, name))
    if not used and _current(folder):
        os.unlink(os.path.join(folder, "current"))


def _remove_left(path: str) -> None:
    """Remove what a transfer left that has ended: the number in its name is the process's that made it."""
    number = path.rpartition("-")[2]
    if not (number.isdecimal() and os.path.exists("/proc/" + number)):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def _drop(folder: str, key: str) -> None:
    """Remove one Python, first by one rename: half of one never has its name."""
    temp = os.path.join(folder, ".gone-" + key)
    shutil.rmtree(temp, ignore_errors=True)
    os.rename(os.path.join(folder, key), temp)
    fsync_folder(folder)
    shutil.rmtree(temp, ignore_errors=True)


def _current(folder: str) -> str:
    try:
        with open(os.path.join(folder, "current"), "rb") as stream:
            return stream.read(100).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _lies_in(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(folder + os.sep)


def _in_use(folder: str) -> Set[str]:
    """Return the keys of the Pythons below `folder` that a process of this user runs in: their loader is its program."""
    found = set()
    for name in _processes():
        try:
            program = os.readlink("/proc/%s/exe" % name)
        except OSError:  # it has ended, or is another user's
            continue
        if program.startswith(folder + os.sep):
            found.add(program[len(folder) + 1 :].split(os.sep)[0])
    return found


def _processes() -> List[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []
