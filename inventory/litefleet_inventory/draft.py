"""The content of the files before inheritance: settings, groups and devices, each with its file and line."""

from __future__ import annotations

from dataclasses import dataclass, field

from .fields import Values
from .problems import Place, Problems
from .ranges import Member

MAX_DEVICES = 100_000
MAX_GROUPS = 2_000
MAX_LINKS = 1_000_000  # memberships and children: with YAML aliases, a small file could define a billion


@dataclass(slots=True)
class DraftDevice:
    """One device as written."""

    member: Member
    place: Place
    values: Values
    has_settings: bool  # a device without settings of its own may be listed in several places


@dataclass(slots=True)
class DraftGroup:
    """One group as written; members and children keep the place of their first mention."""

    name: str
    place: Place
    values: Values = field(default_factory=dict)
    members: dict[str, Place] = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)


@dataclass
class Draft:
    """The content of all files, in reading order."""

    problems: Problems
    defaults: Values = field(default_factory=dict)
    groups: dict[str, DraftGroup] = field(default_factory=dict)
    devices: dict[str, DraftDevice] = field(default_factory=dict)
    links: int = 0
    reported: set[Place] = field(default_factory=set)  # templates that failed for a device: one problem each

    def set_values(self, target: Values, values: Values) -> None:
        """Add settings to `target`; a setting that another place has set already is a problem."""
        for key, value in values.items():
            first = target.setdefault(key, value)
            if first is not value:
                self.problems.add(value.place, f"already set at {first.place}")

    def group(self, name: str, place: Place) -> DraftGroup | None:
        """Return the group of this name, created if new; None when there are more than MAX_GROUPS."""
        if name not in self.groups:
            if len(self.groups) >= MAX_GROUPS:
                self.problems.add(Place(place.file), f"more than {MAX_GROUPS:,} groups; use tags for finer sets")
                return None
            self.groups[name] = DraftGroup(name, place)
        return self.groups[name]

    def add_device(self, device: DraftDevice) -> bool:
        """Add a device; False when there are more than MAX_DEVICES.  A second definition with settings is a problem."""
        name = device.member.name
        first = self.devices.get(name)
        if first is None:
            if len(self.devices) >= MAX_DEVICES:
                self.problems.add(
                    Place(device.place.file),
                    f"more than {MAX_DEVICES:,} devices; split the fleet into several inventories",
                )
                return False
            self.devices[name] = device
        elif first.has_settings and device.has_settings:
            self.problems.add(device.place, f"device '{name}' is defined twice; first at {first.place}")
        elif device.has_settings:
            self.devices[name] = device
        return True

    def link(self, target: dict[str, Place], name: str, place: Place) -> bool:
        """Add a member or child; False when the inventory has more than MAX_LINKS of them."""
        self.links += 1
        if self.links > MAX_LINKS:
            self.problems.add(
                Place(place.file), f"more than {MAX_LINKS:,} group memberships; use tags, or fewer groups"
            )
            return False
        target.setdefault(name, place)
        return True
