"""Reads tables of devices: CSV with a head, and what NetBox exports as JSON."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..fields import FIELDS
from ..problems import Place
from .found import Found, group_name

_NAMES = ("name", "device", "hostname", "host_name")
_COLUMNS = {
    **{
        "ip": "host",
        "ip_address": "host",
        "address": "host",
        "addr": "host",
        "primary_ip": "host",
        "ansible_host": "host",
        "primary_ip4": "host",
        "primary_ip6": "host",
        "ipv4": "host",
        "ipv6": "host",
    },
    **{"username": "user", "login": "user", "ssh_port": "port", "identity_file": "key", "ssh_key": "key"},
    **{"labels": "tags", "architecture": "arch", "proxyjump": "jump", "bastion": "jump"},
}
_GROUPS = ("group", "groups", "site", "role", "location", "rack", "region", "tenant")


def read_csv(path: Path, found: Found) -> None:
    """Read a CSV with a head: a name or an address in each row; comma, semicolon or tab."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        head, before = _head(file)
        reader = csv.DictReader(itertools.chain([head], file), delimiter=max(",;\t", key=head.count))
        columns = {
            name: (name or "").strip().lower().replace(" ", "_").replace("-", "_") for name in reader.fieldnames or ()
        }
        for name, column in columns.items():
            if _meaning(column) is None:
                found.ignored[f"the column {name!r}"] += 1
        for row in reader:
            number = before + reader.line_num
            cells = {columns[k]: v.strip() for k, v in row.items() if k in columns and isinstance(v, str) and v.strip()}
            if cells:
                _csv_row(cells, Place(str(path), number), found)


def _head(file: Iterable[str]) -> tuple[str, int]:
    """Return the line with the names of the columns, and how many are before it: empty ones, and Excel's `sep=;`."""
    for before, line in enumerate(file):
        if line.strip() and not line.startswith("sep="):
            return line, before
    return "", 0


def _meaning(column: str) -> str | None:
    """Return what a column is: a setting, "name" or "group"; None for one that is not understood."""
    if column in _NAMES:
        return "name"
    if column in _GROUPS:
        return "group"
    return column if column in FIELDS else _COLUMNS.get(column)


def _csv_row(cells: Mapping[str, str], place: Place, found: Found) -> None:
    cells = {k: v.split("/")[0] if _meaning(k) == "host" else v for k, v in cells.items()}  # with a net's size too
    address = next((v for k, v in cells.items() if _meaning(k) == "host"), "")
    name = next((cells[k] for k in _NAMES if k in cells), "") or address
    if not name:
        found.problems.add(place, f"the row has neither a name ({', '.join(_NAMES)}) nor an address")
        return
    made = found.new_host(name, place)
    if made is None:
        return
    for column, value in cells.items():
        meaning = _meaning(column)
        if meaning == "group":
            for group in value.replace(";", ",").split(","):
                found.join(made, group.strip())
        elif meaning == "host":
            if value == address:  # of several columns, the first
                found.set(made, "host", value, f"line {place.line}, {column}")
        elif meaning not in (None, "name"):
            found.set(made, str(meaning), value, f"line {place.line}, {column}")


def read_netbox(path: Path, found: Found) -> None:
    """Read the answer of NetBox's /api/dcim/devices/ or virtual-machines, or a list of such objects."""
    data = json.loads(path.read_text(encoding="utf-8-sig"))
    listed = data.get("results") if isinstance(data, dict) else data
    if not isinstance(listed, list):
        raise ValueError("expected `results`, a list of devices, as /api/dcim/devices/?limit=0 answers")
    for item in listed:
        if isinstance(item, dict):
            _netbox_device(item, found)
    rest = data.get("next") if isinstance(data, dict) else None
    if rest:
        found.ignored["`next`: the file is one page of several; export with ?limit=0"] += 1


def _netbox_device(item: Mapping[str, Any], found: Found) -> None:
    name = str(item.get("name") or item.get("display") or item.get("id") or "")
    address = next(
        (_text(item.get(k), "address") for k in ("primary_ip", "primary_ip4", "primary_ip6") if item.get(k)), ""
    )
    status = _text(item.get("status"), "value") or "active"
    why = "" if address else "NetBox knows no primary IP address of it"
    why = f"its status in NetBox is {status}" if status != "active" else why
    if why:  # beside it there may be a device of the same name that is one, at another site
        found.left_out.append((checks.as_name(name), why))
        return
    made = found.new_host(name, Place(found.file))
    if made is None:
        return
    found.set(made, "host", address.split("/")[0], "primary_ip")
    for key in ("site", "role", "device_role", "platform", "tenant", "location", "cluster"):
        slug = _text(item.get(key), "slug") or _text(item.get(key), "name")
        if slug:
            found.join(made, group_name(slug))
    tags = item.get("tags")
    for tag in tags if isinstance(tags, list) else ():
        found.set(made, "tags", [_text(tag, "slug") or str(tag)], "tags")
    fields = item.get("custom_fields")
    for key, value in fields.items() if isinstance(fields, dict) else ():
        setting = key.removeprefix("litefleet_")
        if key.startswith("litefleet_") and setting in FIELDS and value not in (None, ""):
            found.set(made, setting, value, f"custom field {key}")
        elif key.startswith("litefleet_") and value not in (None, ""):
            found.ignored[f"custom field {key}"] += 1


def _text(value: object, key: str) -> str:
    """Return a field of a nested object, or a plain text itself."""
    if isinstance(value, dict):
        return str(value.get(key) or "")
    return value if isinstance(value, str) else ""
