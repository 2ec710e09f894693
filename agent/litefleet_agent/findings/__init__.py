"""Findings: what was observed, why it happens, what to do.  Exports the values; the checks are the modules of this folder."""

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
