"""What the readers of other tools' files collect: hosts with settings in our names, groups, and what they did not understand."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import yaml

from .. import checks
from ..fields import FIELDS, Kind
from ..problems import Place, Problems

MAX_HOSTS = 100_000
_MOST_NAMED = 8


@dataclass
class FoundHost:
    """One host as the other tool knows it; `settings` are litefleet's, checked when they are set."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    tags: dict[str, None] = field(default_factory=dict)
    groups: dict[str, None] = field(default_factory=dict)


@dataclass
class Found:
    """All hosts and groups of one source."""

    file: str
    problems: Problems
    hosts: dict[str, FoundHost] = field(default_factory=dict)
    children: dict[str, dict[str, None]] = field(default_factory=dict)  # group -> its child groups
    ignored: Counter[str] = field(default_factory=Counter)  # what was not understood -> how often
    skipped: dict[str, str] = field(default_factory=dict)  # host -> why it is no device
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (name, why) of what was never made a host
    originals: dict[str, str] = field(default_factory=dict)  # name that litefleet accepts -> the other tool's

    def host(self, name: str) -> FoundHost | None:
        """Return the host of a name, made where it is new; its name is one that litefleet accepts.  None beyond MAX_HOSTS."""
        plain = safe = checks.as_name(name) or "host"
        number = 2
        while self.originals.setdefault(safe, name) != name:  # "cam 1" and "cam-1" are two hosts
            safe, number = f"{plain}-{number}", number + 1
        if safe not in self.hosts:
            if len(self.hosts) >= MAX_HOSTS:
                self.problems.add(Place(self.file), f"more than {MAX_HOSTS:,} hosts; split the fleet")
                return None
            self.hosts[safe] = FoundHost(safe)
            if safe != name:
                self.hosts[safe].settings["host"] = name
                self.ignored[f"the name {checks.shown(name)}, which became {safe}"] += 1
        return self.hosts[safe]

    def new_host(self, name: str, place: Place) -> FoundHost | None:
        """Return a new host; None, with the problem listed, where its name is taken: one of the two would be lost."""
        if self.originals.get(checks.as_name(name) or "host") == name:
            self.problems.add(place, f"the name {checks.shown(name)} is of another device too; give each its own")
            return None
        return self.host(name)

    def set(self, host: FoundHost, key: str, value: object, said: str) -> None:
        """Give a host a setting; one that litefleet would refuse is listed as `said`, with the reason."""
        text = str(value).strip().lower() if key == "legacy" else str(value).strip()
        if key == "tags":
            parts = value if isinstance(value, list) else re.split(r"[\s,]+", text)
            for part in (str(p).strip() for p in parts):
                if part and not checks.tag(part):
                    host.tags[part] = None
            return
        if "{{" in text or "{%" in text:
            self.ignored[f"{said}: a template, which only Ansible can fill in"] += 1
            return
        setting = FIELDS[key]
        wrong = setting.check(text) if setting.kind is not Kind.LIST else ""
        if wrong:
            self.ignored[f"{said}: {wrong}"] += 1
        elif text:
            host.settings[key] = text

    def join(self, host: FoundHost, group: str) -> None:
        """Make a host a member of a group; `all` and `ungrouped` are none."""
        name = group_name(group)
        if name not in ("all", "ungrouped", ""):
            host.groups[name] = None

    def document(self) -> dict[str, object]:
        """Return litefleet's own form of it: groups with lists of devices, and devices."""
        hosts = {name: host for name, host in self.hosts.items() if name not in self.skipped}
        members: dict[str, list[str]] = {}
        for name, host in hosts.items():
            for group in host.groups:
                members.setdefault(group, []).append(name)
        for taken in [group for group in members if group in hosts]:
            self.ignored[f"the group {taken}, which is also a host's name"] += 1
            del members[taken]
        groups: dict[str, object] = {}
        for group in dict.fromkeys([*members, *(g for g in self.children if g not in hosts)]):
            inner = [c for c in self.children.get(group, ()) if c in members or c in self.children]
            body = {"devices": members.get(group, []), "children": [c for c in inner if c != group and c not in hosts]}
            groups[group] = {key: value for key, value in body.items() if value}
        devices = {name: _body(host) for name, host in hosts.items()}
        return {key: value for key, value in (("groups", groups), ("devices", devices)) if value}

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each thing that was not understood or left out."""
        notes = [f"{what}" + (f" ({times} times)" if times > 1 else "") for what, times in self.ignored.items()]
        by_reason: dict[str, list[str]] = {}
        for name, why in (*self.skipped.items(), *self.left_out):
            by_reason.setdefault(why, []).append(name)
        for why, names in by_reason.items():
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            notes.append(f"{', '.join(names[:_MOST_NAMED])}{more} left out: {why}")
        return tuple(notes)


def group_name(name: str) -> str:
    """Return a group's name as litefleet accepts it."""
    return checks.as_name(str(name))


def _body(host: FoundHost) -> dict[str, object]:
    body: dict[str, object] = dict(host.settings)
    if "port" in body:
        body["port"] = int(str(body["port"]))
    if "legacy" in body:
        body["legacy"] = body["legacy"] == "true"
    if host.tags:
        body["tags"] = list(host.tags)
    return body


def as_text(document: dict[str, object], head: str) -> str:
    """Return a document as YAML under a comment."""
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    return comment + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
