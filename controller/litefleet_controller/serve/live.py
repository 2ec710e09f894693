"""One reader of the state for each followed rollout, however many browsers follow it."""

from __future__ import annotations


class Live:
    """The followed rollouts of one server."""

    def close(self) -> None:
        """End all streams: the server stops."""
