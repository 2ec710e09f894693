"""Starts the server: its socket, uvicorn, and what it prints."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from litefleet_agent.service.systemd import Notifier

from ..common.errors import UsageError
from .app import make_app
from .guard import guarded
from .limits import MOST_HEADERS
from .service import ServeSettings, Service

_STOP_S = 10  # for which requests may finish when the server stops
_ALIVE_S = 15  # between two signs of life to systemd, whose unit waits for 60 s


class Server(uvicorn.Server):
    """Ends the streams first, so that stopping waits for no browser; tells systemd when it serves, lives and stops."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._manager = Notifier(os.environ)
        config.callback_notify, config.timeout_notify = self._alive, _ALIVE_S

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start."""
        await super().startup(sockets)
        if self.started:
            self._manager.send("READY=1")

    async def _alive(self) -> None:
        self._manager.send("WATCHDOG=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._manager.send("STOPPING=1")
        self._service.live.close()
        await super().shutdown(sockets)


def listening(settings: ServeSettings) -> socket.socket:
    """Return the socket that listens.  Raises: UsageError with what to do."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns off Nagle's algorithm for sockets that name their protocol: without it, each response waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
        raise UsageError(f"{reason}. Choose another port with --port.") from error
    return listener


def run(service: Service, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way; `started` is called before the first request."""
    started()
    service.entries.start()
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has stopped
            Server(configuration(service), service).run([listener])
    finally:
        service.entries.close()
        service.jobs.close()
        service.opened.close()


def configuration(service: Service, **limits: float) -> uvicorn.Config:
    """Return uvicorn's configuration; `limits` replaces those of a connection (`guard.guarded`)."""
    settings = service.settings
    files: dict[str, Any] = {}
    if settings.certificate is not None:
        files = {"ssl_certfile": str(settings.certificate), "ssl_keyfile": str(settings.key or settings.certificate)}
    return uvicorn.Config(
        make_app(service),
        http=guarded(frozenset(service.auth.proxy.addresses()), **limits),
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MOST_HEADERS,
        timeout_graceful_shutdown=_STOP_S,
        **files,
    )
