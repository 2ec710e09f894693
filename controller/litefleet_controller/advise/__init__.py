"""Advice on variants: which files a fleet needs at the least, and what other options would bring.  Pure."""

from __future__ import annotations

from .kinds import Kind, Origin, Runtime, Told, kind_of
from .options import Evidence, Level, Option, Possible, Proof, options_for
from .summary import Advice, KindAdvice, Trial
from .variants import CandidateFile, NeededFile, Placement, Standing, needed_files, place

__all__ = [
    "Advice",
    "CandidateFile",
    "Evidence",
    "Kind",
    "KindAdvice",
    "Level",
    "NeededFile",
    "Option",
    "Origin",
    "Placement",
    "Possible",
    "Proof",
    "Runtime",
    "Standing",
    "Told",
    "Trial",
    "kind_of",
    "needed_files",
    "options_for",
    "place",
]
