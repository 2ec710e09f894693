"""Models and their versions: what was released, what the files need, which devices run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ...common.errors import LitefleetError
from ...config import Config
from ...inspection.model import Inspection, inspect_file
from ...state import State
from ...state.tables import confirmed, findings, latest_rows, releases

_MOST = 200  # releases of one model
_GOLDEN = ("LF412", "LF425")  # findings about what a golden can tell


@dataclass(frozen=True)
class ModelLine:
    """One model: how many releases it has and how many devices run one."""

    name: str
    is_configured: bool
    releases: int
    devices: int
    versions: tuple[tuple[str, int], ...]  # (version, devices that run it), the newest first


@dataclass(frozen=True)
class ReleaseLine:
    """One stored release."""

    id: str
    version: str
    kind: str
    artifact: str
    runtime: str
    made_at: float
    devices: int
    goldens: int
    engine: str
    path: Path | None  # of its .nb, where the controller still has it


@dataclass(frozen=True)
class ModelPage:
    """One model with its releases, the newest first."""

    name: str
    releases: tuple[ReleaseLine, ...]
    golden_engine: str
    golden_findings: tuple[tuple[str, str], ...]  # (code, sentence): what the golden cannot tell
    compared: tuple[str, ...]


def model_list(state: State, config: Config, fleet: str) -> tuple[ModelLine, ...]:
    """Return all models of litefleet.yaml and of stored releases.  Raises: StateError."""
    r = releases.c
    with state.reading() as connection:
        runs = _devices_by_release(connection)
        stored = connection.execute(sa.select(r.id, r.model, r.version, r.kept_at).order_by(r.kept_at.desc())).all()
    found: dict[str, dict[str, int]] = {name: {} for name in config.models}
    counted: dict[str, int] = {}
    for one in stored:
        versions = found.setdefault(one.model, {})
        versions[one.version] = versions.get(one.version, 0) + runs.get(one.id, 0)
        counted[one.model] = counted.get(one.model, 0) + 1
    return tuple(
        ModelLine(name, name in config.models, counted.get(name, 0), sum(versions.values()), tuple(versions.items()))
        for name, versions in found.items()
    )


def model_page(state: State, config: Config, fleet: str, name: str) -> ModelPage | None:
    """Return one model; None where it is unknown.  Raises: StateError."""
    r = releases.c
    with state.reading() as connection:
        runs = _devices_by_release(connection)
        chosen = sa.select(releases).where(r.model == name).order_by(r.kept_at.desc()).limit(_MOST)
        stored = connection.execute(chosen).all()
        told = _golden_findings(connection, fleet, name)
    if not stored and name not in config.models:
        return None
    configured = config.models.get(name)
    return ModelPage(
        name,
        tuple(_release(one, runs) for one in stored),
        ("files" if configured.golden.files else configured.golden.engine) if configured else "",
        told,
        tuple(_compared(stored[0].manifest)) if stored else (),
    )


def _compared(manifest: Mapping[str, Any]) -> list[str]:
    limits = manifest.get("outputs")
    return [str(name)[:80] for name in limits][:20] if isinstance(limits, dict | list) else []


def _release(one: Any, runs: Mapping[str, int]) -> ReleaseLine:
    manifest = one.manifest
    golden = manifest.get("golden")
    path = one.blobs.get(one.artifact)
    engine = manifest.get("engine")
    return ReleaseLine(
        one.id,
        one.version,
        one.kind,
        one.artifact,
        one.runtime_key,
        one.kept_at,
        runs.get(one.id, 0),
        len(golden) if isinstance(golden, list) else 0,
        ", ".join(f"{key} {value}" for key, value in engine.items()) if isinstance(engine, dict) else "",
        Path(path) if path else None,
    )


def _devices_by_release(connection: sa.Connection) -> dict[str, int]:
    counted = sa.select(confirmed.c.release, sa.func.count()).group_by(confirmed.c.release)
    return {release: count for release, count in connection.execute(counted)}


def _golden_findings(connection: sa.Connection, fleet: str, model: str) -> tuple[tuple[str, str], ...]:
    f, last = findings.c, latest_rows.c
    same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
    chosen = (
        sa.select(f.code, f.seen)
        .join(latest_rows, same)
        .where(f.code.in_(_GOLDEN), last.fleet == fleet, last.model == model)
        .distinct()
        .limit(10)
    )
    return tuple((code, seen) for code, seen in connection.execute(chosen))


def devices_with_codes(state: State, fleet: str) -> dict[str, int]:
    """Return how many devices have each finding in their latest rollout.  Raises: StateError."""
    f, last = findings.c, latest_rows.c
    same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
    counted = (
        sa.select(f.code, sa.func.count(f.device.distinct()))
        .join(latest_rows, same)
        .where(last.fleet == fleet)
        .group_by(f.code)
    )
    with state.reading() as connection:
        return {code: count for code, count in connection.execute(counted)}


def devices_with(state: State, fleet: str, code: str, most: int = 100) -> tuple[tuple[str, str, str], ...]:
    """Return (device, model, sentence) of the devices whose latest rollout has a finding.  Raises: StateError."""
    f, last = findings.c, latest_rows.c
    same = (f.rollout == last.rollout) & (f.device == last.device) & (f.model == last.model)
    chosen = (
        sa.select(f.device, f.model, f.seen)
        .join(latest_rows, same)
        .where(f.code == code, last.fleet == fleet)
        .order_by(f.device, f.model)
        .limit(most)
    )
    with state.reading() as connection:
        return tuple((device, model, seen) for device, model, seen in connection.execute(chosen))


@lru_cache(maxsize=64)
def inspected(path: Path, artifact: str) -> Inspection | None:
    """Return what `litefleet inspect` knows of a release's file, read once for each SHA-256; None where it is gone."""
    try:
        return inspect_file(path)
    except LitefleetError:
        return None
