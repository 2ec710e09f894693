"""What people do: each calls the public Python API, as a command does, and the audit log names the person.

`decide` acts at once: pause, abort, forget a device, accept a host key.  `work` starts jobs: plan, rollout, resume, approve,
retry, rollback.  Roles are checked by the endpoints that call these functions.
"""

from __future__ import annotations

from .decide import abort, accept_key, forget, pause, preview_of_rollback, shown_key, what_is_stored
from .selection import EVERYTHING, Selection
from .work import approve, plan, resume, retry, rollback, rollout

__all__ = [
    "EVERYTHING",
    "Selection",
    "abort",
    "accept_key",
    "approve",
    "forget",
    "pause",
    "plan",
    "preview_of_rollback",
    "resume",
    "retry",
    "rollback",
    "rollout",
    "shown_key",
    "what_is_stored",
]
