"""Tells people and other systems what happens: webhooks, mail, commands.  `state/outbox.py` stores what is to be told."""

from __future__ import annotations

from .dispatch import Dispatcher, send_now, test_notice
from .sending import DeliveryError

__all__ = ["DeliveryError", "Dispatcher", "send_now", "test_notice"]
