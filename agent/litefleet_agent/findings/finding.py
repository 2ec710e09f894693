"""Findings: what was observed, why it happens, what to do.  Every verdict follows from findings of one catalogue."""

import enum
from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from ..formats.checked import shortened
from .catalogue import ROWS


class Severity(str, enum.Enum):
    """How serious a finding is: only an error decides a verdict."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Certainty(str, enum.Enum):
    """How sure a detector is."""

    CERTAIN = "certain"  # it follows from what was read or measured
    LIKELY = "likely"  # the observation nearly always has this cause
    POSSIBLE = "possible"  # one cause among several


class Verdict(str, enum.Enum):
    """Result for one model on one device."""

    VERIFIED = "verified"
    REFUSED = "refused"  # by a static check
    CRASHED = "crashed"  # by a signal
    WRONG = "wrong"  # outputs off, NaN, constant, unstable
    SLOW = "slow"  # over a latency or memory gate
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"  # no runtime, or no Python, for the device
    FAILED = "failed"  # any other error


class Entry(NamedTuple):
    """One row of the catalogue."""

    code: str  # "LF101"
    slug: str  # "target-mismatch"
    severity: Severity
    verdict: Optional[Verdict]  # that an error of this kind decides; None for notes and warnings
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
    """A finding: the catalogue's code, and the sentence that says what was observed, with its values."""

    code: str
    observed: str
    certainty: Certainty = Certainty.CERTAIN

    @property
    def entry(self) -> Entry:
        """The catalogue's row behind this finding."""
        return CATALOGUE[self.code]

    @property
    def severity(self) -> Severity:
        """Its severity; a finding that is merely possible counts one step less than the catalogue says."""
        severity = self.entry.severity
        return _LIGHTER[severity] if self.certainty is Certainty.POSSIBLE else severity

    @property
    def decides(self) -> bool:
        """Whether it is serious and certain enough to decide a verdict."""
        return self.severity is Severity.ERROR

    @property
    def do(self) -> str:
        """The catalogue's advice."""
        return self.entry.do

    def to_dict(self) -> Dict[str, str]:
        """Return the JSON form for people and programs: code, slug, severity, certainty, seen, why, do."""
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

    def to_wire(self) -> Dict[str, str]:
        """Return the JSON form between agent and controller, which both have the catalogue: code, seen, certainty."""
        return {"code": self.code, "seen": self.observed, "certainty": self.certainty.value}

    @classmethod
    def from_dict(cls, data: object) -> "Finding":
        """Read either JSON form; an unknown code (a newer agent's) becomes LF900 with the same sentence."""
        if not isinstance(data, dict):
            return cls("LF900", "no code: %s" % repr(data)[:200])
        code, observed = str(data.get("code", ""))[:100], shortened(str(data.get("seen", "")), 2000)
        if code not in CATALOGUE:
            return cls("LF900", "%s: %s" % (code or "no code", observed))
        return cls(code, observed, _certainty(data.get("certainty")))


def _certainty(value: object) -> Certainty:
    """Read a certainty; an older agent sends none, and its findings are certain."""
    return next((c for c in Certainty if c.value == value), Certainty.CERTAIN)


def finding(code: str, observed: str, certainty: Certainty = Certainty.CERTAIN) -> Finding:
    """Make a finding.  Raises KeyError for a code that the catalogue lacks (a programming error)."""
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
    "another-state": "LF630",
    "bad-input": "LF422",
    "too-large": "LF422",
    "bad-npz": "LF412",
    "bad-settings": "LF621",
    "missing": "LF613",
    "no-module": "LF301",
    "limit": "LF514",
}


def finding_of_error(code: str, message: str) -> Finding:
    """Return the finding for an AgentError's `code`; LF900 for a code without a row."""
    return Finding(_ERRORS.get(code, "LF900"), message)


def decide(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that follows from findings: the first error decides; without errors, verified."""
    errors: List[Finding] = [f for f in findings if f.decides]
    for found in errors:
        if found.entry.verdict is not None:
            return found.entry.verdict
    return Verdict.FAILED if errors else Verdict.VERIFIED


def ranked(findings: Iterable[Finding]) -> List[Finding]:
    """Return findings without repeats, the most severe first, then the most certain; otherwise in their order."""
    severities, certainties = list(Severity)[::-1], list(Certainty)
    best: Dict[Tuple[str, str], Finding] = {}
    for found in sorted(findings, key=lambda f: (severities.index(f.severity), certainties.index(f.certainty))):
        best.setdefault((found.code, found.observed), found)
    return list(best.values())
