"""One project: litefleet.yaml with its inventory and state, and runs over its fleet.

This module loads nothing else, so that the command line can build `Options` before it imports the parts that do the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

__all__ = ["Files", "Options"]


@dataclass(frozen=True)
class Options:
    """The options that select a project, its devices and its models; the same for every command.

    `limit` is the text of `--limit`, "" for all devices.  `models` is empty for all models.
    """

    config: Path
    inventory: Path | None = None
    limit: str = ""
    models: tuple[str, ...] = ()
    accept_new_host_keys: bool = False
    cluster: str = ""  # address of the Dask scheduler whose workers hold the connections; "" = this process does


class Files(Enum):
    """What of a project's local files a command needs, beside configuration and inventory."""

    ALL = "all"
    SOURCES = "sources"  # the models', and the SSH keys
    KEYS = "keys"  # the SSH keys
    NONE = "none"
