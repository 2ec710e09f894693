"""Operations on rollouts: plan, rollout, resume, pause, abort, rollback, reconcile.  Each is one call."""

from __future__ import annotations

from ..project.project import open_state
from .adopt import Adoption, adopt_state, plan_adoption, state_of
from .bundle import write_for
from .context import RolloutContext, find_rollout, open_context
from .plan import plan_rollout
from .reconcile import reconcile
from .resume import abort, approve, pause, resume, retry, what_to_abort
from .rollback import RollbackPlan, Target, plan_rollback, roll_back
from .rollout import start_rollout
from .trust import spread_trust

__all__ = [
    "Adoption",
    "RollbackPlan",
    "RolloutContext",
    "Target",
    "abort",
    "adopt_state",
    "approve",
    "find_rollout",
    "open_context",
    "open_state",
    "pause",
    "plan_adoption",
    "plan_rollback",
    "plan_rollout",
    "reconcile",
    "resume",
    "retry",
    "roll_back",
    "spread_trust",
    "start_rollout",
    "state_of",
    "what_to_abort",
    "write_for",
]
