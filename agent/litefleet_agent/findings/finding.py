"""Findings: what was seen, why it happens, what to do.  One catalogue is the reason behind every verdict."""

import enum
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from .catalogue import ROWS

__all__ = [
    "CATALOGUE",
    "Certainty",
    "Entry",
    "Finding",
    "Severity",
    "Verdict",
    "decide",
    "finding",
    "finding_of_error",
    "ranked",
]


class Severity(str, enum.Enum):
    """How much a finding weighs: only an error decides a verdict."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Certainty(str, enum.Enum):
    """How sure a detector is."""

    CERTAIN = "certain"  # it follows from what was read or measured
    LIKELY = "likely"  # what was seen has this cause nearly always
    POSSIBLE = "possible"  # one cause among several


class Verdict(str, enum.Enum):
    """What became of one model on one device."""

    VERIFIED = "verified"
    REFUSED = "refused"  # a static or preflight gate
    CRASHED = "crashed"  # a signal, decoded
    WRONG = "wrong"  # outputs off, NaN, constant, unstable
    SLOW = "slow"  # latency or memory gate
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"  # no runtime, or no Python, for it
    FAILED = "failed"  # anything else, with its error


class Entry(NamedTuple):
    """One row of the catalogue."""

    code: str  # "LF101"
    slug: str  # "target-mismatch"
    severity: Severity
    verdict: Optional[Verdict]  # what an error of this kind makes of the device; None for notes and warnings
    why: str
    do: str


CATALOGUE: Dict[str, Entry] = {
    row[0]: Entry(row[0], row[1], Severity(row[2]), Verdict(row[3]) if row[3] else None, row[4], row[5]) for row in ROWS
}


_LIGHTER = {
    Severity.ERROR: Severity.WARNING,
    Severity.WARNING: Severity.NOTE,
    Severity.NOTE: Severity.NOTE,
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found: the catalogue's code and the sentence that says what was seen, with its values."""

    code: str
    observed: str
    certainty: Certainty = Certainty.CERTAIN

    @property
    def entry(self) -> Entry:
        """The catalogue's row behind this finding."""
        return CATALOGUE[self.code]

    @property
    def severity(self) -> Severity:
        """How much it weighs: what is merely possible weighs one step less than the catalogue says."""
        severity = self.entry.severity
        return _LIGHTER[severity] if self.certainty is Certainty.POSSIBLE else severity

    @property
    def decides(self) -> bool:
        """Whether it is grave and sure enough to decide a verdict."""
        return self.severity is Severity.ERROR

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form: code, slug, severity, certainty, seen, why, do."""
        entry = self.entry
        return {
            "code": self.code,
            "slug": entry.slug,
            "severity": self.severity.value,
            "certainty": self.certainty.value,
            "seen": self.observed,
            "why": entry.why,
            "do": entry.do,
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Finding":
        """Read the JSON form back; an unknown code (a newer agent's) becomes LF900 with the same words."""
        code = str(data.get("code", "")) if isinstance(data, dict) else ""
        observed = str(data.get("seen", ""))[:2000] if isinstance(data, dict) else repr(data)[:200]
        if code not in CATALOGUE:
            return cls("LF900", "%s: %s" % (code or "no code", observed))
        return cls(code, observed, _certainty(data.get("certainty")))


def _certainty(text: Any) -> Certainty:
    """Read a certainty; an older agent says none, and its findings are certain."""
    return Certainty(text) if text in [c.value for c in Certainty] else Certainty.CERTAIN


def finding(code: str, observed: str, certainty: Certainty = Certainty.CERTAIN) -> Finding:
    """Make a finding; KeyError for a code that the catalogue lacks (a programmer's mistake)."""
    CATALOGUE[code]
    return Finding(code, observed, certainty)


_ERRORS = {  # the code of an AgentError -> the finding that explains it
    "busy": "LF508",
    "disk-full": "LF312",
    "not-writable": "LF313",
    "hash-mismatch": "LF110",
    "lease-expired": "LF605",
    "too-old": "LF606",
    "expired": "LF607",
    "foreign": "LF608",
    "unsigned": "LF609",
    "bad-signature": "LF610",
    "over-quota": "LF612",
    "not-kept": "LF613",
    "bundle-damaged": "LF617",
    "not-current": "LF619",
    "bad-input": "LF422",
}


def finding_of_error(code: str, message: str) -> Finding:
    """Return the finding for what the agent refused: `code` is an AgentError's; LF900 for one that has no row."""
    return Finding(_ERRORS.get(code, "LF900"), message)


def decide(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that a device's findings add up to: the first error decides, none means verified."""
    errors: List[Finding] = [f for f in findings if f.decides]
    for found in errors:
        if found.entry.verdict is not None:
            return found.entry.verdict
    return Verdict.FAILED if errors else Verdict.VERIFIED


def ranked(findings: Iterable[Finding]) -> List[Finding]:
    """Return findings without repeats: the gravest first, among equals the surest; the order is kept otherwise."""
    order = list(Severity)[::-1], list(Certainty)
    best: Dict[Any, Finding] = {}
    for found in sorted(findings, key=lambda f: (order[0].index(f.severity), order[1].index(f.certainty))):
        best.setdefault((found.code, found.observed), found)
    return list(best.values())
