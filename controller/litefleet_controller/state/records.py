"""Values to rows of the tables, and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast, get_args

from litefleet_agent.findings import Verdict

from ..devices.deliver import Release
from ..rollout import DeviceRow, DeviceState, Policy, Rollout, RolloutState, Wave
from ..rollout.model import Kind
from .model import Confirmed, KnownDevice

__all__ = [
    "confirmed_from",
    "confirmed_values",
    "known_from",
    "release_from",
    "release_values",
    "rollout_from",
    "rollout_values",
    "row_from",
    "row_values",
]

_ROW_FIELDS = tuple(field.name for field in dataclasses.fields(DeviceRow))
_CONFIRMED_FIELDS = tuple(field.name for field in dataclasses.fields(Confirmed))


def row_values(rollout_id: str, row: DeviceRow) -> dict[str, object]:
    """Return a row as the table's columns."""
    values = {name: getattr(row, name) for name in _ROW_FIELDS}
    values["rollout"] = rollout_id
    values["state"] = row.state.value
    values["verdict"] = row.verdict.value if row.verdict is not None else None
    values["codes"] = list(row.codes)
    return values


def row_from(stored: Any) -> DeviceRow:
    """Return a stored row; ValueError for states that this version does not know."""
    values = {name: getattr(stored, name) for name in _ROW_FIELDS}
    values["state"] = DeviceState(stored.state)
    values["verdict"] = Verdict(stored.verdict) if stored.verdict is not None else None
    values["codes"] = tuple(stored.codes)
    return DeviceRow(**values)


def rollout_values(rollout: Rollout) -> dict[str, object]:
    """Return a rollout as the table's columns, without its request and the time of the last change."""
    return {
        "id": rollout.id,
        "fleet": rollout.fleet,
        "kind": rollout.kind,
        "state": rollout.state.value,
        "policy": rollout.policy.model_dump(mode="json"),
        "waves": [[wave.size, wave.spec] for wave in rollout.waves],
        "created_at": rollout.created_at,
        "asked_by": rollout.by,
        "models": list(rollout.models),
        "wave": rollout.wave,
        "soak_until": rollout.soak_until,
        "looked": rollout.looked,
        "approved": rollout.approved,
        "reason": rollout.reason,
        "behind": list(rollout.behind),
        "number": rollout.number,
        "parent": rollout.parent,
        "selection": rollout.limit,
        "origin": dict(rollout.origin),
    }


def rollout_from(stored: Any) -> Rollout:
    """Return a stored rollout; ValueError for states that this version does not know."""
    if stored.kind not in get_args(Kind):
        raise ValueError(f"a rollout of kind {stored.kind!r}")
    return Rollout(
        id=stored.id,
        fleet=stored.fleet,
        kind=cast(Kind, stored.kind),
        state=RolloutState(stored.state),
        policy=Policy.model_validate(stored.policy),
        waves=tuple(Wave(size, spec) for size, spec in stored.waves),
        created_at=stored.created_at,
        by=stored.asked_by,
        models=tuple(stored.models),
        wave=stored.wave,
        soak_until=stored.soak_until,
        looked=stored.looked,
        approved=stored.approved,
        reason=stored.reason,
        behind=tuple(stored.behind),
        number=stored.number,
        parent=stored.parent,
        limit=stored.selection,
        origin=stored.origin,
        request=stored.request,
        updated_at=stored.updated_at,
    )


def release_values(release: Release, now: float) -> dict[str, object]:
    """Return a release as the table's columns."""
    blob = release.runtime_blob
    return {
        "id": release.id,
        "model": release.model,
        "kind": release.kind,
        "manifest": dict(release.manifest),
        "artifact": release.artifact,
        "blobs": {digest: str(path) for digest, path in release.blobs.items()},
        "runtime_key": release.runtime_key,
        "runtime_blob": [blob[0], str(blob[1])] if blob is not None else None,
        "runtime_size": release.runtime_size,
        "recipe": release.recipe,
        "special": release.special,
        "sealed": dict(release.signed) if release.signed is not None else None,
        "kept_at": now,
    }


def release_from(stored: Any) -> Release:
    """Return a stored release."""
    blob = stored.runtime_blob
    return Release(
        id=stored.id,
        model=stored.model,
        kind=stored.kind,
        manifest=stored.manifest,
        artifact=stored.artifact,
        blobs={digest: Path(path) for digest, path in stored.blobs.items()},
        runtime_key=stored.runtime_key,
        runtime_blob=(blob[0], Path(blob[1])) if blob is not None else None,
        runtime_size=stored.runtime_size,
        recipe=stored.recipe,
        special=stored.special,
        signed=stored.sealed,
    )


def confirmed_values(entry: Confirmed) -> dict[str, object]:
    """Return a confirmed release as the table's columns."""
    values = {name: getattr(entry, name) for name in _CONFIRMED_FIELDS}
    values["measurements"] = dict(entry.measurements)
    return values


def confirmed_from(stored: Any) -> Confirmed:
    """Return a stored confirmed release."""
    return Confirmed(**{name: getattr(stored, name) for name in _CONFIRMED_FIELDS})


def known_from(stored: Any) -> KnownDevice:
    """Return a device's stored facts."""
    return KnownDevice(stored.device, stored.facts, stored.fingerprint, stored.seen_at)
