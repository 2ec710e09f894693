"""The command line: parses, builds, makes one call, renders.

Exit codes: 0 well, 1 refused or failed, 2 usage, 3 stopped by a gate or waiting for a person, 4 interrupted.
"""

from __future__ import annotations

from . import advise, bench, doctor, explain, fleet, infer, inspect, provision, rollouts, watch
from .common import app
from .main import main

__all__ = [
    "advise",
    "app",
    "bench",
    "doctor",
    "explain",
    "fleet",
    "infer",
    "inspect",
    "main",
    "provision",
    "rollouts",
    "watch",
]
