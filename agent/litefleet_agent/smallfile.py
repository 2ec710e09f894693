"""Small files below the agent's root, whole or not there, with the file system's refusals as sentences."""

import os
from typing import Tuple

from .atomic import write_atomic
from .store import Store, explain_os_error

__all__ = ["write_small"]


def write_small(store: Store, parts: Tuple[str, str], data: bytes) -> None:
    """Write the file `parts` (folder, name) below the root; StoreError when it can't be."""
    path = store.path(*parts)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, [data])
    except OSError as error:
        raise explain_os_error(error, "%s could not be written" % "/".join(parts)) from error
