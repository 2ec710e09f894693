"""docs/day-2.md is run as it stands, on a fleet of real SSH servers: from a new version to the report."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.docs_pages import DOCS, blocks
from tests.e2e.rollout_helpers import environment

_NAMES = ("cam-01", "cam-02", "cam-03", "cam-04")


def _entries(fleet: EmbeddedFleet) -> dict[str, dict[str, Any]]:
    """Return the devices as a person writes them: no pinned host keys."""
    entries = {name: dict(device.inventory_entry()) for name, device in fleet.devices.items()}
    for entry in entries.values():
        entry.pop("host_key", None)
    return entries


def _write_files(folder: Path, fleet: EmbeddedFleet) -> None:
    """Write what the page finds in the project's folder."""
    entries = _entries(fleet)
    listed = {name: entries[name] for name in _NAMES[:3]}
    (folder / "fleet.yaml").write_text(yaml.safe_dump({"devices": listed}, sort_keys=False, width=1000))
    added = yaml.safe_dump({"cam-04": entries["cam-04"]}, sort_keys=False, width=1000)
    (folder / "cam-04.yaml").write_text("".join(f"  {line}\n" for line in added.splitlines()))
    ini = [
        f"{n} ansible_host={e['host']} ansible_port={e['port']} ansible_user={e['user']}"
        f" ansible_ssh_private_key_file={e['key']} ansible_python_interpreter={e['python']} litefleet_root={e['root']}"
        for n, e in listed.items()
    ]
    (folder / "hosts.ini").write_text("[cams]\n" + "\n".join(ini) + "\n[cams:vars]\nansible_shell_type=sh\n")
    hosts = [
        f"Host {n}\n  HostName {e['host']}\n  Port {e['port']}\n  User {e['user']}\n  IdentityFile {e['key']}\n"
        for n, e in listed.items()
    ]
    (folder / "ssh_config").write_text("".join(hosts))


async def _replace(fleet: EmbeddedFleet, name: str) -> None:
    """Make a device one that shows another host key and has nothing on its disk."""
    await fleet.kill(name)
    key = fleet.devices[name].place.host_key
    for path in (key, key.with_suffix(".pub")):
        path.unlink()
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    await asyncio.to_thread(subprocess.run, keygen, check=True, capture_output=True)
    await asyncio.to_thread(subprocess.run, ["rm", "-rf", str(fleet.devices[name].root)], check=True)
    await fleet.restart(name)


@pytest.mark.timeout(600)
async def test_the_page_does_what_it_says(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], tmp_path: Path
) -> None:
    async with fleet(*_NAMES) as devices:
        job = project(devices)
        models = yaml.safe_load((job.folder / "litefleet.yaml").read_text())["models"]
        models["cls"] = {"version": "1.0", **models["cls"]}
        job.config(models=models)
        job.policy(waves=[1, "100%"], gates={"canary": {"count": 1}})
        text = (job.folder / "litefleet.yaml").read_text().replace("version: '1.0'", 'version: "1.0"')
        (job.folder / "litefleet.yaml").write_text(text)
        _write_files(job.folder, devices)
        env = environment()
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        output = ""
        for kind, block in blocks(DOCS / "day-2.md"):
            if kind == "text":
                for line in block.splitlines():
                    assert " ".join(line.split()) in " ".join(output.split()), f"{line!r} is not in:\n{output}"
                continue
            if "accept-key" in block:
                await _replace(devices, "cam-02")
            argv = ["bash", "-c", "set -e\n" + block]
            done = await asyncio.to_thread(
                subprocess.run, argv, cwd=job.folder, env=env, capture_output=True, text=True, timeout=280, check=False
            )
            output = done.stdout + done.stderr
            assert done.returncode == 0, f"{block}\n{output}"
        for name in ("report.html", "report.csv", "report.md", "report.xml", "devices.csv"):
            assert (job.folder / name).stat().st_size > 100, name


def test_both_languages_have_the_same_blocks() -> None:
    assert blocks(DOCS / "day-2.md") == blocks(DOCS / "day-2.zh.md")
    assert len(blocks(DOCS / "day-2.md")) >= 20
