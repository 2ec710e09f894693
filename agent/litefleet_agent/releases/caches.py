"""Folders for what accelerators compile: one for each release that asks for a cache, under the agent's root, and gone with it.

caches/<release id>/: OpenCL's kernels and tuning, NNAdapter's compiled models.  The release's own processes write them, and
nothing else; nothing depends on them: what is missing is compiled again.
"""

import os
import shutil
from typing import Collection

from ..formats.checked import is_sha
from .store import Store

FOLDER = "caches"
MOST_CACHED = 256 << 20  # bytes of one release; a larger folder is emptied before its next use


def prepare_cache(store: Store, identity: str) -> str:
    """Return the folder of a release, made if it is missing and emptied if it is too large; "" when this user cannot write it."""
    folder = store.path(FOLDER, identity)
    try:
        if os.path.islink(folder) or _size(folder) > MOST_CACHED:
            drop_cache(store, identity)
        os.makedirs(store.path(FOLDER), mode=0o700, exist_ok=True)
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return ""
    usable = os.access(folder, os.W_OK | os.X_OK) and not os.path.islink(folder)
    return os.path.abspath(folder) if usable else ""


def drop_cache(store: Store, identity: str) -> None:
    """Remove a release's folder, if there is one; what this user may not remove stays."""
    folder = store.path(FOLDER, identity)
    if os.path.islink(folder):
        os.unlink(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_caches(store: Store, known: Collection[str]) -> None:
    """Remove the folders of releases that are not among `known`."""
    try:
        names = os.listdir(store.path(FOLDER))
    except OSError:  # no release ever asked for one
        return
    for name in names:
        if is_sha(name) and name not in known:
            drop_cache(store, name)


def _size(folder: str) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # another process has just removed it
                continue
    return total
