"""Values to rows of the tables, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from litefleet_agent.findings import Verdict

from ..common.checked import mapping_or_empty
from ..devices.release import Release
from ..rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState, Wave
from ..rollout.model import Kind
from .model import Confirmed, KnownDevice

_ROW_FIELDS = tuple(field.name for field in dataclasses.fields(DeviceRow))
_STATE_AT, _VERDICT_AT, _CODES_AT = map(_ROW_FIELDS.index, ("state", "verdict", "codes"))
_CONFIRMED_FIELDS = tuple(field.name for field in dataclasses.fields(Confirmed))
_ROLLOUT_FIELDS = tuple(f.name for f in dataclasses.fields(Rollout) if f.name not in ("request", "updated_at"))
_COLUMNS = {"by": "asked_by", "limit": "selection"}  # of a rollout's fields that the table names otherwise
# Of a release's fields; `signed` is the column `sealed`
_NOT_STORED = ("signed", "findings", "no_runtime", "outputs", "golden", "runtime_words", "trusted_signers")
_RELEASE_FIELDS = tuple(field.name for field in dataclasses.fields(Release) if field.name not in _NOT_STORED)

# Columns of a query, in an order that the functions below expect
ROW_COLUMNS = ", ".join(f"r.{name}" for name in ("rollout", *_ROW_FIELDS))  # of `rollout_rows AS r`
CONFIRMED_COLUMNS = ", ".join(f"c.{name}" for name in _CONFIRMED_FIELDS)  # of `confirmed AS c`
ROLLOUT_COLUMNS = ", ".join(_COLUMNS.get(name, name) for name in (*_ROLLOUT_FIELDS, "request", "updated_at"))


def row_values(rollout_id: str, row: DeviceRow) -> dict[str, object]:
    """Return a row as the table's columns."""
    values = {name: getattr(row, name) for name in _ROW_FIELDS}
    values["rollout"] = rollout_id
    values["state"] = row.state.value
    values["verdict"] = row.verdict.value if row.verdict is not None else None
    values["codes"] = list(row.codes)
    return values


def row_from(stored: Any) -> DeviceRow:
    """Return a stored row; ValueError for states that this version does not know.

    `stored` begins with the table's columns in its order, which is that of the fields behind `rollout`: reading them by their
    places takes half the time, of 10,000 rows.
    """
    values = list(stored[1 : 1 + len(_ROW_FIELDS)])
    values[_STATE_AT] = DeviceState(values[_STATE_AT])
    if values[_VERDICT_AT] is not None:
        values[_VERDICT_AT] = Verdict(values[_VERDICT_AT])
    values[_CODES_AT] = tuple(values[_CODES_AT])
    return DeviceRow(*values)


def rollout_values(rollout: Rollout) -> dict[str, object]:
    """Return a rollout as the table's columns, without its request and the time of the last change."""
    values = {_COLUMNS.get(name, name): getattr(rollout, name) for name in _ROLLOUT_FIELDS}
    values["state"] = rollout.state.value
    policy = rollout.policy.model_dump(mode="json")
    if not policy["prepare_next"]:  # controllers before this option read what does not use it
        del policy["prepare_next"]
    values["policy"] = policy
    values["waves"] = [[wave.size, wave.spec] for wave in rollout.waves]
    values["models"], values["behind"] = list(rollout.models), list(rollout.behind)
    values["origin"] = dict(rollout.origin)
    return values


def rollout_from(stored: Any) -> Rollout:
    """Return a stored rollout; ValueError for what this version does not know."""
    if stored.kind not in get_args(Kind):
        raise ValueError(f"a rollout of kind {stored.kind!r}")
    values = {name: getattr(stored, _COLUMNS.get(name, name)) for name in (*_ROLLOUT_FIELDS, "request", "updated_at")}
    values["state"] = RolloutState(stored.state)
    values["policy"] = Policy.model_validate(stored.policy)
    values["waves"] = tuple(Wave(size, spec) for size, spec in stored.waves)
    values["models"], values["behind"] = tuple(stored.models), tuple(stored.behind)
    return Rollout(**values)


def release_values(release: Release, now: float) -> dict[str, object]:
    """Return a release as the table's columns."""
    values = {name: getattr(release, name) for name in _RELEASE_FIELDS}
    blob = release.runtime_blob
    values["manifest"] = dict(release.manifest)
    values["blobs"] = {digest: str(path) for digest, path in release.blobs.items()}
    values["runtime_blob"] = [blob[0], str(blob[1])] if blob is not None else None
    values["sealed"] = dict(release.signed) if release.signed is not None else None
    values["golden_power"] = dict(release.golden_power) if release.golden_power is not None else None
    return {**values, "kept_at": now}


def release_from(stored: Any) -> Release:
    """Return a stored release."""
    values = {name: getattr(stored, name) for name in _RELEASE_FIELDS}
    blob = stored.runtime_blob
    values["blobs"] = {digest: Path(path) for digest, path in stored.blobs.items()}
    values["runtime_blob"] = (blob[0], Path(blob[1])) if blob is not None else None
    return Release(**values, signed=stored.sealed)


def confirmed_values(entry: Confirmed) -> dict[str, object]:
    """Return a confirmed release as the table's columns."""
    values = {name: getattr(entry, name) for name in _CONFIRMED_FIELDS}
    values["measurements"] = dict(entry.measurements)
    return values


def confirmed_from(stored: Any) -> Confirmed:
    """Return a stored confirmed release."""
    return Confirmed(**{name: getattr(stored, name) for name in _CONFIRMED_FIELDS})


class StoredObject(Mapping[str, object]):
    """A JSON object as it is stored, read when it is first used: facts of a large fleet, of which a rollout uses few."""

    __slots__ = ("_stored",)

    def __init__(self, text: str) -> None:
        self._stored: str | Mapping[str, object] = text

    def _read(self) -> Mapping[str, object]:
        if isinstance(self._stored, str):
            self._stored = mapping_or_empty(json.loads(self._stored))
        return self._stored

    def __getitem__(self, key: str) -> object:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())


def known_from(stored: Any) -> KnownDevice:
    """Return a device's stored facts, given as a row whose facts are text."""
    return KnownDevice(stored.device, StoredObject(stored.facts), stored.fingerprint, stored.seen_at, stored.host_key)
