"""Serves GET /metrics and GET /healthz over HTTP, for Prometheus: at most 8 clients at once, each for at most 10 s.

A client that comes while 8 are being served takes the place of the one that has been there longest: a scrape takes
milliseconds, so that one is slow or silent, and eight of them cannot keep Prometheus out.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from litefleet_agent.service.metrics import CONTENT_TYPE

from ..common.errors import LitefleetError, UsageError

_MOST_CLIENTS = 8
_LIMIT_S = 10.0  # for one client, from its connection on
_FRESH_S = 1.0  # a response is reused for this long
_PLACE_S = 2.0  # for which a new client waits for the place of one that was cut off


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT", "[::1]:PORT" or ":PORT" (127.0.0.1).  UsageError for anything else."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535 or (":" in host and not host.startswith("[")):
        raise UsageError(f"--listen: '{text}' is not HOST:PORT, as in 127.0.0.1:9808")
    return host.strip("[]") or "127.0.0.1", int(port)


class MetricsServer(ThreadingHTTPServer):
    """Responds with the text that `read` returns; when `read` raises, with status 503 and the error's sentence."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], read: Callable[[], str], limit_s: float = _LIMIT_S) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._read, self._limit_s = read, limit_s
        self._free = threading.BoundedSemaphore(_MOST_CLIENTS)
        self._served: list[socket.socket] = []  # the longest first
        self._one = threading.Lock()
        self._cached: tuple[float, int, str] = (float("-inf"), 0, "")
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            reason = f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}"
            raise UsageError(f"--listen: {reason}. Choose another port") from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread of its own; when 8 are being served, close the connection of the first of them."""
        if not self._free.acquire(blocking=False):
            for longest in self._served[:1]:
                _cut(longest)
            if not self._free.acquire(timeout=_PLACE_S):
                self.shutdown_request(request)
                return
        self._served.append(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client, and close its connection after the time limit however slowly it reads and writes."""
        ends = threading.Timer(self._limit_s, _cut, [request])
        ends.daemon = True
        ends.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            ends.cancel()
            self._served.remove(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected."""

    def answer(self) -> tuple[int, str]:
        """Return the status and the text; within one second, the same ones again."""
        with self._one:
            if time.monotonic() - self._cached[0] > _FRESH_S:
                try:
                    status, text = 200, self._read()
                except LitefleetError as error:
                    status, text = 503, f"{error}\n"
                except Exception as error:
                    status, text = 503, f"cannot compute the metrics: {type(error).__name__}: {error}\n"
                self._cached = (time.monotonic(), status, text)
            return self._cached[1:]


def _cut(request: socket.socket) -> None:
    with suppress(OSError):  # already closed
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version = "litefleet"
    sys_version = ""
    timeout = 5.0

    def do_GET(self) -> None:
        """Respond to one request."""
        path = self.path.partition("?")[0]
        if path not in ("/metrics", "/healthz"):
            self._respond(404, "not found: use /metrics or /healthz\n")
            return
        status, text = self.server.answer()
        self._respond(status, "ok\n" if path == "/healthz" and status == 200 else text)

    do_HEAD = do_GET  # noqa: N815 - http.server's own name

    def _respond(self, status: int, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
