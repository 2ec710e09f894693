"""Makes an Inventory from a draft: applies inheritance and checks names, jump hosts and addresses.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import checks
from .draft import Draft, DraftDevice
from .fields import FIELDS, Value, Values
from .model import Device, Group, Inventory
from .problems import Place
from .ranges import Member, RangeError, fill

MAX_NESTING = 32
_ADDRESS = frozenset({"host", "port", "user", "jump"})
_FIELD_NAMES = {"host_key": "host_keys"}  # keys that are named differently in Device
_VALUES: dict[str, Callable[[Any], object]] = {"port": int, "legacy": "true".__eq__}  # values that are no text


def resolve(draft: Draft) -> Inventory:
    """Return the inventory; problems are added to the draft's collector, which the caller raises."""
    _check_names(draft)
    order = _group_order(draft)
    groups_of = _memberships(draft, order)
    inherit = _Inheritance(draft)
    devices = []
    for name, device in draft.devices.items():
        groups = groups_of.get(name, ())
        devices.append(_device(device, groups, inherit.of(groups), draft))
    _check_jumps(devices, draft)
    _check_addresses(devices, draft)
    members: dict[str, list[str]] = {name: [] for name in order}
    for made in devices:
        for group in made.groups:
            members[group].append(made.name)
    groups_made = (Group(g, tuple(members[g]), tuple(draft.groups[g].children)) for g in order)
    return Inventory(tuple(devices), tuple(groups_made))


def _check_names(draft: Draft) -> None:
    """Check that members and children exist, and that no name is both a device's and a group's."""
    for group in draft.groups.values():
        for name, place in group.members.items():
            if name not in draft.devices:
                draft.problems.add(
                    place,
                    f"no device '{name}'{draft.problems.near(name, draft.devices) or '; define it under `devices:`'}",
                )
        for name in [c for c in group.children if c not in draft.groups]:
            draft.problems.add(
                group.children.pop(name), f"no group {checks.shown(name)}{draft.problems.near(name, draft.groups)}"
            )
        if group.name in draft.devices:
            other = draft.devices[group.name].place
            draft.problems.add(group.place, f"'{group.name}' is also a device's name, at {other}; rename one")


def _group_order(draft: Draft) -> dict[str, int]:
    """Return the groups with their rank: deeper ones later, else as written.  A cycle is a problem."""
    _cut_cycles(draft)
    parents = {name: 0 for name in draft.groups}
    for group in draft.groups.values():
        for child in group.children:
            parents[child] += 1
    level = [name for name, count in parents.items() if count == 0]
    written = {name: n for n, name in enumerate(draft.groups)}
    order: list[str] = []
    depth = 0
    while level:
        order += sorted(level, key=written.__getitem__)
        depth += 1
        following = []
        for name in level:
            for child in draft.groups[name].children:
                parents[child] -= 1
                if parents[child] == 0:
                    following.append(child)
        level = following
    if depth > MAX_NESTING:
        draft.problems.add(draft.groups[order[0]].place, f"groups nest deeper than {MAX_NESTING} levels")
    return {name: rank for rank, name in enumerate(order)}


def _cut_cycles(draft: Draft) -> None:
    """Report each cycle of groups, and remove the link that closes it so that the rest can be checked."""
    done: set[str] = set()
    for start in draft.groups:
        path: dict[str, list[str]] = {}  # the groups on the path, each with the children still to visit
        while start not in done:
            name = next(reversed(path), start)
            waiting = path.setdefault(name, list(draft.groups[name].children))
            if not waiting:
                done.add(name)
                del path[name]
                continue
            child = waiting.pop()
            if child in path:
                ring = [*list(path)[list(path).index(child) :], child]
                place = draft.groups[name].children.pop(child)
                draft.problems.add(place, f"groups contain each other: {' -> '.join(ring[:20])}")
            elif child not in done:
                path[child] = list(draft.groups[child].children)


def _memberships(draft: Draft, order: dict[str, int]) -> dict[str, tuple[str, ...]]:
    """Return each device's groups, its groups' parents included, in order of rank."""
    above: dict[str, frozenset[str]] = {name: frozenset([name]) for name in order}
    for name in order:
        for child in draft.groups[name].children:
            above[child] |= above[name]
    direct: dict[str, list[str]] = {}
    for group in draft.groups.values():
        for member in group.members:
            direct.setdefault(member, []).append(group.name)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    result = {}
    for device, names in direct.items():
        key = tuple(names)
        if key not in known:
            known[key] = tuple(sorted(frozenset().union(*(above[n] for n in key)), key=order.__getitem__))
        result[device] = known[key]
    return result


