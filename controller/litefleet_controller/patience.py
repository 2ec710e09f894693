"""How long a run of a rollout waits."""

from __future__ import annotations

import enum

__all__ = ["Patience"]


class Patience(enum.Enum):
    """How long a run waits before it leaves the rest to a later one."""

    NONE = "none"  # do what can be done now (a timer will call again)
    WAVES = "waves"  # wait for soaks, windows and limits; not for devices that are offline
    ALL = "all"  # and for devices that are offline, until none is left
