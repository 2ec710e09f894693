"""The kinds of values that several parts of litefleet.yaml have: paths and architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from litefleet_agent.facts.arch import ARCHES, arch_of
from pydantic import AfterValidator, ValidationInfo

from ..common.files import expanded


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Return the path, `~` expanded, relative to the configuration's folder."""
    base: Path = (info.context or {}).get("base", Path())
    return base / expanded(path)


def _canonical_arch(name: str) -> str:
    """Return an architecture's canonical name; ValueError when Paddle-Lite has none for it."""
    arch = arch_of(name)
    if arch is None:
        raise ValueError(f"'{name}' is not an architecture that litefleet converts for; known are {', '.join(ARCHES)}")
    return arch.name


FilePath = Annotated[Path, AfterValidator(_resolve)]
ArchName = Annotated[str, AfterValidator(_canonical_arch)]
