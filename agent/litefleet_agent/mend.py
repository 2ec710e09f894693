"""Drops what is damaged, so that it can be sent again: blobs and runtimes that changed, links that lead elsewhere."""

import os
import shutil
from typing import List

from .check import runtime_differs, strange_links
from .links import point
from .store import Store, StoreError, explain_os_error, needed

__all__ = ["mend"]


def mend(store: Store) -> List[str]:
    """Drop what is not as it was confirmed and return what that was; whole files stay.  Call it under the store's lock.

    Raises StoreError when something can't be removed.
    """
    dropped: List[str] = []
    try:
        for identity in sorted(set(store.current().values())):
            dropped += _drop_files(store, identity)
        for name in strange_links(store):
            point(store.path("models"), name, "current", "")
            dropped.append("models/%s/current" % name)
    except OSError as error:
        raise explain_os_error(error, "what is damaged could not be removed") from error
    return dropped


def _drop_files(store: Store, identity: str) -> List[str]:
    try:
        manifest = store.release(identity)
    except StoreError:  # its manifest is gone or damaged: it is sent anew as a whole
        return []
    dropped = []
    for sha in needed(manifest):
        if os.path.lexists(store.blob(sha)) and not store.check_blob(sha):
            os.unlink(store.blob(sha))
            dropped.append("blobs/" + sha)
    key = str(manifest["runtime"])
    if key != "system" and os.path.isdir(store.path("runtimes", key)) and runtime_differs(store, key):
        _drop_runtime(store, key)
        dropped.append("runtimes/" + key)
    return dropped


def _drop_runtime(store: Store, key: str) -> None:
    """Take a runtime away by one rename first: half of one is never seen under its name."""
    aside = store.path("runtimes", ".tmp-%s-%d" % (key, os.getpid()))
    os.replace(store.path("runtimes", key), aside)
    shutil.rmtree(aside, ignore_errors=True)
