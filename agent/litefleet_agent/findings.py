"""Findings: what was seen, why it happens, what to do.  One catalogue is the reason behind every verdict."""

import enum
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from .catalogue import ROWS

__all__ = ["CATALOGUE", "Entry", "Finding", "Severity", "Verdict", "decide", "finding"]


class Severity(str, enum.Enum):
    """How much a finding weighs: only an error decides a verdict."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


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


@dataclass(frozen=True)
class Finding:
    """One thing that was found: the catalogue's code and the sentence that says what was seen, with its values."""

    code: str
    seen: str

    @property
    def entry(self) -> Entry:
        """The catalogue's row behind this finding."""
        return CATALOGUE[self.code]

    @property
    def severity(self) -> Severity:
        """How much it weighs."""
        return self.entry.severity

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form: code, slug, severity, seen, why, do."""
        entry = self.entry
        return {
            "code": self.code,
            "slug": entry.slug,
            "severity": entry.severity.value,
            "seen": self.seen,
            "why": entry.why,
            "do": entry.do,
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Finding":
        """Read the JSON form back; an unknown code (a newer agent's) becomes LF900 with the same words."""
        code = str(data.get("code", "")) if isinstance(data, dict) else ""
        seen = str(data.get("seen", ""))[:2000] if isinstance(data, dict) else repr(data)[:200]
        if code not in CATALOGUE:
            return cls("LF900", "%s: %s" % (code or "no code", seen))
        return cls(code, seen)


def finding(code: str, seen: str) -> Finding:
    """Make a finding; KeyError for a code that the catalogue lacks (a programmer's mistake)."""
    CATALOGUE[code]
    return Finding(code, seen)


def decide(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict that a device's findings add up to: the first error decides, none means verified."""
    errors: List[Finding] = [f for f in findings if f.severity is Severity.ERROR]
    for found in errors:
        if found.entry.verdict is not None:
            return found.entry.verdict
    return Verdict.FAILED if errors else Verdict.VERIFIED
