"""A project with real devices: an embedded fleet of OpenSSH servers, a real model, the device's own Paddle-Lite."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet
from litefleet_controller.devices.code_packs import CodePacks
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.transport import identities
from litefleet_controller.operations import start_rollout
from litefleet_controller.project import Options
from litefleet_controller.project.run_fleet import run_fleet
from litefleet_inventory.model import Device

from tests.conftest import CACHE
from tests.fakes.embedded_inventory import inventory_yaml
from tests.fakes.odd_sshd import OddServers, odd_servers

CONFIG = """\
inventory: fleet.yaml
store: .litefleet
models:
  {model}:
    source: {source}
    inputs: {{x: {dims}}}
    golden: {{engine: paddlelite}}
runtimes: {{x86_64: system}}
verify: {{runs: 2, warmup: 0, time_limit_s: 60}}
rollout: {{waves: ["100%"], gates: off}}
ssh: {{connect_time_limit_s: {connect}, step_time_limit_s: {step}, known_hosts: known_hosts}}
"""
DIMS = {"cls": "[1, 3, 48, 192]", "rec": "[1, 3, 48, 320]"}


@pytest.fixture(autouse=True)
def _shared_cache() -> None:
    """Toolchains and bundles are kept between runs."""
    os.environ["LITEFLEET_CACHE"] = str(CACHE / "litefleet")


@pytest.fixture
def no_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count what is sent: devices compile the agent, whatever bytecode earlier tests have left in the cache."""
    monkeypatch.setattr(CodePacks, "of", lambda self, interpreter: b"")


@dataclass
class Project:
    """A folder with litefleet.yaml; `run` does what the command of that name does."""

    folder: Path

    async def run(self, command: str = "rollout", limit: str = "", accept: bool = False, model: str = "") -> RunReport:
        options = Options(self.folder / "litefleet.yaml", None, limit, (model,) if model else (), accept)
        if command == "rollout":
            return await start_rollout(options, lambda total: QuietProgress())
        return await run_fleet(command, options, lambda total: QuietProgress())

    def inventory(self, text: str) -> None:
        (self.folder / "fleet.yaml").write_text(text)

    def config(self, **changes: object) -> None:
        """Replace top-level keys of litefleet.yaml; None drops one."""
        path = self.folder / "litefleet.yaml"
        merged = {**yaml.safe_load(path.read_text()), **changes}
        path.write_text(yaml.safe_dump({k: v for k, v in merged.items() if v is not None}, sort_keys=False))

    def policy(self, **keys: object) -> None:
        """Replace `rollout:` as a whole; gates are off unless given."""
        self.config(rollout={"waves": ["100%"], "gates": "off", **keys})


@pytest.fixture
def project(tmp_path: Path, models: dict[str, Path]) -> Callable[..., Project]:
    """Return a maker of projects around one model."""

    def make(fleet: EmbeddedFleet | None = None, model: str = "cls", connect: int = 5, step: int = 60) -> Project:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        text = CONFIG.format(model=model, source=models[model], dims=DIMS[model], connect=connect, step=step)
        (folder / "litefleet.yaml").write_text(text)
        made = Project(folder)
        if fleet is not None:
            made.inventory(inventory_yaml(fleet))
        return made

    return make


@pytest.fixture
def fleet(tmp_path: Path, lite_python: Path) -> Callable[..., EmbeddedFleet]:
    """Return a maker of fleets whose devices have Paddle-Lite in their own Python."""

    def make(*names: str, kind: str = "sshd", **settings: object) -> EmbeddedFleet:
        specs = [DeviceSpec(n, kind=kind, python=str(lite_python), settings=settings) for n in names]
        return EmbeddedFleet(tmp_path / "devices", specs)

    return make


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddServers]:
    with odd_servers(tmp_path_factory.mktemp("odd")) as made:
        yield made


@pytest.fixture(scope="module")
def plain(servers: OddServers) -> Device:
    """A server as most are."""
    return servers.start()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without keys, and no SSH agent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    identities.read_key.cache_clear()
    return tmp_path
