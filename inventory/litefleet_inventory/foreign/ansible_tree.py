"""Ansible's groups and hosts with their variables, and what litefleet takes of these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..fields import FIELDS
from .found import MAX_HOSTS, Found, FoundHost, group_name

_VARIABLES = {
    **{"ansible_host": "host", "ansible_ssh_host": "host", "ansible_port": "port", "ansible_ssh_port": "port"},
    **{"ansible_user": "user", "ansible_ssh_user": "user", "ansible_ssh_private_key_file": "key"},
    **{"ansible_private_key_file": "key", "ansible_python_interpreter": "python"},
}
_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
_JUMP = re.compile(r"(?:-J\s*|-o\s*[\"']?ProxyJump\s*=\s*)([^\s\"',]+)(,?)", re.IGNORECASE)
_PROXY = re.compile(r"ProxyCommand\s*=\s*[\"']?ssh\b[^\"']*?\s-W\s+%h:%p\b[^\"']*", re.IGNORECASE)
# Variables about what litefleet does without: it needs no root rights, and finds a Python by itself
_NOT_NEEDED = ("ansible_become", "ansible_connection", "ansible_ssh_pipelining", "ansible_pipelining", "ansible_group_")
_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh")  # in full ansible.builtin.ssh
_MAX_NESTING = 32


class Tree:
    """Groups and hosts with their variables, before Ansible's precedence is applied."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.variables: dict[str, dict[str, Any]] = {}  # of groups
        self.hosts: dict[str, dict[str, Any]] = {}  # own variables
        self.members: dict[str, dict[str, None]] = {}  # group -> hosts
        self.children: dict[str, dict[str, None]] = {}

    def group(self, name: str) -> None:
        """Add a group."""
        self.members.setdefault(name, {})
        self.children.setdefault(name, {})
        self.variables.setdefault(name, {})

    def host(self, group: str, name: str, variables: Mapping[str, Any]) -> None:
        """Add a host to a group, with variables of its own."""
        self.group(group)
        self.members[group][name] = None
        self.hosts.setdefault(name, {}).update(variables)

    def apply(self) -> None:
        """Give each host its variables: of `all`, of its groups (deeper ones later), then its own."""
        depth = self._depths()
        of_host: dict[str, set[str]] = {name: set() for name in self.hosts}
        for group in self.members:
            for name in self._all_members(group, 0):
                of_host.setdefault(name, set()).add(group)
        for name, own in self.hosts.items():
            made = self.found.host(str(name))
            if made is None:
                return
            groups = sorted(of_host[name] - {"all"}, key=lambda g: (depth[g], self._priority(g), g))
            merged: dict[str, Any] = dict(self.variables.get("all", {}))
            for group in groups:
                merged.update(self.variables[group])
            merged.update(own)
            _set_variables(self.found, made, merged)
            for group in self.members:
                if name in self.members[group]:
                    self.found.join(made, group)
        for group, children in self.children.items():
            if group != "all" and children:
                self.found.children[group_name(group)] = dict.fromkeys(map(group_name, children))

    def _priority(self, group: str) -> int:
        """Return `ansible_group_priority`: of two groups as deep as each other, the one with the higher number counts."""
        try:
            return int(self.variables[group].get("ansible_group_priority", 1))
        except (TypeError, ValueError):
            return 1

    def _all_members(self, group: str, level: int) -> set[str]:
        names = set(self.members.get(group, ()))
        if level < _MAX_NESTING:
            for child in self.children.get(group, ()):
                names |= self._all_members(child, level + 1)
        return names

    def _depths(self) -> dict[str, int]:
        depth = dict.fromkeys(self.members, 0)
        for _ in range(_MAX_NESTING):
            changed = False
            for group, children in self.children.items():
                for child in children:
                    if depth.get(child, 0) < depth.get(group, 0) + 1 <= _MAX_NESTING:
                        depth[child] = depth.get(group, 0) + 1
                        changed = True
            if not changed:
                break
        return depth


def expand_hosts(text: str) -> list[str]:
    """Return the names of a host pattern with ranges: cam-[01:03], [a:c], [0:9:3]."""
    found = re.search(r"\[([0-9]+|[a-zA-Z]):([0-9]+|[a-zA-Z])(?::([0-9]+))?\]", text)
    if not found:
        return [text]
    first, last, step = found[1], found[2], int(found[3] or 1)
    if first.isdigit() != last.isdigit() or step < 1:
        return [text]
    if first.isdigit():
        count = range(int(first), min(int(last), int(first) + 100_000) + 1, step)
        values = [str(n).zfill(len(first)) for n in count]
    else:
        values = [chr(n) for n in range(ord(first), ord(last) + 1, step)]
    names: list[str] = []
    for value in values:
        names += expand_hosts(text[: found.start()] + value + text[found.end() :])
        if len(names) > MAX_HOSTS:  # several ranges multiply; more hosts than this are refused anyway
            break
    return names


def _set_variables(found: Found, host: FoundHost, variables: Mapping[str, Any]) -> None:
    if str(variables.get("ansible_connection", "ssh")).rpartition(".")[2] not in _SSH:
        found.skipped[host.name] = f"ansible_connection is {variables['ansible_connection']}, not ssh"
    for name, value in variables.items():
        if value is None or isinstance(value, dict):
            _leave(found, name)
        elif name in _VARIABLES:
            if name != "ansible_python_interpreter" or str(value).startswith("/") or "{{" in str(value):
                found.set(host, _VARIABLES[name], value, name)
        elif name in _ARGUMENTS:
            _set_jump(found, host, name, str(value))
        elif name.startswith("litefleet_") and name.removeprefix("litefleet_") in FIELDS:
            found.set(host, name.removeprefix("litefleet_"), value, name)
        else:
            _leave(found, name)


def _leave(found: Found, name: str) -> None:
    """List an Ansible or litefleet variable that nothing was made of; an application's own variables are not litefleet's."""
    if name.startswith(("ansible_", "litefleet_")) and not name.startswith(_NOT_NEEDED):
        found.ignored[name] += 1


def _set_jump(found: Found, host: FoundHost, name: str, arguments: str) -> None:
    proxy = _PROXY.search(arguments)
    jump = _JUMP.search(arguments)
    if jump and not jump[2]:
        found.set(host, "jump", jump[1], name)
    elif proxy:
        words = [w for w in re.split(r"[\s\"']+", proxy[0].split("ssh", 1)[1]) if w]
        port = words[words.index("-p") + 1] if "-p" in words[:-1] else ""
        target = next((w for w in reversed(words) if not w.startswith("-") and w not in (port, "%h:%p")), "")
        found.set(host, "jump", f"{target}:{port}" if port else target, name)
    else:
        found.ignored[f"{name}: {arguments[:80]}"] += 1
