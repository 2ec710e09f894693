"""Outcomes of devices and of a run: the one shape that every report is made from."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_agent.formats.checked import shortened

from ..common.errors import RunError
from ..common.text import json_ready

_MOST_FRAMES, _MOST_OF_ERROR, _MOST_DETAIL = 12, 500, 4000  # of a bug's traceback, the last; characters of its words


@dataclass(frozen=True, slots=True)
class DeviceOutcome:
    """One model's outcome on one device.

    `facts` is the agent's probe (empty when it never answered); `measurements` the agent's (`load_ms`, `latency_ms`
    {min,p50,p90,p99}, `peak_rss_bytes`, `outputs` [{name, max_abs, mean_abs, max_rel, cosine, top1, ok}]);
    `steps` the seconds each step took, in order; `sent_bytes` and `round_trips` (after the SSH handshake) are this model's own:
    a connection's start counts with its first model.
    """

    device: str
    model: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    measurements: Mapping[str, object] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    release: str = ""
    artifact: str = ""  # SHA-256 of the .nb
    activated: bool = False
    unchanged: bool = False  # it already ran this release, verified in this same environment
    sent_bytes: int = 0
    round_trips: int = 0
    version: str = ""  # of the release, for people; "" = unknown
    detail: str = ""  # last lines that the device or the model printed, for the details view

    @property
    def sentence(self) -> str:
        """The one line that says why: the deciding finding's, or that all is well."""
        for found in self.findings:
            if found.entry.verdict is self.verdict:
                return found.observed
        if self.verdict is Verdict.VERIFIED:
            return self._well()
        return self.findings[0].observed if self.findings else ""

    def _well(self) -> str:
        if "trust" in self.steps:
            return "trusts the signers on the list"
        if not self.model:
            return "answers, and its environment is known"
        if "infer" in self.steps:
            return "answered"
        if "roll back" in self.steps:
            runs = release_name(self.release, self.version)
            return f"runs {runs}, as before" if self.unchanged else f"went back to {runs}"
        if "measure" in self.steps:
            return "measured, and its outputs match the reference"
        if "evaluate" in self.steps:
            return "outputs match the reference, and the accuracy is accepted"
        return "already runs this release" if self.unchanged else "outputs match the reference"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "device": self.device,
            "model": self.model,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "findings": [f.to_dict() for f in self.findings],
            "facts": dict(self.facts),
            "measurements": dict(self.measurements),
            "steps": dict(self.steps),
            "release": self.release,
            "artifact": self.artifact,
            "version": self.version,
            "activated": self.activated,
            "unchanged": self.unchanged,
            "sent_bytes": self.sent_bytes,
            "round_trips": self.round_trips,
            "detail": self.detail,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeviceOutcome:
        """Read the JSON form back; KeyError, TypeError or ValueError when it is something else."""
        return cls(
            device=str(data["device"]),
            model=str(data["model"]),
            verdict=Verdict(data["verdict"]),
            findings=tuple(Finding.from_dict(f) for f in data["findings"]),
            facts=dict(data["facts"]),
            measurements=dict(data["measurements"]),
            steps={str(k): float(v) for k, v in data["steps"].items()},
            release=str(data["release"]),
            artifact=str(data["artifact"]),
            activated=bool(data["activated"]),
            unchanged=bool(data["unchanged"]),
            sent_bytes=int(data["sent_bytes"]),
            round_trips=int(data["round_trips"]),
            version=str(data.get("version", "")),
            detail=str(data["detail"]),
        )


def release_name(release: str, version: str = "") -> str:
    """Return a release for people: its version and its id's first twelve digits; "nothing" for none."""
    digits = release[:12]
    return (f"{version} ({digits})" if version else digits) or "nothing"


def unexpected(device: str, model: str, error: Exception) -> DeviceOutcome:
    """Return the outcome of work on one device that a bug ended; `detail` has the traceback.  RunErrors are raised again."""
    if isinstance(error, RunError):
        raise error
    lines = traceback.format_exception(error, limit=-_MOST_FRAMES)
    found = finding("LF900", f"{device}: {type(error).__name__}: {shortened(str(error), _MOST_OF_ERROR)}")
    return DeviceOutcome(device, model, Verdict.FAILED, (found,), detail="".join(lines)[-_MOST_DETAIL:])