def _overlay(base: Values, more: Values) -> Values:
    """Return `base` overridden by `more`: tags are combined, null cancels, any other value replaces."""
    merged = {**base, **more}
    new, old = more.get("tags"), base.get("tags")
    if new and old and isinstance(new.content, tuple) and isinstance(old.content, tuple):
        merged["tags"] = Value(tuple(dict.fromkeys(old.content + new.content)), new.place)
    return merged


class _Inheritance:
    """The inherited settings, computed once for each combination of groups."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._known: dict[tuple[str, ...], Values] = {}

    def of(self, groups: tuple[str, ...]) -> Values:
        if groups not in self._known:
            values = self._draft.defaults
            for name in groups:
                values = _overlay(values, self._draft.groups[name].values)
            self._known[groups] = values
        return self._known[groups]


def _device(device: DraftDevice, groups: tuple[str, ...], inherited: Values, draft: Draft) -> Device:
    """Return one device with all settings applied."""
    made: dict[str, Any] = {}
    for key, value in (_overlay(inherited, device.values) if device.values else inherited).items():
        content = _fill(key, value, device.member, draft) if value.template else value.content
        if content is None:
            continue
        made[_FIELD_NAMES.get(key, key)] = _VALUES[key](content) if key in _VALUES else content
    made["port_is_set"] = "port" in made
    name = device.member.name
    if "host" not in made:
        made["host"] = name
        wrong = "" if "host" in device.values else checks.host(name)
        if wrong:
            draft.problems.add(device.place, f"{wrong}; this device has no `host:`, so its name is used")
    made["host"] = checks.folded_host(made["host"])
    if "jump" in made and made["jump"] not in draft.devices:
        made["jump"] = checks.folded_jump(made["jump"])
    return Device(name=name, groups=groups, source=str(device.place), **made)


def _fill(key: str, value: Value, member: Member, draft: Draft) -> str | None:
    """Return a template's text for one device, checked; None when it is wrong (reported for the first device only)."""
    try:
        text = fill(str(value.content), member)
        wrong = FIELDS[key].check(text)
    except RangeError as err:
        text, wrong = "", str(err)
    if not wrong:
        return text
    if value.place not in draft.reported:
        draft.reported.add(value.place)
        draft.problems.add(value.place, f"{wrong} (for device '{member.name}')")
    return None


def _check_jumps(devices: list[Device], draft: Draft) -> None:
    """Check that a jump host without address is a device, and that no device is its own jump host."""
    by_name = {d.name: d for d in devices}
    good: set[str] = set()  # devices whose whole chain is known to end
    for device in devices:
        chain: dict[str, None] = {}
        here: Device | None = device
        while here is not None and here.name not in good and here.name not in chain:
            chain[here.name] = None
            if here.jump and here.jump not in by_name and not set("@:.") & set(here.jump):
                hint = draft.problems.near(here.jump, by_name) or f"; for a host of that name write '{here.jump}:22'"
                draft.problems.add(_place_of(here, "jump", draft), f"no device '{here.jump}'{hint}")
            here = by_name.get(here.jump)
        if here is not None and here.name in chain:
            ring = [*list(chain)[list(chain).index(here.name) :], here.name]
            draft.problems.add(_place_of(here, "jump", draft), f"jump hosts form a cycle: {' -> '.join(ring[:20])}")
        good.update(chain)


def _place_of(device: Device, key: str, draft: Draft) -> Place:
    """Return the place of a device's effective setting."""
    written = draft.devices[device.name]
    if key in written.values:
        return written.values[key].place
    for group in reversed(device.groups):
        if key in draft.groups[group].values:
            return draft.groups[group].values[key].place
    return draft.defaults[key].place if key in draft.defaults else written.place


def _check_addresses(devices: list[Device], draft: Draft) -> None:
    """Report two names for one login on one machine: a rollout would change it twice at the same time."""
    if any(p.path.rpartition(".")[2] in _ADDRESS or p.message.startswith("unknown key") for p in draft.problems.found):
        return  # an address with a problem could look like a duplicate
    first_of: dict[tuple[str, int, str, str], Device] = {}
    for device in devices:
        first = first_of.setdefault((device.host, device.port, device.user, device.jump), device)
        if first is not device:
            draft.problems.add(
                _place_of(device, "host", draft),
                f"'{device.name}' and '{first.name}' ({first.source}) are both {_login(device)}; "
                "one machine, one device",
            )


def _login(device: Device) -> str:
    login = f"{device.user}@" if device.user else ""
    return f"{login}[{device.host}]:{device.port}" if ":" in device.host else f"{login}{device.host}:{device.port}"
