"""Converts a source of another tool to the text of a litefleet inventory.

The reader of a kind is imported when a file is of that kind: every command loads this module, and few inventories are foreign.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from ..problems import Place, Problems
from .found import Found, as_text

MAX_BYTES = 32 * 1024 * 1024
_SCRIPT_LIMIT_S = 60.0


class Converted(NamedTuple):
    """The inventory's text, the number of devices, and a sentence for each thing that was not understood."""

    text: str
    devices: int
    notes: tuple[str, ...]


def _script(path: Path, found: Found) -> None:
    """Run an executable Ansible inventory with --list and read what it prints."""
    from .ansible import read_listing

    try:
        done = subprocess.run(  # noqa: S603 - a program that the operator names, as with Ansible
            [str(path.absolute()), "--list"], capture_output=True, timeout=_SCRIPT_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        found.problems.add(Place(str(path)), f"the inventory script cannot be run: {error}")
        return
    if done.returncode or len(done.stdout) > MAX_BYTES:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        found.problems.add(
            Place(str(path)), f"the inventory script ended with exit code {done.returncode}: {said or 'no message'}"
        )
        return
    try:
        listing = json.loads(done.stdout)
    except ValueError as error:
        found.problems.add(Place(str(path)), f"the inventory script's --list printed no JSON: {error}")
        return
    if isinstance(listing, dict) and "_meta" not in listing:
        listing["_meta"] = {"hostvars": _of_each_host(path, listing, found)}
    read_listing(listing, found)


def _of_each_host(path: Path, listing: Mapping[str, object], found: Found) -> dict[str, object]:
    """Ask a script that lists no `_meta` for each host's variables, as Ansible does; what stays unknown is listed."""
    bodies = (body.get("hosts") if isinstance(body, dict) else body for body in listing.values())
    hosts = dict.fromkeys(str(host) for body in bodies if isinstance(body, list) for host in body)
    variables: dict[str, object] = {}
    end = time.monotonic() + _SCRIPT_LIMIT_S
    for host in hosts:
        try:
            argv = [str(path.absolute()), "--host", host]
            done = subprocess.run(argv, capture_output=True, timeout=max(end - time.monotonic(), 0.01), check=True)  # noqa: S603
            variables[host] = json.loads(done.stdout or b"{}")
        except (OSError, ValueError, subprocess.SubprocessError):
            found.ignored["the variables of a host, which the script's --host did not print"] += 1
    return variables


def is_script(path: Path, kind: str) -> bool:
    """Return whether a source is a program that prints the inventory, as Ansible's dynamic inventories are."""
    text_file = path.suffix in (".ini", ".yml", ".yaml", ".json")
    return kind == "ansible" and not text_file and path.is_file() and os.access(path, os.X_OK)


_READERS: Mapping[str, tuple[str, str]] = {  # kind: (module, function)
    "ansible": ("ansible", "read_ansible"),
    "ssh_config": ("ssh_config", "read_ssh_config"),
    "csv": ("tables", "read_csv"),
    "netbox": ("tables", "read_netbox"),
}
KINDS = tuple(_READERS)


def _read(path: Path, kind: str, found: Found) -> None:
    if is_script(path, kind):
        _script(path, found)
        return
    module, function = _READERS[kind]
    getattr(import_module(f".{module}", __package__), function)(path, found)


def convert(path: Path, kind: str) -> Converted:
    """Return the litefleet inventory that a file of another tool amounts to.

    Raises: InventoryError when it cannot be read or has no host; a size over MAX_BYTES is such a problem.
    """
    problems = Problems()
    found = Found(str(path), problems)
    try:
        if not path.exists():
            problems.add(Place(str(path)), "the file is missing")
        elif path.is_file() and path.stat().st_size > MAX_BYTES:
            problems.add(Place(str(path)), f"larger than {MAX_BYTES // 1024**2} MiB; is this an inventory?")
        else:
            _read(path, kind, found)
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        problems.add(Place(str(path)), f"cannot be read as {kind}: {wrong}")
    except (OSError, ValueError, RecursionError) as error:
        problems.add(Place(str(path)), f"cannot be read as {kind}: {error}")
    document = found.document()
    devices = document.get("devices")
    if not devices:
        problems.add(Place(str(path)), f"no host was found in it, read as {kind}")
    problems.raise_if_any()
    count = len(devices) if isinstance(devices, dict) else 0
    return Converted(as_text(document, f"converted from {path} ({kind}) by `litefleet import`"), count, found.notes())


def guess_kind(path: Path) -> str:
    """Return which tool a file is probably of: by its name, else "ansible"."""
    name = path.name.lower()
    if name.endswith((".csv", ".tsv")):
        return "csv"
    if name in ("config", "ssh_config") or path.parent.name == ".ssh" or name.endswith(".sshconfig"):
        return "ssh_config"
    if name.endswith(".json") and "netbox" in name:
        return "netbox"
    return "ansible"
