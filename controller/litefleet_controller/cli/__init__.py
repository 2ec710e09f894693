"""The command line: parse, build, make one call, render.

Exit codes: 0 success, 1 rejected or failed, 2 usage, 3 stopped by a gate or waiting for a person, 4 interrupted.
"""

from __future__ import annotations

from . import (
    cluster,
    devices,
    doctor,
    explain,
    fleet,
    import_inventory,
    init,
    lead,
    models,
    notify,
    provision,
    rollouts,
    run_models,
    runtime,
    schedule,
    serve,
    state,
)
from .common import app
from .main import main

__all__ = [
    "app",
    "cluster",
    "devices",
    "doctor",
    "explain",
    "fleet",
    "import_inventory",
    "init",
    "lead",
    "main",
    "models",
    "notify",
    "provision",
    "rollouts",
    "run_models",
    "runtime",
    "schedule",
    "serve",
    "state",
]
