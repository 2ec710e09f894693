"""Operations on rollouts: plan, rollout, resume, pause, abort, rollback, reconcile.  Each is one call.

A name is imported when it is first used: commands that only read the state start without the engine, SSH and the builders.
`resume` and `reconcile` are in the modules of these names, which would hide them here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.lazy import imported_at_use

if TYPE_CHECKING:
    from ..project.project import open_state
    from .adopt import Adoption, adopt_state, plan_adoption, state_of
    from .bundle import write_for
    from .context import RolloutContext, open_context
    from .find import RolloutStatus, find_rollout, read_status, read_status_in_brief
    from .plan import plan_offline, plan_rollout
    from .resume import abort, approve, pause, retry, what_to_abort
    from .rollback import RollbackPlan, Target, plan_rollback, roll_back
    from .rollout import start_rollout
    from .trust import spread_trust

__all__ = [
    "Adoption",
    "RollbackPlan",
    "RolloutContext",
    "RolloutStatus",
    "Target",
    "abort",
    "adopt_state",
    "approve",
    "find_rollout",
    "open_context",
    "open_state",
    "pause",
    "plan_adoption",
    "plan_offline",
    "plan_rollback",
    "plan_rollout",
    "read_status",
    "read_status_in_brief",
    "retry",
    "roll_back",
    "spread_trust",
    "start_rollout",
    "state_of",
    "what_to_abort",
    "write_for",
]

__getattr__ = imported_at_use(
    __name__,
    {
        "..project.project": ("open_state",),
        ".adopt": ("Adoption", "adopt_state", "plan_adoption", "state_of"),
        ".bundle": ("write_for",),
        ".context": ("RolloutContext", "open_context"),
        ".find": ("RolloutStatus", "find_rollout", "read_status", "read_status_in_brief"),
        ".plan": ("plan_offline", "plan_rollout"),
        ".resume": ("abort", "approve", "pause", "retry", "what_to_abort"),
        ".rollback": ("RollbackPlan", "Target", "plan_rollback", "roll_back"),
        ".rollout": ("start_rollout",),
        ".trust": ("spread_trust",),
    },
)
