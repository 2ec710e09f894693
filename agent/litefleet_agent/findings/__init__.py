"""Findings: what was seen, why it happens, what to do.  This face offers the values; the checks are modules beside it."""

from .finding import CATALOGUE, Certainty, Entry, Finding, Severity, Verdict, decide, finding, finding_of_error, ranked

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
