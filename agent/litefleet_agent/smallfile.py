"""Small files below the agent's root, whole or not there, with the file system's refusals as sentences."""

import json
import os
from typing import Any, Dict, Optional, Tuple

from .atomic import write_atomic
from .store import Store, explain_os_error

__all__ = ["read_small", "write_small"]

_MOST = 1 << 20  # bytes


def write_small(store: Store, parts: Tuple[str, str], data: bytes) -> None:
    """Write the file `parts` (folder, name) below the root; StoreError when it can't be."""
    path = store.path(*parts)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, [data])
    except OSError as error:
        raise explain_os_error(error, "%s could not be written" % "/".join(parts)) from error


def read_small(store: Store, folder: str, name: str) -> Optional[Dict[str, Any]]:
    """Return the JSON object in a file below the root; None when there is none that can be read."""
    try:
        with open(store.path(folder, name), "rb") as file:
            value = json.loads(file.read(_MOST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
