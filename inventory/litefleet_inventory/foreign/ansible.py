"""Reads Ansible's inventories: YAML, INI, the JSON of `ansible-inventory --list`, folders of them, group_vars and host_vars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ..problems import Place
from .ansible_ini import read_ini
from .ansible_tree import Tree, expand_hosts
from .found import Found

_MAX_NESTING = 32


def read_ansible(path: Path, found: Found) -> None:
    """Read one file, or all files of a folder; group_vars and host_vars beside it are read too."""
    tree = Tree(found)
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else _files_of(path)
    for file in files:
        _read_file(file, tree)
    for kind in ("group_vars", "host_vars"):
        _read_variables(folder / kind, kind == "group_vars", tree)
    tree.apply()


def read_listing(listing: object, found: Found) -> None:
    """Read the JSON of `ansible-inventory --list` or of an inventory script."""
    tree = Tree(found)
    _read_listing(listing, tree)
    tree.apply()


def _files_of(folder: Path) -> list[Path]:
    skipped = (".cfg", ".orig", ".bak", ".ini~", ".retry", ".pyc", ".md")
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix not in skipped)


def _read_file(file: Path, tree: Tree) -> None:
    text = file.read_text(encoding="utf-8-sig")
    if text.startswith("$ANSIBLE_VAULT"):
        tree.found.ignored[f"{file.name}: encrypted by ansible-vault"] += 1
    elif file.suffix == ".json" or text.lstrip().startswith("{"):
        data = json.loads(text)
        if isinstance(data, dict) and ("_meta" in data or any(isinstance(v, list) for v in data.values())):
            _read_listing(data, tree)
        else:
            _read_groups(data, tree, file)
    elif file.suffix in (".yml", ".yaml") or text.lstrip().startswith("---"):
        _read_groups(_yaml(text), tree, file)
    else:
        read_ini(text, file.name, tree)


class _Loader(yaml.SafeLoader):
    """Reads Ansible's YAML: what `!vault` encrypts and `!unsafe` marks stays text."""


for _tag in ("!vault", "!unsafe", "!vault-encrypted"):
    _Loader.add_constructor(_tag, lambda loader, node: "{{ encrypted }}")


def _yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error


def _read_groups(data: object, tree: Tree, file: Path) -> None:
    if not isinstance(data, dict):
        tree.found.problems.add(Place(str(file)), "expected a mapping of groups, as `all: {hosts: …}`")
        return
    if isinstance(plugin := data.get("plugin"), str):
        what = f"it sets up Ansible's inventory plugin {plugin[:60]}, and names no hosts"
        tree.found.problems.add(
            Place(str(file)), f"{what}: save the output of `ansible-inventory -i {file.name} --list`"
        )
        return
    for name, body in data.items():
        _read_group(str(name), body, tree, 0)


def _read_group(name: str, body: object, tree: Tree, level: int) -> None:
    tree.group(name)
    if not isinstance(body, dict) or level > _MAX_NESTING:
        return
    hosts = body.get("hosts")
    for host, variables in _named(hosts).items():
        for one in expand_hosts(str(host)):
            tree.host(name, one, variables if isinstance(variables, dict) else {})
    if isinstance(body.get("vars"), dict):
        tree.variables[name].update(body["vars"])
    children = body.get("children")
    for child, inner in _named(children).items():
        tree.children[name][str(child)] = None
        _read_group(str(child), inner, tree, level + 1)


def _named(value: object) -> dict[Any, Any]:
    """Return hosts or children by name; Ansible takes a list, and a text for one name."""
    if isinstance(value, dict):
        return value
    return dict.fromkeys(value if isinstance(value, list) else [value] if isinstance(value, str) else [])


def _read_listing(listing: object, tree: Tree) -> None:
    if not isinstance(listing, dict):
        raise ValueError("expected a JSON object with groups and `_meta`")
    meta = listing.get("_meta")
    variables = meta.get("hostvars", {}) if isinstance(meta, dict) else {}
    for name, body in listing.items():
        if name == "_meta":
            continue
        group = {"hosts": body} if isinstance(body, list) else body
        if isinstance(group, dict):
            _read_group(str(name), group, tree, 0)
    for name, own in variables.items() if isinstance(variables, dict) else ():
        if isinstance(own, dict):
            tree.hosts.setdefault(str(name), {}).update(own)


def _read_variables(folder: Path, of_groups: bool, tree: Tree) -> None:
    """Read group_vars/ or host_vars/: NAME, NAME.yml or NAME/*.yml."""
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(".") or path.suffix not in ("", ".yml", ".yaml", ".json"):
            continue
        top = path.relative_to(folder).parts[0]
        name = Path(top).stem if top == path.name and path.suffix else top
        text = path.read_text(encoding="utf-8-sig")
        if text.startswith("$ANSIBLE_VAULT"):
            tree.found.ignored[f"{folder.name}/{path.name}: encrypted by ansible-vault"] += 1
            continue
        data = _yaml(text)
        if isinstance(data, dict) and of_groups:
            tree.group(name)
            tree.variables[name] = (
                {**data, **tree.variables[name]} if name == "all" else {**tree.variables[name], **data}
            )
        elif isinstance(data, dict) and name in tree.hosts:
            tree.hosts[name].update(data)
