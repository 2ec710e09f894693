"""The command line: parses, builds, makes one call, renders.

Exit codes: 0 well, 1 refused or failed, 2 usage, 3 stopped by a gate or waiting for a person, 4 interrupted.
"""

from __future__ import annotations

from . import advising, benching, doctor, explaining, fleet, inferring, inspecting, provisioning, rollouts, watching
from .common import app
from .main import main

__all__ = [
    "advising",
    "app",
    "benching",
    "doctor",
    "explaining",
    "fleet",
    "inferring",
    "inspecting",
    "main",
    "provisioning",
    "rollouts",
    "watching",
]
