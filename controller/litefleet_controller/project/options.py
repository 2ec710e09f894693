"""What the command line chose, for every command alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """What the command line chose."""

    config: Path
    inventory: Path | None = None
    limit: str = ""
    models: tuple[str, ...] = ()
    accept_new_host_keys: bool = False
