"""The settings a device can have: their kinds, checks and descriptions.  The parser and the schema read this."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from . import checks
from .problems import Place, Problems
from .ranges import is_template
from .tree import Map, Node, Scalar, Seq, kind_of

__all__ = ["FIELDS", "Field", "Kind", "Value", "Values", "read_values"]


class Kind(Enum):
    """How a setting is written."""

    TEXT = "text"
    PORT = "port"
    FLAG = "flag"
    LIST = "list"


class Field(NamedTuple):
    """One setting."""

    kind: Kind
    check: Callable[[str], str]
    doc: str


class Value(NamedTuple):
    """A setting as written; `content` None takes it back, a `template` is filled in for each device."""

    content: str | bool | tuple[str, ...] | None
    place: Place
    template: bool = False


Values = dict[str, Value]

FIELDS: dict[str, Field] = {
    "host": Field(Kind.TEXT, checks.host, "Host name or address; the device's own name when left out."),
    "port": Field(Kind.PORT, checks.port, "SSH port; 22 when left out."),
    "user": Field(Kind.TEXT, checks.user, "Login name; the operator's own when left out."),
    "key": Field(Kind.TEXT, checks.path, "Path of the private key file; the SSH agent or default keys when left out."),
    "jump": Field(Kind.TEXT, checks.jump, "Jump host: user@host:port, or the name of another device."),
    "python": Field(
        Kind.TEXT, checks.path, "Path of the Python interpreter on the device; searched for when left out."
    ),
    "root": Field(Kind.TEXT, checks.root, "The agent's root folder on the device."),
    "privileged": Field(Kind.FLAG, lambda text: "", "Whether the agent may use root's rights on the device."),
    "arch": Field(Kind.TEXT, checks.arch, "Expected architecture; a difference is a finding."),
    "tags": Field(Kind.LIST, checks.tag, "Tags to select by; those of defaults, groups and device add up."),
    "host_key": Field(Kind.LIST, checks.host_key, "Pinned public host key, or a list of them."),
    "artifact": Field(Kind.TEXT, checks.path, "Path of a ready-made .nb that this device is handed as it is."),
    "runtime": Field(Kind.TEXT, checks.name, "Name of a runtime in litefleet.yaml."),
    "model": Field(Kind.TEXT, checks.name, "Name of a model in litefleet.yaml; all models when left out."),
}
# What people bring along from Ansible, ssh_config and habit, where the spelling alone would not lead there.
_SYNONYMS = {
    **{"hostname": "host", "address": "host", "addr": "host", "ip": "host", "ansible_host": "host"},
    **{"ansible_port": "port", "ansible_user": "user", "username": "user", "login": "user", "remote_user": "user"},
    **{"identity_file": "key", "identityfile": "key", "ssh_key": "key", "private_key_file": "key", "key_file": "key"},
    **{"ansible_ssh_private_key_file": "key", "proxyjump": "jump", "proxy_jump": "jump", "bastion": "jump"},
    **{"ansible_python_interpreter": "python", "interpreter": "python", "become": "privileged", "sudo": "privileged"},
    **{"architecture": "arch", "labels": "tags", "host_keys": "host_key", "hostkey": "host_key", "nb": "artifact"},
}
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})
_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+([eE][-+]?\d+)?|0[xob][0-9a-fA-F]+", re.ASCII)


def read_values(node: Map, place: Place, problems: Problems, also: tuple[str, ...] = ()) -> Values:
    """Return the settings of one mapping; what is wrong goes to `problems`.  Keys in `also` are the caller's."""
    values: Values = {}
    for key, entry in node.entries.items():
        if key in also:
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
    synonym = _SYNONYMS.get(key.lower())
    return "unknown key" + (f"; did you mean '{synonym}'?" if synonym else problems.near(key, (*FIELDS, *also)))


def _read(field: Field, node: Node, place: Place, problems: Problems) -> Value | None:
    if isinstance(node, Scalar) and node.is_null:
        return Value(None, place)
    if field.kind is Kind.LIST:
        return _read_list(field, node, place, problems)
    if not isinstance(node, Scalar):
        problems.add(place, f"expected {_expected(field)}, found {kind_of(node)}")
        return None
    if field.kind is Kind.FLAG:
        return _read_flag(node, place, problems)
    wrong = _not_text(node) if field.kind is Kind.TEXT else ""
    template = is_template(node.text)
    wrong = wrong or ("" if template else field.check(node.text))
    if wrong:
        problems.add(place, wrong)
        return None
    return Value(node.text, place, template)


def _expected(field: Field) -> str:
    return {Kind.PORT: "a port from 1 to 65535", Kind.FLAG: "true or false"}.get(field.kind, "text")


def _not_text(node: Scalar) -> str:
    """Refuse what other YAML readers would not take for text, so that all tools read the file alike."""
    if not node.plain:
        return ""
    if node.text.lower() in _TRUE | _FALSE:
        return f"expected text, found the boolean {node.text}; put it in quotes if it is meant"
    if len(node.text) <= 64 and _NUMBER.fullmatch(node.text):
        return f"expected text, found the number {node.text[:60]}; put it in quotes if it is meant"
    return ""


def _read_flag(node: Scalar, place: Place, problems: Problems) -> Value | None:
    word = node.text.lower()
    if node.plain and word in _TRUE | _FALSE:
        return Value(word in _TRUE, place)
    problems.add(place, f"expected true or false, found {checks.shown(node.text)}")
    return None


def _read_list(field: Field, node: Node, place: Place, problems: Problems) -> Value | None:
    """Read one text or a list of texts; every bad item is noted at its own line."""
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
