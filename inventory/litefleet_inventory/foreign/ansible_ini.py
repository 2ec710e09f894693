"""Reads Ansible's INI form: [group], [group:vars], [group:children], hosts with key=value settings."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

from ..problems import Place
from .ansible_tree import Tree, expand_hosts

_SECTION = re.compile(r"\[([^:\]]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_PORT = re.compile(
    r"\[([0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)\]:(\d+)|((?:[^:\[\]]|\[[^\]]*\])+):(\d+)"
)  # IPv6; name


def read_ini(text: str, file: str, tree: Tree) -> None:
    """Read the text of one INI inventory into `tree`; lines that are none are listed as problems."""
    group, kind = "ungrouped", ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and (section := _SECTION.fullmatch(line)):
            group, kind = section[1].strip(), section[2] or ""
            tree.group(group)
            if kind not in ("", "vars", "children", "hosts"):
                tree.found.problems.add(Place(file, number), f"[{group}:{kind}] is neither vars, children nor hosts")
        elif line.startswith("[") and not _PORT.fullmatch(line.split()[0]):
            tree.found.problems.add(
                Place(file, number), f"expected [group], [group:vars] or [group:children]: {line[:40]}"
            )
        elif kind == "children":
            child = line.split("#")[0].strip()
            tree.group(child)
            tree.children[group][child] = None
        elif kind == "vars":
            _variable(line, group, Place(file, number), tree)
        else:
            _host(line, group, Place(file, number), tree)


def _variable(line: str, group: str, place: Place, tree: Tree) -> None:
    name, separator, value = line.partition("=")
    if not separator:
        tree.found.problems.add(place, f"expected name=value in [{group}:vars]")
        return
    tree.variables[group][name.strip()] = _plain(value.strip())


def _host(line: str, group: str, place: Place, tree: Tree) -> None:

    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        tree.found.problems.add(place, f"the line cannot be split into words: {error}")
        return
    if not words:
        return
    variables: dict[str, Any] = {}
    for word in words[1:]:
        name, separator, value = word.partition("=")
        if not separator:
            tree.found.problems.add(place, f"expected name=value after the host, found {word[:40]!r}")
            return
        variables[name] = value
    pattern = words[0]
    if port := _PORT.fullmatch(pattern):
        pattern = port[1] or port[3]
        variables.setdefault("ansible_port", port[2] or port[4])
    for name in expand_hosts(pattern):
        tree.host(group, name, variables)


def _plain(value: str) -> str:
    """Return a value as Ansible reads it: a Python text or number, a comment behind it left out; else the line as it is."""
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    return str(literal) if isinstance(literal, str | int | float) else value
