"""What an operator does with rollouts: plan, start, go on, stop, take back, bring in line.  Each is one call."""

from __future__ import annotations

from .bundling import write_for
from .desk import Desk, find_rollout, open_desk, open_state
from .going_on import abort, approve, pause, resume, retry
from .planning import plan_rollout
from .reconciling import reconcile
from .rolling_back import Target, roll_back
from .starting import start_rollout
from .trusting import spread_trust

__all__ = [
    "Desk",
    "Target",
    "abort",
    "approve",
    "find_rollout",
    "open_desk",
    "open_state",
    "pause",
    "plan_rollout",
    "reconcile",
    "resume",
    "retry",
    "roll_back",
    "spread_trust",
    "start_rollout",
    "write_for",
]
