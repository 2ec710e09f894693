"""A real fleet and a real server process over it, for the tests of the HTTP API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litefleet_controller.config import load_config
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.auth.users import Users

from tests.e2e.rollout_helpers import environment

__all__ = ["Answer", "Server", "running_fleet"]


@contextmanager
def running_fleet(fleet: EmbeddedFleet) -> Iterator[EmbeddedFleet]:
    """Run a fleet in an event loop of its own thread, so that a module's tests share it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(fleet.__aenter__(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(fleet.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    text: str

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.text)


@dataclass
class Server:
    """`litefleet serve` in a process of its own, and clients of it by their roles."""

    config: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        users = Users(load_config(self.config).store / "serve-users.json")
        for role in Role:
            if role not in self.tokens:
                self.tokens[role] = users.add(f"{role}-user", role)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "litefleet_controller",
                "serve",
                "-c",
                str(self.config),
                "--port",
                "0",
                *self.arguments,
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"https?://[^/\s]+", line)
            if found:
                self.url = found[0]
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return
        raise AssertionError("the server ended before it listened")

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the process with a signal, and return its exit code."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        return self.process.wait(60)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        role: str = "operate",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request with a role's token ("" for none), and return the response."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        if role:
            request.add_header("Authorization", f"Bearer {self.tokens[role]}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, _lower(response.headers), response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, _lower(error.headers), error.read().decode())

    def get(self, path: str, role: str = "view", **headers: str) -> Answer:
        """Read a resource."""
        return self.ask("GET", f"/api/v1{path}", None, role, {k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: object = None, role: str = "operate", key: str = "") -> Answer:
        """Change something."""
        return self.ask("POST", f"/api/v1{path}", body, role, {"Idempotency-Key": key} if key else {})

    def ended(self, begun: Answer) -> dict[str, Any]:
        """Wait for the job that an answer began, and return it as it ended."""
        assert begun.status == 202, begun
        path = begun.headers["location"].removeprefix("/api/v1")
        end = time.monotonic() + 120
        while True:
            job: dict[str, Any] = self.get(path).json
            if job["state"] != "running":
                return job
            assert time.monotonic() < end, job
            time.sleep(0.1)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
