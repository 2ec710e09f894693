"""The rollout's rules, pure: states, policy, waves, gates, and what is to be done next.  No clock, no network, no database."""

from __future__ import annotations

from .model import DeviceRow, Rollout, Wave
from .policy import Policy
from .states import DeviceEvent, DeviceState, IllegalMove, RolloutEvent, RolloutState

__all__ = [
    "DeviceEvent",
    "DeviceRow",
    "DeviceState",
    "IllegalMove",
    "Policy",
    "Rollout",
    "RolloutEvent",
    "RolloutState",
    "Wave",
]
