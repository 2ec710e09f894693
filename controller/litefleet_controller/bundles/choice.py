"""What a runtime bundle is asked for: the configured choice, and the kind of device it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["DeviceKind", "RuntimeChoice"]


@dataclass(frozen=True)
class RuntimeChoice:
    """What the configuration names as runtime: published wheels, one wheel file, a folder, or what the device has."""

    kind: Literal["wheels", "wheel", "folder", "system"] = "wheels"
    paddlelite: str = "2.13rc0"  # the version, for kind "wheels"
    numpy: str = "numpy<2"  # a requirement; "" for none
    path: Path = Path()  # for kinds "wheel" and "folder"


@dataclass(frozen=True)
class DeviceKind:
    """What decides which binaries a device can load, e.g. ("aarch64", "cp39", "glibc", "2.31")."""

    arch: str
    python_tag: str
    libc_kind: str
    libc_version: str
