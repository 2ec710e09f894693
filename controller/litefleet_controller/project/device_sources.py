"""Finds the lists of hosts that people have: Ansible inventories and their SSH configuration, read as `import` reads them."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from litefleet_inventory import InventoryError, load
from litefleet_inventory.foreign import KINDS, guess_kind, is_script

from ..common.errors import UsageError

_IN_FOLDER = (
    "hosts",
    "hosts.ini",
    "hosts.yml",
    "hosts.yaml",
    "inventory",
    "inventory.ini",
    "inventory.yml",
    "inventory.yaml",
)
_NAMED = 8
_MOST_BYTES = 1 << 20  # of ansible.cfg


class DeviceSource(NamedTuple):
    """A file or folder of another tool that names devices."""

    kind: str  # one of litefleet_inventory.foreign.KINDS
    path: Path
    names: tuple[str, ...]  # of its devices

    def __str__(self) -> str:
        """Return what it is, for a sentence."""
        more = f" and {len(self.names) - _NAMED} more" if len(self.names) > _NAMED else ""
        what = "an Ansible inventory" if self.kind == "ansible" else self.kind
        count = f"{len(self.names)} device{'' if len(self.names) == 1 else 's'}"
        return f"{self.path} ({what}, {count}: {', '.join(self.names[:_NAMED])}{more})"


def read_source(path: Path, kind: str = "") -> DeviceSource:
    """Return the devices of a file or folder; `kind` "" is guessed by its name.

    Raises: UsageError for an unknown kind, and with the problems of a source that cannot be read or names no host.
    """
    chosen = kind or guess_kind(path)
    if chosen not in KINDS:
        raise UsageError(f"--from: {chosen[:40]!r} is not one of {', '.join(KINDS)}")
    try:
        devices = load(path, chosen).devices
    except InventoryError as error:
        raise UsageError(f"{path} cannot be used, read as {chosen}: {error}") from error
    return DeviceSource(chosen, path, tuple(device.name for device in devices))


def find_sources(folder: Path) -> list[DeviceSource]:
    """Return what names devices in a project's folder, then what Ansible and SSH of this user are set to; no program is run."""
    found: list[DeviceSource] = []
    for path, kind in _places(folder):
        known = any(path.resolve() == one.path.resolve() for one in found)
        if known or not path.exists() or is_script(path, kind):
            continue
        try:
            found.append(read_source(path, kind))
        except UsageError:
            continue
    return found


def is_of_folder(source: DeviceSource, folder: Path) -> bool:
    """Return whether a source lies in a project's folder: it is meant for this project then."""
    return source.path.resolve().is_relative_to(folder.resolve())


def _places(folder: Path) -> Iterator[tuple[Path, str]]:
    yield from ((folder / named, "ansible") for named in _of_ansible_cfg(folder / "ansible.cfg"))
    yield from ((folder / name, "ansible") for name in _IN_FOLDER)
    for named in os.environ.get("ANSIBLE_INVENTORY", "").split(","):
        if named.strip():
            yield Path(named.strip()).expanduser(), "ansible"
    yield Path("/etc/ansible/hosts"), "ansible"
    yield Path("~/.ssh/config").expanduser(), "ssh_config"


def _of_ansible_cfg(path: Path) -> list[Path]:
    """Return the inventories that an ansible.cfg names; none where it is missing or broken."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        if path.stat().st_size > _MOST_BYTES:
            return []
        parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, configparser.Error):
        return []
    named = parser.get("defaults", "inventory", fallback="")
    return [Path(word.strip()).expanduser() for word in named.split(",") if word.strip()]
