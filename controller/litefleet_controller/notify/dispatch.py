"""`Dispatcher`: delivers what the outbox holds, one thread for each receiver, beside a rollout or within `litefleet serve`.

No rollout waits for a receiver: the threads are daemons, and at the end of a command they get a few seconds for what is due.
What is left is delivered by the next command that works on the fleet, by `litefleet serve` or by `litefleet notify send`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

from litefleet_inventory import Inventory, SelectError, select

from ..catalogue.language import Lang
from ..config import Config
from ..config.notify import ReceiverConfig
from ..project.project import open_state
from ..state import Notice, State, StateError
from .mail import run_command, send_mail
from .message import message_of
from .sending import DeliveryError
from .webhook import send_webhook

_POLL_S = 1.0
_FIRST_S, _GROWS, _MOST_S = 10.0, 4.0, 6 * 3600.0  # until the second attempt; each later one; at most
END_S = 5.0  # at the end of a command
SEND_S = 120.0  # for `litefleet notify send`


def again_in_s(attempts: int, config: ReceiverConfig) -> float | None:
    """Return the time until the next attempt in seconds, after `attempts` that failed; None: there is none."""
    if attempts >= config.attempts:
        return None
    return float(min(_FIRST_S * _GROWS ** (attempts - 1), _MOST_S))


def test_notice(fleet: str, receiver: str, now: float) -> Notice:
    """Return a notice that tests a receiver; it is not stored."""
    return Notice(0, f"n-{uuid.uuid4().hex}", now, fleet, receiver, "test", "", {}, "waiting", 0, now, 0.0, "")


def send_now(config: ReceiverConfig, notice: Notice) -> None:
    """Deliver one notice.  Raises: DeliveryError with the reason."""
    message = message_of(notice, Lang(config.language))
    if config.webhook is not None:
        send_webhook(config.webhook, message, notice.id, config.template)
    elif config.email is not None:
        send_mail(config.email, message, notice.id, config.template)
    elif config.command is not None:
        run_command(config.command, message)


class Dispatcher:
    """Delivers the notices of one fleet until it is closed."""

    def __init__(self, config: Config, inventory: Inventory, opened: Callable[[Config], State] = open_state) -> None:
        self._config, self._inventory = config, inventory
        self._state = opened(config)
        self._outbox = self._state.outbox(config.fleet)
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(name, receiver), name=name, daemon=True)
            for name, receiver in config.notify.items()
        ]

    def start(self) -> None:
        """Start delivering."""
        for thread in self._threads:
            thread.start()

    def close(self, limit_s: float = END_S) -> Mapping[str, str]:
        """Deliver what is due, for `limit_s` seconds at most, and stop.

        Returns: by receiver, why it was not told all: the error of its oldest notice that waits or is dead.
        """
        self._ends.set()
        end = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        left: dict[str, str] = {}
        with suppress(StateError):
            for state in ("waiting", "dead"):
                for notice in self._outbox.notices(state):
                    left.setdefault(notice.receiver, notice.error or "it has not responded yet")
        if not any(thread.is_alive() for thread in self._threads):
            self._state.close()
        return left

    def _serve(self, name: str, receiver: ReceiverConfig) -> None:
        with suppress(StateError):
            self._outbox.trim(name)
        while True:
            ends = self._ends.wait(_POLL_S)
            try:
                while (notice := self._outbox.claim(name, gathered=ends)) is not None:
                    self._deliver(receiver, notice)
            except StateError:  # busy, or its server is away: what is claimed is delivered later
                pass
            if ends:
                return

    def _deliver(self, receiver: ReceiverConfig, notice: Notice) -> None:
        try:
            if not self._concerns(receiver, notice):
                self._outbox.drop(notice)
                return
            send_now(receiver, notice)
        except DeliveryError as error:
            self._outbox.failed(notice, str(error)[:1000], again_in_s(notice.attempts + 1, receiver))
        except StateError:
            raise
        except Exception as error:  # a bug in one notice must not end the thread
            told = f"unexpected {type(error).__name__}: {str(error)[:300]}"
            self._outbox.failed(notice, told, again_in_s(notice.attempts + 1, receiver))
        else:
            self._outbox.delivered(notice)

    def _concerns(self, receiver: ReceiverConfig, notice: Notice) -> bool:
        """Return whether a notice is about any device that `limit` selects; one that selects nothing any more tells all."""
        if not receiver.limit:
            return True
        try:
            chosen = {device.name for device in select(self._inventory, receiver.limit)}
        except SelectError:
            return True
        if notice.event in ("drift", "device-lost"):
            devices = notice.content.get("devices", ())
            return any(device["name"] in chosen for device in devices)  # type: ignore[attr-defined]
        return any(row.device in chosen for row in self._state.rows(notice.rollout))
