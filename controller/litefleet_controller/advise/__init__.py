"""Advice on variants: the fewest files that a fleet needs, and the gain and risk of other options."""

from __future__ import annotations

from .kinds import DeviceReport, Kind, Origin, Runtime, kind_of
from .options import Evidence, Level, Option, Possible, Proof, options_for
from .summary import Advice, KindAdvice, OptionBenchmark
from .variants import CandidateFile, NeededFile, Placement, PlacementStatus, needed_files, place

__all__ = [
    "Advice",
    "CandidateFile",
    "DeviceReport",
    "Evidence",
    "Kind",
    "KindAdvice",
    "Level",
    "NeededFile",
    "Option",
    "OptionBenchmark",
    "Origin",
    "Placement",
    "PlacementStatus",
    "Possible",
    "Proof",
    "Runtime",
    "kind_of",
    "needed_files",
    "options_for",
    "place",
]
