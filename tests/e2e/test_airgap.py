"""A device that no network reaches: a real release with its real runtime, carried over in a file, proven and switched on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from litefleet_agent.facts import Facts
from litefleet_controller.airgap.write import write_bundle
from litefleet_controller.build.releases import ReleaseBuilder
from litefleet_controller.build.toolchain import Toolchains, default_cache
from litefleet_controller.config import load_config
from litefleet_controller.config.model import SigningConfig
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.release import Release
from litefleet_controller.signing.signer import Signer
from litefleet_inventory.model import Device

from tests.e2e.conftest import Project
from tests.fakes.ssh_keys import keygen

ISSUED = time.time()


@pytest.fixture
def device_python(lite_python: Path) -> Path:
    """The bare interpreter: Paddle-Lite and numpy come with the bundle."""
    return lite_python.resolve()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    key = keygen(tmp_path / "key")
    (tmp_path / "allowed_signers").write_text("ops " + key.with_suffix(".pub").read_text())
    return Signer(SigningConfig(key=key, allowed_signers=tmp_path / "allowed_signers"))


@pytest_asyncio.fixture
async def kept(project: Callable[..., Project], tmp_path: Path, device_python: Path) -> Release:
    """A release for this machine, made as a rollout makes it."""
    folder = project().folder
    text = (folder / "litefleet.yaml").read_text().replace("runtimes: {x86_64: system}\n", "")
    (folder / "litefleet.yaml").write_text(text)
    (folder / "fleet.yaml").write_text("devices: {cam-7: {host: 127.0.0.1}}\n")
    (tmp_path / "agent.pyz").write_bytes(agent_archive().data)
    reported = _run([device_python, tmp_path / "agent.pyz", "facts"], tmp_path)
    facts = Facts.from_dict(json.loads(reported.stdout))
    release_builder = ReleaseBuilder(load_config(folder / "litefleet.yaml"), Toolchains(), default_cache(), print)
    try:
        return await release_builder.release_for("cls", Device("cam-7", "127.0.0.1"), facts)
    finally:
        await release_builder.close()


async def test_a_bundle_is_installed_proven_and_guarded(
    tmp_path: Path, kept: Release, signer: Signer, device_python: Path
) -> None:
    newer, older = tmp_path / "newer.lfb", tmp_path / "older.lfb"
    for path, number in ((newer, 8), (older, 7)):
        await _write(path, kept, signer, number)
    agent, root = tmp_path / "litefleet-agent.pyz", tmp_path / "device"

    def install(path: Path, *more: object) -> tuple[int, str]:
        done = _run([device_python, agent, "install", path, "--root", root, *more], tmp_path, check=False)
        return done.returncode, done.stdout + done.stderr

    current = root / "models" / "cls" / "current"
    damaged = tmp_path / "damaged.lfb"
    data = newer.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    code, output = install(damaged, "--trust", tmp_path / "allowed_signers")
    assert (code, "LF617" in output, current.exists()) == (1, True, False), output

    code, output = install(newer, "--trust", tmp_path / "allowed_signers")
    assert code == 0, output
    assert json.loads(current.read_text()) == kept.manifest
    assert (root / "runtimes" / kept.runtime_key / "paddlelite" / "lite.so").exists()
    (report,) = (root / "reports").glob("*.json")
    (outcome,) = json.loads(report.read_text())["outcomes"]
    assert (outcome["release"], outcome["verdict"], outcome["activated"]) == (kept.id, "verified", True)

    code, output = install(older)
    assert (code, "LF606" in output) == (1, True), output
    unsigned = tmp_path / "unsigned.lfb"
    await write_bundle(unsigned, [kept], "shop", None, agent_archive(), ISSUED)
    code, output = install(unsigned)
    assert (code, "LF609" in output, "Traceback" in output) == (1, True, False), output
    assert json.loads(current.read_text()) == kept.manifest


async def _write(path: Path, kept: Release, signer: Signer, number: int) -> None:
    signed = await signer.seal(kept.id, "cls", "shop", number, ISSUED)
    release = Release(**{**vars(kept), "signed": signed})
    await write_bundle(path, [release], "shop", signer, agent_archive(), ISSUED)


def _run(argv: list[Any], folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=env, timeout=150, check=check)
