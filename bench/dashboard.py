"""What `litefleet serve` costs over a large fleet: each page's time, memory, and many browsers on one rollout's events.

    python -m bench.dashboard                           # 10,000 devices, 50 browsers; minutes, most of them the simulation
    python -m bench.dashboard --devices 1000 --keep FOLDER   # keeps the state that was made, and uses it the next time

The state is made by production code: two rollouts over `SIMULATED` simulated devices (`bench.scale`); then each device's rows are
copied under new names until there are as many devices as asked for.  The server is a real process.
A page's time is the server process' own CPU (user and system) and what a client on this machine waits, over `REQUESTS`
requests one after another.  For the events, every browser is a connection of its own; a change is one update of the rollout's
row in the database, every `CHANGE_S` seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import select
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.scale import simulate

SIMULATED = 300  # devices
REQUESTS = 20
CHANGES, CHANGE_S = 10, 2.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Served(NamedTuple):
    """A running server: its process, its port, and the token of a user who may do everything."""

    pid: int
    port: int
    token: str

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def memory_mb(self, of: str = "VmRSS") -> float:
        """Return the resident memory now; "VmHWM": the most so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{of}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    def headers(self, accept: str) -> dict[str, str]:
        """Return a request's headers."""
        return {"Authorization": f"Bearer {self.token}", "Accept": accept}


@contextmanager
def serving(project: Path) -> Iterator[Served]:
    """Start `litefleet serve` for a project, and stop it."""
    command = [sys.executable, "-m", "litefleet_controller", "serve"]
    chosen = ["-c", str(project / "litefleet.yaml"), "--users", str(project / "users.json"), "--lang", "en"]
    made = subprocess.run(
        [*command, "token", "bench", "--role", "admin", *chosen], capture_output=True, text=True, check=True
    )
    started = subprocess.Popen([*command, *chosen, "--port", "0", "--no-link"], stderr=subprocess.PIPE, text=True)
    try:
        assert started.stderr is not None
        line = started.stderr.readline()
        port = re.search(r":(\d+)/", line)
        if port is None:
            raise SystemExit(line + started.stderr.read())
        yield Served(started.pid, int(port[1]), made.stdout.strip())
    finally:
        started.terminate()
        started.wait(60)


class PageCost(NamedTuple):
    """What one page costs: CPU and wall milliseconds of a request, and its size in bytes."""

    path: str
    status: int
    cpu_ms: float
    median_ms: float
    slowest_ms: float
    size: int


def page_cost(served: Served, path: str) -> PageCost:
    """Ask for a page once, then `REQUESTS` times, and return what each of these costs."""
    accept = "application/json" if path.startswith("/api/") else "text/html"
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)) as client:

        def once() -> tuple[int, int]:
            client.request("GET", path, headers=served.headers(accept))
            response = client.getresponse()
            return response.status, len(response.read())

        status, size = once()
        cpu, waited = served.cpu_s(), []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            once()
            waited.append((time.perf_counter() - began) * 1e3)
    return PageCost(path, status, (served.cpu_s() - cpu) / REQUESTS * 1e3, statistics.median(waited), max(waited), size)


class EventCost(NamedTuple):
    """What browsers on one rollout's events cost."""

    browsers: int
    got: int  # changes that all browsers got
    latest_s: float  # from a change to the last browser
    cpu_ms: float  # of one change, for all browsers
    idle_cpu_s: float  # of a second without a change
    more_mb: float  # resident memory for all of them


def event_cost(served: Served, database: Path, rollout: str, browsers: int) -> EventCost:
    """Open the streams of many browsers, change the rollout, and return what they got and what it cost."""
    before = served.memory_mb()
    head = "\r\n".join(f"{k}: {v}" for k, v in served.headers("text/event-stream").items())
    asked = f"GET /rollouts/{rollout}/events HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
    streams = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(browsers)]
    try:
        for stream in streams:
            stream.sendall(asked)
        _news(streams, 5.0)
        cpu = served.cpu_s()
        _news(streams, 5.0)
        idle = (served.cpu_s() - cpu) / 5.0
        cpu, got, latest = served.cpu_s(), 0, 0.0
        for _ in range(CHANGES):
            with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
                connection.execute("UPDATE rollouts SET updated_at = updated_at + 1 WHERE id = ?", (rollout,))
            began = time.monotonic()
            told, last = _news(streams, CHANGE_S)
            got += told == browsers
            latest = max(latest, last - began)
            time.sleep(max(0.0, began + CHANGE_S - time.monotonic()))
        used = served.cpu_s() - cpu - idle * CHANGES * CHANGE_S
        return EventCost(browsers, got, latest, used / CHANGES * 1e3, idle, served.memory_mb() - before)
    finally:
        for stream in streams:
            stream.close()


