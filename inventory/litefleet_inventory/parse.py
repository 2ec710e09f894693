"""Parses inventory text and reports all problems at once.  Pure.

The format, all parts optional (inventory/example.yaml uses each):

    defaults:                 # settings of every device
      user: edge
    groups:
      berlin:
        jump: gw-berlin       # settings of the group
        devices:              # a mapping defines devices
          cam-[01:40]:
            host: 10.1.0.[1:40]
      outdoor:
        devices: [cam-01, cam-02]   # a list names devices defined elsewhere
      site:
        children: [berlin]    # its devices are this group's too
    devices:
      gw-berlin:
        host: gw.berlin.example

A device with nothing after its colon may be listed in several places; its own settings are written in one of them.

Precedence: defaults < groups (deeper ones later, else in the order written) < the device itself.  Tags are
combined; any other setting replaces; `null` cancels an inherited one.  Ranges keep zero-padding (`[01:40]`, `[0:100:10]`); a
range in a value runs in step with the name's; `{name}`, `{n}` (number), `{0n}` (as padded), `{n2}` (second range) are
expanded.  Top-level keys that begin with `x-` are ignored, so they can hold YAML anchors.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import checks
from .draft import Draft, DraftDevice, DraftGroup
from .fields import read_values
from .model import Inventory
from .problems import Place, Problems
from .ranges import Member, RangeError, expand
from .resolve import resolve
from .tree import Map, Node, Scalar, Seq, kind_of, read_tree

SECTIONS = ("defaults", "groups", "devices")
GROUP_KEYS = ("devices", "children")


def parse(text: str, file: str = "fleet.yaml") -> Inventory:
    """Return the inventory of one YAML document.  Raises: InventoryError with every problem in it."""
    return parse_documents([(file, text)])


def parse_documents(documents: Iterable[tuple[str, str]]) -> Inventory:
    """Return the inventory of several (file name, text) documents together.  Raises: InventoryError."""
    problems = Problems()
    draft = Draft(problems)
    for file, text in documents:
        tree = read_tree(text, file, problems)
        if tree is not None and not (isinstance(tree, Scalar) and tree.is_null):
            _read_document(tree, Place(file), draft)
    inventory = resolve(draft)
    problems.raise_if_any()
    return inventory


def _read_document(tree: Node, place: Place, draft: Draft) -> None:
    if not isinstance(tree, Map):
        draft.problems.add(
            Place(place.file, tree.line), f"expected a mapping with {' / '.join(SECTIONS)}, found {kind_of(tree)}"
        )
        return
    readers = {"defaults": _read_defaults, "groups": _read_groups, "devices": _read_devices}
    for key, entry in tree.entries.items():
        here = place.at(entry.line, key if key.isprintable() else ascii(key))
        if key in readers:
            section = _mapping(entry.node, here, draft)
            if section is not None:
                readers[key](section, here, draft)
        elif not key.startswith("x-"):  # x-... keys hold anchors
            hint = checks.NO_SECRETS if checks.looks_secret(key) else f"unknown key{draft.problems.near(key, SECTIONS)}"
            draft.problems.add(here, hint)


def _mapping(node: Node, place: Place, draft: Draft) -> Map | None:
    """Return a mapping; null counts as an empty one, anything else is a problem."""
    if isinstance(node, Map):
        return node
    if isinstance(node, Scalar) and node.is_null:
        return Map(node.line)
    draft.problems.add(place, f"expected a mapping, found {kind_of(node)}")
    return None


def _read_defaults(node: Map, place: Place, draft: Draft) -> None:
    draft.set_values(draft.defaults, read_values(node, place, draft.problems))


def _read_devices(node: Map, place: Place, draft: Draft) -> None:
    _define(node, place, draft, None)


def _read_groups(node: Map, place: Place, draft: Draft) -> None:
    for name, entry in node.entries.items():
        here = place.at(entry.line, name if name.isprintable() else ascii(name))
        wrong = checks.name(name) or ("the name 'all' is taken: it means every device" if name == "all" else "")
        if wrong:
            draft.problems.add(here, wrong)
            continue
        body = _mapping(entry.node, here, draft)
        group = draft.group(name, here) if body is not None else None
        if body is None or group is None:
            continue
        draft.set_values(group.values, read_values(body, here, draft.problems, GROUP_KEYS))
        if "devices" in body.entries:
            inner = body.entries["devices"]
            _read_group_devices(inner.node, here.at(inner.line, "devices"), draft, group)
        if "children" in body.entries:
            inner = body.entries["children"]
            _read_children(inner.node, here.at(inner.line, "children"), draft, group)


def _read_group_devices(node: Node, place: Place, draft: Draft, group: DraftGroup) -> None:
    """Read a group's devices: a mapping defines them, a list names them."""
    if not isinstance(node, Seq):
        section = _mapping(node, place, draft)
        if section is not None:
            _define(section, place, draft, group)
        return
    for here, text in _texts(node, place, draft):
        for member in _members(text, here, draft):
            if not draft.link(group.members, member.name, here):
                return


def _read_children(node: Node, place: Place, draft: Draft, group: DraftGroup) -> None:
    if not isinstance(node, Seq):
        if not (isinstance(node, Scalar) and node.is_null):
            draft.problems.add(place, f"expected a list of group names, found {kind_of(node)}")
        return
    for here, text in _texts(node, place, draft):
        if not draft.link(group.children, text, here):
            return


def _texts(node: Seq, place: Place, draft: Draft) -> Iterable[tuple[Place, str]]:
    """Yield the names of a list, each with its own line."""
    for item in node.items:
        here = Place(place.file, item.line, place.path)
        if isinstance(item, Scalar) and not item.is_null:
            yield here, item.text
        else:
            hint = ' (a range needs quotes inside [...]: ["cam-[01:40]"])' if isinstance(item, Seq) else ""
            draft.problems.add(here, f"expected a list of names, found {kind_of(item)} in it{hint}")


def _define(node: Map, place: Place, draft: Draft, group: DraftGroup | None) -> None:
    """Add the devices of a mapping, and make them members of `group`."""
    for key, entry in node.entries.items():
        here = place.at(entry.line, key if key.isprintable() else ascii(key))
        body = _mapping(entry.node, here, draft)
        if body is None:
            continue
        values = read_values(body, here, draft.problems)
        for member in _members(key, here, draft):
            if not draft.add_device(DraftDevice(member, here, values, bool(body.entries))):
                return
            if group is not None and not draft.link(group.members, member.name, here):
                return


def _members(text: str, place: Place, draft: Draft) -> tuple[Member, ...]:
    """Return the devices of a name or range; none when it is wrong."""
    try:
        members = expand(text)
    except RangeError as err:
        draft.problems.add(place, str(err))
        return ()
    wrong = checks.name(members[0].name) or checks.name(members[-1].name)
    if wrong and len(members) == 1 and "[" in text:
        wrong += "; a range is written [01:40]"
    if not wrong and members[0].name == "all":
        wrong = "the name 'all' is taken: it means every device"
    if wrong:
        draft.problems.add(place, wrong)
        return ()
    return members
