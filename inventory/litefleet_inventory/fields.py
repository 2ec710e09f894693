"""The settings of a device: their kinds, checks and descriptions.  The parser and the schema are made from this table."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from . import checks
from .problems import Place, Problems
from .ranges import is_template
from .tree import Map, Node, Scalar, Seq, kind_of


class Kind(Enum):
    """How a setting is written."""

    TEXT = "text"
    PORT = "port"
    LIST = "list"
    FLAG = "flag"


class Field(NamedTuple):
    """One setting.  `check` returns "" for a good text, else the sentence that says what is wrong with it."""

    kind: Kind
    check: Callable[[str], str]
    doc: str


class Value(NamedTuple):
    """A setting as written; `content` None cancels an inherited value, a `template` is expanded for each device."""

    content: str | tuple[str, ...] | None
    place: Place
    template: bool = False


Values = dict[str, Value]

FIELDS: dict[str, Field] = {
    "host": Field(Kind.TEXT, checks.host, "Host name or address; the device's name by default."),
    "port": Field(Kind.PORT, checks.port, "SSH port; 22 by default."),
    "user": Field(Kind.TEXT, checks.user, "Login name; the operator's own by default."),
    "key": Field(Kind.TEXT, checks.path, "Path of the private key file; the SSH agent or the default keys by default."),
    "jump": Field(Kind.TEXT, checks.jump, "Jump host: user@host:port, or the name of another device."),
    "python": Field(
        Kind.TEXT,
        checks.path,
        "Path of the Python interpreter on the device; `auto` (the default): its own, else one that litefleet brings; "
        "`bring`: always one that litefleet brings; `own`: never one that litefleet brings.",
    ),
    "root": Field(Kind.TEXT, checks.root, "The agent's root folder on the device."),
    "arch": Field(Kind.TEXT, checks.arch, "Expected architecture; a difference is a finding."),
    "tags": Field(Kind.LIST, checks.tag, "Tags to select by; those of defaults, groups and the device are combined."),
    "host_key": Field(Kind.LIST, checks.host_key, "Pinned public host key, or a list of them."),
    "artifact": Field(Kind.TEXT, checks.path, "Path of a .nb file that this device receives unchanged."),
    "runtime": Field(Kind.TEXT, checks.name, "Name of a runtime in litefleet.yaml."),
    "model": Field(Kind.TEXT, checks.name, "Name of a model in litefleet.yaml; all models by default."),
    "legacy": Field(
        Kind.FLAG,
        checks.flag,
        "true permits what old SSH servers need and nobody should use elsewhere: ssh-rsa with SHA-1, "
        "diffie-hellman-group14-sha1, CBC ciphers.",
    ),
}
RETIRED = ("privileged",)  # settings of earlier versions: accepted and ignored, so that old inventories stay valid
# Names from Ansible, ssh_config and habit that are not spelled like the setting they mean.
_SYNONYMS = {
    **{"hostname": "host", "address": "host", "addr": "host", "ip": "host", "ansible_host": "host"},
    **{"ansible_port": "port", "ansible_user": "user", "username": "user", "login": "user", "remote_user": "user"},
    **{"identity_file": "key", "identityfile": "key", "ssh_key": "key", "private_key_file": "key", "key_file": "key"},
    **{"ansible_ssh_private_key_file": "key", "proxyjump": "jump", "proxy_jump": "jump", "bastion": "jump"},
    **{"ansible_python_interpreter": "python", "interpreter": "python"},
    **{"architecture": "arch", "labels": "tags", "host_keys": "host_key", "hostkey": "host_key", "nb": "artifact"},
}
_ROOT_RIGHTS = frozenset({"become", "ansible_become", "sudo"})
_BOOLEANS = frozenset({"true", "yes", "on", "false", "no", "off"})
_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+([eE][-+]?\d+)?|0[xob][0-9a-fA-F]+", re.ASCII)


def read_values(node: Map, place: Place, problems: Problems, also: tuple[str, ...] = ()) -> Values:
    """Return the settings of one mapping; problems are added to `problems`.  The caller reads the keys in `also`."""
    values: Values = {}
    for key, entry in node.entries.items():
        if key in also or key in RETIRED:
            continue
        here = place.at(entry.line, key if key.isprintable() else ascii(key))
        field = FIELDS.get(key)
        if field is None:
            problems.add(here, _unknown(key, also, problems))
            continue
        value = _read(field, entry.node, here, problems)
        if value is not None:
            values[key] = value
    return values


def _unknown(key: str, also: tuple[str, ...], problems: Problems) -> str:
    if checks.looks_secret(key):
        return checks.NO_SECRETS
    if key.lower() in _ROOT_RIGHTS:
        return "unknown key; the agent needs no root rights, leave it out (`litefleet provision --as` names an admin login)"
    synonym = _SYNONYMS.get(key.lower())
    return "unknown key" + (f"; did you mean '{synonym}'?" if synonym else problems.near(key, (*FIELDS, *also)))


def _read(field: Field, node: Node, place: Place, problems: Problems) -> Value | None:
    if isinstance(node, Scalar) and node.is_null:
        return Value(None, place)
    if field.kind is Kind.LIST:
        return _read_list(field, node, place, problems)
    if not isinstance(node, Scalar):
        expected = {Kind.PORT: "a port from 1 to 65535", Kind.FLAG: "true or false"}.get(field.kind, "text")
        problems.add(place, f"expected {expected}, found {kind_of(node)}")
        return None
    wrong = _not_text(node) if field.kind is Kind.TEXT else ""
    template = field.kind is not Kind.FLAG and is_template(node.text)
    wrong = wrong or ("" if template else field.check(node.text))
    if wrong:
        problems.add(place, wrong)
        return None
    return Value(node.text, place, template)


def _not_text(node: Scalar) -> str:
    """Reject a scalar that other YAML readers would not read as text, so that all tools agree on the file."""
    if not node.plain:
        return ""
    if node.text.lower() in _BOOLEANS:
        return f"expected text, found the boolean {node.text}; put it in quotes if it is meant"
    if len(node.text) <= 64 and _NUMBER.fullmatch(node.text):
        return f"expected text, found the number {node.text[:60]}; put it in quotes if it is meant"
    return ""


def _read_list(field: Field, node: Node, place: Place, problems: Problems) -> Value | None:
    """Read one text or a list of texts; each bad item is a problem at its own line."""
    if isinstance(node, Map):
        problems.add(place, "expected a list of texts, found a mapping")
        return None
    good: dict[str, None] = {}
    for item in node.items if isinstance(node, Seq) else [node]:
        here = Place(place.file, item.line, place.path)
        if not isinstance(item, Scalar) or item.is_null:
            problems.add(here, f"expected a list of texts, found {kind_of(item)} in it")
            continue
        wrong = _not_text(item) or field.check(item.text)
        if wrong:
            problems.add(here, wrong)
        else:
            good[item.text] = None
    return Value(tuple(good), place)
