"""What one look brought: facts, what works and findings, to be joined into a diagnosis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from litefleet_agent.findings import Certainty, Finding, finding

from ..texts import plain
from .diagnosis import Fact

__all__ = ["Looked", "fact", "joined", "trouble", "works"]


@dataclass(frozen=True)
class Looked:
    """One look's part of a diagnosis; parts are joined with +."""

    facts: tuple[Fact, ...] = ()
    works: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __add__(self, other: Looked) -> Looked:
        return Looked(self.facts + other.facts, self.works + other.works, self.findings + other.findings)


def joined(parts: Iterable[Looked]) -> Looked:
    """Return all parts as one, in their order."""
    return sum(parts, Looked())


def fact(label: str, text: str) -> Looked:
    """Return one fact, made harmless; nothing when its text is empty."""
    return Looked(facts=(Fact(label, plain(text)),)) if text else Looked()


def works(sentence: str) -> Looked:
    """Return the sentence of a check that found nothing wrong, made harmless."""
    return Looked(works=(plain(sentence),))


def trouble(code: str, seen: str, certainty: Certainty = Certainty.CERTAIN) -> Looked:
    """Return one finding, its sentence made harmless."""
    return Looked(findings=(finding(code, plain(seen, 1000), certainty),))
