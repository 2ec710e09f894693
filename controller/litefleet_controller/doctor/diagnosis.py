"""A diagnosis: what a thing is, what works and what does not; doctor's text, JSON and SARIF are made from it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from litefleet_agent.findings import Certainty, Finding, Severity, finding, ranked

from ..common.text import sanitize


class Kind(enum.StrEnum):
    """The kind of thing that a diagnosis describes."""

    NB = "nb"  # a Paddle-Lite file
    SOURCE = "source"  # a PaddlePaddle model: its folder, or its program file
    WHEEL = "wheel"  # a packed Python package of Paddle-Lite
    RUNTIME = "runtime"  # a folder that holds a built paddlelite/ package
    LIBRARY = "library"  # an ELF file: lite.so, libpaddle_light_api_shared.so
    LOG = "log"  # the output of a program that failed
    HOST = "host"  # the operator's machine and project
    DEVICE = "device"
    PAIR = "pair"  # files together with each other, or with a device or an architecture
    UNKNOWN = "unknown"  # a file that is none of these


@dataclass(frozen=True)
class Fact:
    """One line of a description: "kernels", "97: 83 x86, 14 host"."""

    label: str
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """One examined thing.

    `works` holds a sentence for each check that found nothing wrong; `data` the facts for programs.
    Whoever makes a diagnosis sanitizes the texts from outside.
    """

    kind: Kind
    subject: str  # "cls-arm.nb", "cam-7", "this machine", "cls-arm.nb on cam-7"
    facts: tuple[Fact, ...] = ()
    works: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    path: Path | None = None  # the file, where there is one
    data: dict[str, object] = field(default_factory=dict)

    @property
    def ranked(self) -> tuple[Finding, ...]:
        """The findings, the most important first."""
        return tuple(ranked(self.findings))

    @property
    def worst(self) -> Severity | None:
        """The highest severity of the findings, None without findings."""
        return self.ranked[0].severity if self.findings else None

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "path": str(self.path) if self.path else None,
            "facts": {fact.label: fact.text for fact in self.facts},
            "works": list(self.works),
            "findings": [found.to_dict() for found in self.ranked],
            "data": self.data,
        }


def exit_code_of(diagnoses: Iterable[Diagnosis]) -> int:
    """Return 1 when anything found is an error, else 0."""
    return 1 if any(d.worst is Severity.ERROR for d in diagnoses) else 0


@dataclass(frozen=True)
class CheckResult:
    """The result of one check, a part of a diagnosis; results are joined with +."""

    facts: tuple[Fact, ...] = ()
    works: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __add__(self, other: CheckResult) -> CheckResult:
        return CheckResult(self.facts + other.facts, self.works + other.works, self.findings + other.findings)


def joined(parts: Iterable[CheckResult]) -> CheckResult:
    """Return all results as one, in their order."""
    return sum(parts, CheckResult())


def fact(label: str, text: str) -> CheckResult:
    """Return one fact, sanitized; an empty result when its text is empty."""
    return CheckResult(facts=(Fact(label, sanitize(text)),)) if text else CheckResult()


def works(sentence: str) -> CheckResult:
    """Return the sentence of a check that found nothing wrong, sanitized."""
    return CheckResult(works=(sanitize(sentence),))


def failed_check(code: str, observed: str, certainty: Certainty = Certainty.CERTAIN) -> CheckResult:
    """Return one finding, its sentence sanitized."""
    return CheckResult(findings=(finding(code, sanitize(observed, 1000), certainty),))
