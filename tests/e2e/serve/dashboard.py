"""A real dashboard for tests and pictures: an embedded fleet with real rollouts, and `litefleet serve` in a process over it."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from tests.conftest import CACHE
from tests.e2e.conftest import CONFIG, DIMS, Project
from tests.e2e.rollout_helpers import environment, new_release
from tests.fakes.embedded_inventory import inventory_yaml

HOSTILE = '"><img src=x onerror=hit()>'  # in every name that a device or an inventory may hold
CHROMIUM = "/usr/bin/chromium"


class FleetThread:
    """An embedded fleet whose event loop runs in a thread, so that tests with a synchronous browser have devices."""

    def __init__(self, base: Path, specs: list[DeviceSpec]) -> None:
        self.fleet = EmbeddedFleet(base, specs)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> EmbeddedFleet:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self.fleet.__aenter__(), self._loop).result(60)

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self.fleet.__aexit__(None, None, None), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class Dashboard:
    """A running server: its address, its project, and the tokens of a person for each role."""

    address: str
    job: Project
    fleet: EmbeddedFleet
    tokens: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str, code: int | None = 0) -> str:
        """Run a command on the project, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "litefleet_controller", *words, "-c", str(self.job.folder / "litefleet.yaml")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment(),
        )
        assert code is None or done.returncode == code, done.stderr + done.stdout
        return done.stdout


@contextmanager
def serving(job: Project, fleet: EmbeddedFleet) -> Iterator[Dashboard]:
    """Run `litefleet serve` until the block ends; it has one person for each role."""
    made = Dashboard("", job, fleet)
    for role in ("view", "operate", "admin"):
        words = made.command("serve", "token", f"{role}-person", "--role", role).split()
        made.tokens[role] = next(word for word in words if word.startswith("lfs_"))
    config = str(job.folder / "litefleet.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "litefleet_controller", "serve", "--port", "0", "-c", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment(), "PYTHONUNBUFFERED": "1"},
    )
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
    try:
        said = ""
        while "http://" not in said:
            said += lines.get(timeout=60)
        made.address = "http://" + said.split("http://")[1].split("/")[0].split()[0]
        yield made
    finally:
        process.terminate()
        process.wait(30)


def write_inventory(job: Project, fleet: EmbeddedFleet) -> None:
    """Write the inventory, with a tag for each hall."""
    data = yaml.safe_load(inventory_yaml(fleet))
    for number, entry in enumerate(data["devices"].values()):
        entry["tags"] = ["hall-a" if number % 2 else "hall-b"]
    job.inventory(yaml.safe_dump(data, sort_keys=False, width=1000))


@contextmanager
def demo_fleet(folder: Path, lite_python: Path, models: dict[str, Path]) -> Iterator[tuple[Project, EmbeddedFleet]]:
    """Start four devices, and bring them two releases: the second one with the version 1.1."""
    os.environ["LITEFLEET_CACHE"] = str(CACHE / "litefleet")
    specs = [DeviceSpec(f"cam-{n}", kind="sshd", python=str(lite_python)) for n in range(1, 5)]
    with FleetThread(folder / "devices", specs) as fleet:
        job = Project(folder / "project")
        job.folder.mkdir()
        config = CONFIG.format(model="cls", source=models["cls"], dims=DIMS["cls"], connect=5, step=60)
        (job.folder / "litefleet.yaml").write_text(config)
        write_inventory(job, fleet)
        made = Dashboard("", job, fleet)
        made.command("rollout")
        new_release(job, 3)
        made.command("rollout")
        yield job, fleet
