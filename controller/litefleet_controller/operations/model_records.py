"""What the project knows of its models: releases, what runs them, golden and its power, measured accuracy, the files.

Reads the state, the kept reports and the files of releases; no device is contacted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from ..build.golden.power import GoldenPower
from ..common.checked import mapping_or_empty, sequence_or_empty
from ..common.errors import LitefleetError, UsageError
from ..common.text import sanitize
from ..config import Config
from ..evaluate.figures import Accuracy, accuracy_of
from ..inspection.model import Inspection, inspect_file
from ..project.run_fleet import read_report, reports_folder
from ..state import State
from ..state.tables import confirmed, findings, latest_rows, releases

_MOST_RELEASES = 200  # of one model
_MOST_FILES = 8  # of one model that are described
_MOST_COMPARED = 20
_MOST_EVALUATIONS = 20  # of one model
_MOST_READ = 60  # kept reports, of one page of evaluations
_MOST_SCORES = 200  # of one evaluation: those of the lowest score
_MOST_CLASSES = 20  # of one score
_POWER = TypeAdapter(GoldenPower)
_GOLDEN = ("LF412", "LF425")  # findings about what a golden can tell


@dataclass(frozen=True)
class ModelRecord:
    """One model: how many releases it has, how many devices run one, and how many run each version (the newest first)."""

    name: str
    is_configured: bool  # in litefleet.yaml
    releases: int
    devices: int
    versions: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {**vars(self), "versions": dict(self.versions)}


@dataclass(frozen=True)
class ReleaseRecord:
    """One stored release; `made_at` is seconds since the epoch, `devices` how many run it.

    `golden_power` is what was measured of its golden (`GoldenPower`), None where the release is from before that was stored.
    """

    id: str
    version: str
    kind: str  # of device: "x86_64 cp311 glibc 2.36"
    artifact: str  # SHA-256 of the .nb
    runtime: str
    engine: str  # what is asked of the engine: "threads 2"
    made_at: float
    devices: int
    golden_cases: int
    golden_power: Mapping[str, Any] | None

    @property
    def power(self) -> GoldenPower | None:
        """The power as a checked value; None where none is stored, or another version stored another form."""
        try:
            return None if self.golden_power is None else _POWER.validate_python(self.golden_power)
        except ValidationError:
            return None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return vars(self)


class Score(NamedTuple):
    """The accuracy of a model on one device in one evaluation."""

    device: str
    release: str
    version: str
    accuracy: Accuracy


@dataclass(frozen=True)
class Evaluation:
    """One kept `litefleet evaluate` of a model; scores are from 0 (worst) to 1, `scores` begins with the lowest."""

    report: str
    at: str  # ISO 8601, UTC
    devices: int
    accepted: int  # devices whose accuracy is accepted
    lowest: float
    middle: float  # the median
    highest: float
    scores: tuple[Score, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that were evaluated."""
        return tuple(dict.fromkeys(score.version for score in self.scores if score.version))

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        scores = [{**s._asdict(), "accuracy": s.accuracy.to_dict(_MOST_CLASSES)} for s in self.scores]
        return {**vars(self), "scores": scores}


@dataclass(frozen=True)
class ModelFile:
    """A release's .nb that the controller still has, as `litefleet inspect` describes it."""

    sha256: str
    inspection: Inspection

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form: that of `litefleet inspect --json`, without the file's folder."""
        return {"artifact": self.sha256, **self.inspection.to_dict(), "file": self.inspection.path.name}


@dataclass(frozen=True)
class ModelStory:
    """One model: its releases and files, the newest first, its golden, and its kept evaluations, the latest first."""

    name: str
    is_configured: bool
    releases: tuple[ReleaseRecord, ...]
    golden_engine: str  # "paddle", "paddlelite", "files"; "" = not in litefleet.yaml
    golden_findings: tuple[tuple[str, str], ...]  # (code, sentence) of the devices' latest rollouts
    compared: tuple[str, ...]  # outputs with a comparison of their own
    evaluations: tuple[Evaluation, ...]
    files: tuple[ModelFile, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "model",
            "model": self.name,
            "is_configured": self.is_configured,
            "releases": [one.to_dict() for one in self.releases],
            "golden": {
                "engine": self.golden_engine,
                "compared": list(self.compared),
                "findings": [{"code": code, "seen": seen} for code, seen in self.golden_findings],
            },
            "evaluations": [one.to_dict() for one in self.evaluations],
            "files": [one.to_dict() for one in self.files],
        }


def model_records(state: State, config: Config) -> tuple[ModelRecord, ...]:
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
        ModelRecord(name, name in config.models, counted.get(name, 0), sum(versions.values()), versions)
        for name, versions in found.items()
    )