@dataclass(frozen=True)
class RunReport:
    """One run over the fleet."""

    command: str  # "rollout", "verify", "probe"
    started_at: str  # ISO 8601, UTC
    seconds: float
    outcomes: tuple[DeviceOutcome, ...] = field(repr=False)  # asyncio.run() asks for the repr of what it returns, twice
    rollout: Mapping[str, Any] = field(default_factory=dict)  # id, state, reason, ... of the rollout it was part of
    fleet: str = ""
    by: str = ""  # who ran the command: "user@host"
    litefleet: str = ""  # the version of the program

    @property
    def versions(self) -> dict[str, list[str]]:
        """The versions of each model in the report, in its order."""
        found: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            if outcome.version and outcome.version not in found.setdefault(outcome.model, []):
                found[outcome.model].append(outcome.version)
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Devices by verdict, in the order of the verdicts."""
        counted = Counter(o.verdict for o in self.outcomes)
        return {v.value: counted[v] for v in Verdict if counted[v]}

    @property
    def exit_code(self) -> int:
        """0 when every device is verified, 3 when it waits for a decision, by a gate or a person, else 1."""
        if self.rollout.get("state") in ("paused", "waiting", "aborted"):
            return 3
        return 0 if all(o.verdict is Verdict.VERIFIED for o in self.outcomes) else 1

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return self._form([o.to_dict() for o in self.outcomes])

    def lines(self) -> Iterator[str]:
        """Yield the JSON document that `to_json` returns in pieces of a line or less, so that a large fleet's is never held."""
        return _pieces(self._form(o.to_dict() for o in self.outcomes))

    def _form(self, devices: Iterable[Mapping[str, object]]) -> dict[str, object]:
        return {
            "schema": 1,
            "command": self.command,
            "started_at": self.started_at,
            "seconds": round(self.seconds, 3),
            "fleet": self.fleet,
            "by": self.by,
            "litefleet": self.litefleet,
            "counts": self.counts,
            "exit_code": self.exit_code,
            "devices": devices,
            **({"rollout": dict(self.rollout)} if self.rollout else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunReport:
        """Read the JSON form back; KeyError, TypeError or ValueError when it is something else."""
        outcomes = tuple(DeviceOutcome.from_dict(device) for device in data["devices"])
        rollout = dict(data.get("rollout") or {})
        fleet, by, program = (str(data.get(key, "")) for key in ("fleet", "by", "litefleet"))
        return cls(
            str(data["command"]), str(data["started_at"]), float(data["seconds"]), outcomes, rollout, fleet, by, program
        )


class Interrupted(Exception):
    """Ctrl-C; `report` holds what was known by then."""

    def __init__(self, report: RunReport) -> None:
        super().__init__("interrupted")
        self.report = report


def to_json(report: RunReport) -> str:
    """Return one JSON document, ending in a newline; ASCII, so that even a terminal may be shown it."""
    return document(report.to_dict())


def document(data: Mapping[str, object]) -> str:
    """Return any report's JSON form (a plan's, a status) as one document, as `to_json` does.

    Each member has a line, and so has each item of its list: with more line breaks, Python's encoder takes four times as long.
    """
    return "".join(_pieces(data))


def _pieces(data: Mapping[str, object]) -> Iterator[str]:
    """Yield the document of a JSON object piece by piece."""
    before = "{\n  "
    for key, value in data.items():
        yield f"{before}{json.dumps(key)}: "
        yield from _by_lines(value)
        before = ",\n  "
    yield "\n}\n" if data else "{}\n"


def _by_lines(value: object) -> Iterator[str]:
    if not isinstance(value, list | tuple | Iterator):
        yield _json(value)
        return
    before = "[\n    "
    for item in value:
        yield before + _json(item)
        before = ",\n    "
    yield "[]" if before[0] == "[" else "\n  ]"


def _json(value: object) -> str:
    return json.dumps(json_ready(value), allow_nan=False).replace("\x7f", "\\u007f")