def _news(streams: Sequence[socket.socket], seconds: float) -> tuple[int, float]:
    """Read what comes within a time; return how many streams had an event (no heartbeat), and when the last one came."""
    waiting, end, last = set(streams), time.monotonic() + seconds, time.monotonic()
    while waiting and time.monotonic() < end:
        for stream in select.select(list(waiting), [], [], max(0.0, end - time.monotonic()))[0]:
            if b"data:" in stream.recv(1 << 20):
                waiting.discard(stream)
                last = time.monotonic()
    return len(streams) - len(waiting), last


def grow(project: Path, wanted: int) -> None:
    """Copy each device's rows in every table until there are `wanted` devices, and write the inventory."""
    with closing(sqlite3.connect(project / "state.db")) as connection, connection:
        names = [name for (name,) in connection.execute("SELECT device FROM devices ORDER BY device")]
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "seq"]
            if "device" not in columns:
                continue
            chosen = ", ".join(columns)
            renamed = ", ".join("device || '-' || ?" if name == "device" else name for name in columns)
            for copy in range(1, -(-wanted // len(names))):
                few = names[: wanted - copy * len(names)]
                places = ", ".join("?" for _ in few)
                copied = f"INSERT INTO {table} ({chosen}) SELECT {renamed} FROM {table} WHERE device IN ({places})"
                connection.execute(copied, (str(copy), *few))
        names = [name for (name,) in connection.execute("SELECT device FROM devices ORDER BY device")]
    hosts = {name: {"host": f"10.{n >> 16}.{(n >> 8) & 255}.{n & 255}"} for n, name in enumerate(names)}
    (project / "fleet.yaml").write_text(json.dumps({"devices": hosts}))


def pages_of(rollout: str, device: str) -> tuple[str, ...]:
    """Return the pages that are measured."""
    return (
        "/healthz",
        "/",
        "/devices?page=100",
        f"/devices?q={device[:6]}",
        f"/devices/{device}",
        "/rollouts",
        f"/rollouts/{rollout}",
        "/models",
        "/models/cls",
        "/findings",
        "/findings/LF312",
        "/reports",
        "/api/v1/devices",
        "/api/v1/rollouts",
        "/api/v1/devices?limit=1000",
        "/api/v1/devices?state=failed",
        f"/api/v1/devices/{device}",
        "/api/v1/models/cls",
        f"/api/v1/rollouts/{rollout}/summary",
        f"/api/v1/rollouts/{rollout}/devices",
        f"/api/v1/rollouts/{rollout}/devices?limit=1000",
        f"/api/v1/rollouts/{rollout}/devices?state=failed",
        f"/api/v1/rollouts/{rollout}",
        "/metrics",
    )


def measure(folder: Path, browsers: int) -> None:
    """Measure the server of the project in a folder, and print the tables."""
    database = folder / "project" / "state.db"
    with closing(sqlite3.connect(database)) as connection:
        rollout, devices = connection.execute(
            "SELECT id, (SELECT COUNT(DISTINCT device) FROM rollout_rows) FROM rollouts ORDER BY ordinal DESC LIMIT 1"
        ).fetchone()
        device = connection.execute("SELECT device FROM rollout_rows ORDER BY device LIMIT 1").fetchone()[0]
        # As one that is under way: the page of one that is over follows nothing.
        connection.execute("UPDATE rollouts SET state = 'running' WHERE id = ?", (rollout,))
        connection.commit()
    print(f"{devices:,} devices, {database.stat().st_size / 1e6:.0f} MB of state\n")
    with serving(folder / "project") as served:
        print("| page | status | CPU ms | median ms | slowest ms | kB |\n|---|---|---|---|---|---|", flush=True)
        for path in pages_of(rollout, device):
            cost = page_cost(served, path)
            figures = f"{cost.cpu_ms:.0f} | {cost.median_ms:.0f} | {cost.slowest_ms:.0f} | {cost.size / 1e3:.1f}"
            print(f"| `{path}` | {cost.status} | {figures} |", flush=True)
        print(f"\nmemory: {served.memory_mb():.0f} MB, at most {served.memory_mb('VmHWM'):.0f} MB\n", flush=True)
        events = event_cost(served, database, rollout, browsers)
    print("| browsers | changes that all got | latest s | CPU ms a change | CPU s a second, idle | MB more |")
    print("|---|---|---|---|---|---|")
    cells = f"{events.latest_s:.2f} | {events.cpu_ms:.0f} | {events.idle_cpu_s:.3f} | {events.more_mb:.1f}"
    print(f"| {events.browsers} | {events.got} of {CHANGES} | {cells} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Make the state, unless it was kept, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--keep", type=Path, default=None)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="litefleet-dashboard-") as temporary:
        folder = args.keep or Path(temporary) / "made"
        if not (folder / "project" / "litefleet.yaml").exists():
            simulate(min(args.devices, SIMULATED), 200, folder)
            grow(folder / "project", args.devices)
        measure(folder, args.browsers)


if __name__ == "__main__":
    main()
