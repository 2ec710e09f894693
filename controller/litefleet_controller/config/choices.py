"""Values that the configuration gives to the parts that build: the runtime a device gets, and how goldens are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["DEFAULT_PADDLELITE", "GoldenSpec", "RuntimeChoice"]

DEFAULT_PADDLELITE = "2.13rc0"  # the newest version with published wheels


@dataclass(frozen=True)
class RuntimeChoice:
    """What the configuration names as runtime: published wheels, one wheel file, a folder, or what the device has."""

    kind: Literal["wheels", "wheel", "folder", "system"] = "wheels"
    paddlelite: str = DEFAULT_PADDLELITE  # the version, for kind "wheels"
    numpy: str = "numpy<2"  # a requirement; "" for none
    path: Path = Path()  # for kinds "wheel" and "folder"


@dataclass(frozen=True)
class GoldenSpec:
    """How a model's golden outputs are made; `inputs` gives dims for the free ones, by input name."""

    engine: Literal["paddle", "paddlelite", "files"] = "paddle"
    files: tuple[Path, ...] = ()
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cases: int = 2
    seed: int = 0
    paddlelite: str = DEFAULT_PADDLELITE  # the version, for engine "paddlelite"