def model_story(state: State, config: Config, name: str) -> ModelStory:
    """Return one model.  Raises: UsageError for a name that neither litefleet.yaml nor the state knows; StateError."""
    r = releases.c
    with state.reading() as connection:
        runs = _devices_by_release(connection)
        chosen = sa.select(releases).where(r.model == name).order_by(r.kept_at.desc()).limit(_MOST_RELEASES)
        stored = connection.execute(chosen).all()
        told = _golden_findings(connection, config.fleet, name)
    configured = config.models.get(name)
    if not stored and configured is None:
        raise UsageError(f"there is no model {sanitize(name, 60)} in litefleet.yaml or among the releases")
    return ModelStory(
        name,
        configured is not None,
        tuple(_release(one, runs.get(one.id, 0)) for one in stored),
        ("files" if configured.golden.files else configured.golden.engine) if configured else "",
        told,
        tuple(_compared(stored[0].manifest)) if stored else (),
        evaluations_before(config, name)[0],
        _files({one.artifact: one.blobs.get(one.artifact) for one in stored}),
    )


def release_ids(state: State, model: str) -> tuple[str, ...]:
    """Return the IDs of all stored releases of a model, the newest first.  Raises: StateError."""
    r = releases.c
    with state.reading() as connection:
        chosen = sa.select(r.id).where(r.model == model).order_by(r.kept_at.desc(), r.id)
        return tuple(connection.execute(chosen).scalars())


def releases_named(state: State, ids: Sequence[str]) -> tuple[ReleaseRecord, ...]:
    """Return some stored releases, in the order of their IDs given.  Raises: StateError."""
    with state.reading() as connection:
        runs = _devices_by_release(connection)
        stored = connection.execute(sa.select(releases).where(releases.c.id.in_(ids))).all()
    found = {one.id: _release(one, runs.get(one.id, 0)) for one in stored}
    return tuple(found[ident] for ident in ids if ident in found)


def evaluations_before(
    config: Config, model: str, before: str = "", most: int = _MOST_EVALUATIONS
) -> tuple[tuple[Evaluation, ...], str]:
    """Return kept evaluations of a model older than the report `before`, the latest first, and where older ones begin.

    "" begins with the latest; the second value is a report's name for `before`, "" where there is nothing older.  A bounded
    number of reports is read, of other models too: there may be older ones where none is returned.
    """
    found: list[Evaluation] = []
    kept = sorted(reports_folder(config).glob("*-evaluate.json"), key=lambda path: path.stem, reverse=True)
    older = [path for path in kept if not before or path.stem < before]
    for number, path in enumerate(older):
        if len(found) >= most or number >= _MOST_READ:
            return tuple(found), older[number - 1].stem
        try:
            by_model = _evaluated(path, path.stat().st_mtime_ns)
        except OSError:  # it was deleted meanwhile
            continue
        found += [by_model[model]] if model in by_model else []
    return tuple(found), ""


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


def _compared(manifest: Mapping[str, Any]) -> list[str]:
    limits = manifest.get("outputs")
    return [str(name)[:80] for name in limits][:_MOST_COMPARED] if isinstance(limits, dict | list) else []


def _release(one: Any, devices: int) -> ReleaseRecord:
    engine = mapping_or_empty(one.manifest.get("engine"))
    return ReleaseRecord(
        one.id,
        one.version,
        one.kind,
        one.artifact,
        one.runtime_key,
        ", ".join(f"{key} {value}" for key, value in engine.items()),
        one.kept_at,
        devices,
        len(sequence_or_empty(one.manifest.get("golden"))),
        one.golden_power,
    )


def _files(paths: Mapping[str, str | None]) -> tuple[ModelFile, ...]:
    """Return the descriptions of the newest files that the controller still has."""
    kept = [(artifact, Path(path)) for artifact, path in paths.items() if path][:_MOST_FILES]
    found = ((artifact, _inspected(path, artifact)) for artifact, path in kept)
    return tuple(ModelFile(artifact, one) for artifact, one in found if one is not None)


@lru_cache(maxsize=64)
def _inspected(path: Path, artifact: str) -> Inspection | None:
    """Return what `litefleet inspect` knows of a release's file, read once for each SHA-256; None where it is gone."""
    try:
        return inspect_file(path)
    except LitefleetError:
        return None


@lru_cache(maxsize=2 * _MOST_READ)
def _evaluated(path: Path, changed: int) -> Mapping[str, Evaluation]:
    """Return what one kept report says of each model; nothing where it cannot be read.  `changed` tells an older file apart."""
    try:
        report = read_report(path)
    except UsageError:
        return {}
    scores: dict[str, list[Score]] = {}
    for outcome in report.outcomes:
        if (found := accuracy_of(outcome)) is not None:
            brief = found.model_copy(update={"classes": found.classes[:_MOST_CLASSES]})
            one = Score(outcome.device, outcome.release, outcome.version, brief)
            scores.setdefault(outcome.model, []).append(one)
    return {model: _evaluation(path.stem, report.started_at, ones) for model, ones in scores.items()}


def _evaluation(report: str, at: str, scores: list[Score]) -> Evaluation:
    ordered = sorted(scores, key=lambda one: (one.accuracy.value, one.device))
    values = [one.accuracy.value for one in ordered]
    accepted = sum(one.accuracy.accepted for one in ordered)
    kept = tuple(ordered[:_MOST_SCORES])
    return Evaluation(report, at, len(ordered), accepted, values[0], median(values), values[-1], kept)
