"""How the controller reaches a device: a small port, and asyncssh behind it."""

from .base import Channel, Transport, TransportError

__all__ = ["Channel", "Transport", "TransportError"]
