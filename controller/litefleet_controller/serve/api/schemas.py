"""The documents of the API: those of the commands' `--json`.  Members may be added; what is listed here stays."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...operations.device_records import DeviceRecord, TimelineEntry
from ...state.device_history import HistoryEntry
from ...state.model import AuditEntry
from ..auth import Role
from ..jobs import Job


class Answer(BaseModel):
    """A document; programs ignore members that they do not know."""

    model_config = ConfigDict(extra="allow")


class Versioned(Answer):
    """A document of a command."""

    form: Literal[1] = Field(alias="schema")


class Me(Answer):
    """Who asks, and which server answers."""

    name: str
    role: Role
    fleet: str
    litefleet: str = Field(description="the version of the server")


class Devices(Versioned):
    """`litefleet devices --json`."""

    command: Literal["devices"]
    devices: list[DeviceRecord]


class Device(Versioned):
    """`litefleet device NAME --json`."""

    command: Literal["device"]
    device: str
    models: list[DeviceRecord]
    facts: dict[str, Any]
    host_key: str
    timeline: list[TimelineEntry]


class ModelEntry(Answer):
    """One model; `versions`: how many devices run each version, the newest first."""

    name: str
    is_configured: bool
    releases: int
    devices: int
    versions: dict[str, int]


class Models(Versioned):
    """The models of litefleet.yaml and of stored releases."""

    command: Literal["models"]
    models: list[ModelEntry]


class ReleaseEntry(Answer):
    """A stored release; `golden_power` is what was measured of its golden, null where that was not stored yet."""

    id: str
    version: str
    kind: str = Field(description="of device")
    artifact: str = Field(description="the SHA-256 of the .nb")
    runtime: str
    engine: str
    made_at: float
    devices: int = Field(description="that run it")
    golden_cases: int
    golden_power: dict[str, Any] | None


class GoldenEntry(Answer):
    """A model's golden: what makes it, outputs with a comparison of their own, and what devices' rollouts said of it."""

    engine: str
    compared: list[str]
    findings: list[dict[str, str]]


class EvaluationEntry(Answer):
    """A kept `litefleet evaluate`; scores are from 0 (worst) to 1, those of the lowest first."""

    report: str
    at: str
    devices: int
    accepted: int
    lowest: float
    middle: float = Field(description="the median")
    highest: float
    scores: list[dict[str, Any]]


class OneModel(Versioned):
    """One model: releases, golden, accuracy, and what `litefleet inspect --json` shows of its files."""

    command: Literal["model"]
    model: str
    is_configured: bool
    releases: list[ReleaseEntry]
    golden: GoldenEntry
    evaluations: list[EvaluationEntry]
    files: list[dict[str, Any]]


class Releases(Versioned):
    """The stored releases of a model, the newest first."""

    command: Literal["model"]
    model: str
    releases: list[ReleaseEntry]


class Evaluations(Versioned):
    """The kept evaluations of a model, the latest first."""

    command: Literal["model"]
    model: str
    evaluations: list[EvaluationEntry]


class Stored(Answer):
    """What the state stores of a device: what forgetting it deletes."""

    device: str
    stored: dict[str, int]


class HostKey(Answer):
    """The SSH host key that a device shows, and those that are trusted."""

    device: str
    fingerprint: str
    algorithm: str
    trusted: list[str]
    is_trusted: bool
    text: str


class Accepted(Answer):
    """A host key that is trusted from now on."""

    device: str
    fingerprint: str
    elsewhere: list[str] = Field(description="old keys that other known_hosts files still hold")


class History(Versioned):
    """`litefleet history --json`."""

    entries: list[HistoryEntry]


class Audit(Versioned):
    """`litefleet audit --json`."""

    broken: str
    entries: list[AuditEntry]


class RolloutEntry(Answer):
    """A rollout without its devices; waves are counted from 1, times are seconds since the epoch."""

    id: str
    fleet: str
    kind: Literal["rollout", "rollback", "reconcile"]
    state: str
    reason: str
    behind: list[str]
    wave: int
    waves: int
    created_at: float
    updated_at: float
    by: str
    models: list[str]
    number: int
    parent: str
    limit: str
    soak_until: float
    approved: int
    request: str
    policy: dict[str, Any]
    origin: dict[str, Any]


class Rollouts(Versioned):
    """`litefleet status --all --json`."""

    command: Literal["status"]
    rollouts: list[RolloutEntry]


class Status(Versioned):
    """`litefleet status ID --json`."""

    command: Literal["status"]
    now: float
    rollout: RolloutEntry
    holder: str
    idle: str
    waves: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    blocked: list[dict[str, Any]]
    devices: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    next: list[dict[str, str]]
    older: str


class RolloutSummary(Versioned):
    """`litefleet status ID --json` without its devices and outcomes; `counts` are the devices by condition."""

    command: Literal["status"]
    now: float
    rollout: RolloutEntry
    holder: str
    idle: str
    waves: list[dict[str, Any]]
    counts: dict[str, int]
    sent_bytes: int
    failures: list[dict[str, Any]]
    blocked: list[dict[str, Any]]
    failed_running: list[dict[str, Any]]
    next: list[dict[str, str]]
    older: str


class RolloutDevices(Versioned):
    """Some devices of a rollout, and their last outcomes, as `litefleet status ID --json` has them."""

    command: Literal["status"]
    rollout: str
    devices: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]


class Said(Answer):
    """What an action that is done at once reports."""

    message: str


class Rollback(Versioned):
    """`litefleet rollback --dry-run --json`, and the preview as text."""

    command: Literal["rollback"]
    to: str
    rollout: str
    closes: bool
    continues: str
    devices: list[dict[str, str]]
    untouched: list[str]
    text: str


class JobList(Versioned):
    """The jobs, the newest first."""

    jobs: list[Job]


class Result(Versioned):
    """What a job came to: the document that its command shows with `--json`."""

    command: str


class Reports(Versioned):
    """`litefleet reports --json`."""

    command: Literal["reports"]
    reports: list[dict[str, Any]]


class Article(Answer):
    """`litefleet explain CODE --json`."""

    code: str
    slug: str
    title: str
    lang: str
    severity: str
    verdict: str | None
    why: str
    do: str
    steps: list[str]


class Articles(Answer):
    """The findings of the catalogue."""

    findings: list[Article]


class Document(Answer):
    """An OpenAPI document."""

    openapi: str


class Body(BaseModel):
    """A body; members that it does not name are refused."""

    model_config = ConfigDict(extra="forbid")


class SelectionBody(Body):
    """Devices and models; all of them by default."""

    select: str = Field(
        default="", max_length=2000, description="devices as `--limit` selects them: names, globs, groups, !not"
    )
    models: list[str] = Field(default=[], max_length=200, description="names from litefleet.yaml")


class PlanBody(SelectionBody):
    """What to plan."""

    offline: bool = Field(default=False, description="by what the devices reported last; none is contacted")


class RolloutBody(SelectionBody):
    """What to roll out."""

    supersede: bool = Field(default=False, description="replace an open rollout")
    wait_for_offline: bool = Field(default=False, description="run until every offline device was reached")


class ContinueBody(Body):
    """How to continue."""

    wait_for_offline: bool = Field(default=False, description="run until every offline device was reached")


class RollbackBody(SelectionBody):
    """What to go back to."""

    to: str = Field(
        default="previous",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$",
        description="previous, nothing, a version, an ID",
    )
    rollout: str = Field(default="", max_length=80, description="the rollout to revert; the latest by default")
    wave: int = Field(default=0, ge=0, le=100_000, description="only this wave of it, counted from 1")


class KeyBody(Body):
    """The key that a person compared."""

    fingerprint: str = Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")
