"""The devices of the inventory as the queries take them: (device, model) pairs in the inventory's order, searched by text.

The inventory is a file, not a table: its pairs go into a query as one JSON value, so that the database filters and pages them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from litefleet_inventory import Device
from sqlalchemy.dialects.postgresql import JSONB

from ...operations.device_records import LatestDrift
from ...project.project import Project

_LONGEST = 200  # characters of a search


@dataclass(frozen=True)
class Roster:
    """The inventory's devices with their models; `drift` is what the latest kept reconcile found."""

    fleet: str
    devices: tuple[Device, ...]
    models: Mapping[str, tuple[str, ...]]  # of each device
    drift: LatestDrift = field(default_factory=LatestDrift)
    by_name: Mapping[str, Device] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, project: Project, drift: LatestDrift) -> Roster:
        """Return the roster of an open project."""
        models = {device.name: tuple(project.models_of(device)) for device in project.devices}
        by_name = {device.name: device for device in project.devices}
        return cls(project.config.fleet, project.devices, models, drift, by_name)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of all groups and tags, sorted."""
        return tuple(sorted({name for device in self.devices for name in (*device.groups, *device.tags)}))

    def matching(self, text: str, group: str, model: str) -> list[tuple[str, str]]:
        """Return the pairs whose device has every word of `text` in its name, host, groups or tags, and is in `group`."""
        words = text[:_LONGEST].casefold().split()
        return [
            (device.name, name)
            for device in self.devices
            if (not group or group in device.groups or group in device.tags) and _has(device, words)
            for name in self.models[device.name]
            if not model or name == model
        ]


def _has(device: Device, words: Sequence[str]) -> bool:
    if not words:
        return True
    text = " ".join((device.name, device.host, *device.groups, *device.tags)).casefold()
    return all(word in text for word in words)


def pairs_table(connection: sa.Connection, pairs: Iterable[tuple[str, str]], drift: LatestDrift) -> sa.Subquery:
    """Return a table of these pairs: `device`, `model`, `place` (their order), `drifted` (1 where the reconcile found drift)."""
    text = _text(tuple(pairs), frozenset(pair for pair, codes in drift.codes.items() if codes))
    if connection.dialect.name == "sqlite":
        value = sa.func.json_each(text).table_valued("key", "value")
        columns: list[Any] = [sa.func.json_extract(value.c.value, f"$[{place}]") for place in range(3)]
        place: sa.ColumnElement[int] = value.c.key
    else:
        items = sa.func.jsonb_array_elements(sa.cast(sa.literal(text, sa.Text), JSONB))  # a text: not JSON in JSON
        value = items.table_valued("value", with_ordinality="place").render_derived()
        item = sa.type_coerce(value.c.value, JSONB)
        columns = [item[0].astext, item[1].astext, sa.cast(item[2].astext, sa.Integer)]
        place = value.c.place
    named = [column.label(name) for column, name in zip(columns, ("device", "model", "drifted"), strict=True)]
    return sa.select(*named, place.label("place")).subquery("pairs")


@lru_cache(maxsize=8)
def _text(pairs: tuple[tuple[str, str], ...], drifted: frozenset[tuple[str, str]]) -> str:
    """Return the pairs as JSON; those of a large fleet are the same from one page to the next."""
    return json.dumps([(device, model, int((device, model) in drifted)) for device, model in pairs])
