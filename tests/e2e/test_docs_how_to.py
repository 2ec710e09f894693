"""The README and the how-to pages are run as they stand, on a fleet of real SSH servers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.docs_pages import DOCS, ROOT, run_blocks, surroundings
from tests.e2e.test_runtime_bundle import release_archive

HOW_TO = DOCS / "how-to"
NAMES = ("cam-01", "cam-02", "cam-03")
Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


def entries(fleet: EmbeddedFleet) -> dict[str, dict[str, Any]]:
    """Return the devices as a person writes them: no pinned host keys."""
    found = {name: dict(device.inventory_entry()) for name, device in fleet.devices.items()}
    for entry in found.values():
        entry.pop("host_key", None)
    return found


def write_inventory(job: Project, **parts: object) -> None:
    job.inventory(yaml.safe_dump(parts, sort_keys=False, width=1000))


@pytest.mark.timeout(600)
async def test_devices_offline_behind_a_jump_host_and_with_an_archive(
    fleet: Fleets, project: Projects, tmp_path: Path
) -> None:
    """One fleet for these pages: its devices are converted for, and sent to, once."""
    env = surroundings(tmp_path)
    async with fleet(*NAMES) as devices:
        job = project(devices)
        listed = entries(devices)
        job.config(ssh={"connect_time_limit_s": 5, "known_hosts": "known_hosts", "accept_new_host_keys": True})
        await devices.kill("cam-03")
        returns = {"resume": lambda: devices.restart("cam-03")}
        await run_blocks(HOW_TO / "offline-devices.md", job.folder, env, returns)

        gate = listed.pop("cam-03")
        write_inventory(job, groups={"hall": {"jump": "gate", "devices": listed}}, devices={"gate": gate})
        await run_blocks(HOW_TO / "jump-hosts.md", job.folder, env)

        (job.folder / "inference_lite_lib.tar.gz").symlink_to(release_archive())
        write_inventory(job, devices={**listed, "desk": gate})
        job.config(runtimes=None)
        await run_blocks(HOW_TO / "runtimes.md", job.folder, env)
        assert "{archive: " in (job.folder / "litefleet.yaml").read_text()

        install = "install stick.lfb"
        replaced = {install: f"{install} --root {tmp_path / 'carried'}"}  # else that of this machine
        await run_blocks(HOW_TO / "air-gapped-sites.md", job.folder, env, replaced=replaced)
        assert json.loads((job.folder / "report.json").read_text())
        assert (tmp_path / "carried" / "models" / "cls" / "current").is_symlink()


@pytest.mark.timeout(600)
async def test_the_readme_and_the_pages_of_boards(
    fleet: Fleets, project: Projects, tmp_path: Path, models: dict[str, Path], nb_files: Callable[..., Path]
) -> None:
    env = surroundings(tmp_path)
    async with fleet("cam-01", "cam-7") as devices:
        job = project(devices)
        job.config(ssh={"connect_time_limit_s": 5, "known_hosts": "known_hosts", "accept_new_host_keys": True})
        router = {"host": "192.0.2.41", "user": "root", "key": str(devices.key_path), "root": "/mnt/data/litefleet"}
        write_inventory(job, devices={**entries(devices), "gw-1": router})
        shutil.copytree(models["cls"], job.folder / "models" / "cls")
        (job.folder / "crash.log").write_text("Error: This model is not supported\nSegmentation fault (core dumped)\n")
        for name in ("model.nb", "some.nb"):
            (job.folder / name).symlink_to(nb_files("cls", "x86"))
        for board in ("raspberry-pi", "rk3588", "jetson", "openwrt"):
            await run_blocks(HOW_TO / f"{board}.md", job.folder, env)
        write_inventory(job, devices=entries(devices))
        shutil.copytree(models["cls"], job.folder / "fresh" / "models" / "cls")
        replaced = {
            "litefleet init": "litefleet init fresh",  # this project exists
            # these find something: the crash, and a file for another architecture
            "doctor --log crash.log": "doctor --log crash.log || test $? = 1",
            "inspect some.nb --for aarch64": "inspect some.nb --for aarch64 || test $? = 1",
            "doctor model.nb --for aarch64": "doctor model.nb --for aarch64 || test $? = 1",
        }
        await run_blocks(ROOT / "README.md", job.folder, env, replaced=replaced)
        assert "cam-[01:12]" in (job.folder / "fresh" / "fleet.yaml").read_text()
        assert (job.folder / "report.html").stat().st_size > 1000
