"""Pages that explain are run as they stand, where their commands fit one fleet of real SSH servers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.docs_pages import DOCS, run_blocks, surroundings
from tests.e2e.test_docs_how_to import entries, write_inventory


@pytest.mark.timeout(600)
async def test_pages_that_explain(
    fleet: Callable[..., EmbeddedFleet],
    project: Callable[..., Project],
    tmp_path: Path,
    nb_files: Callable[..., Path],
    lite_python: Path,
) -> None:
    env = surroundings(tmp_path)
    await run_blocks(DOCS / "findings.md", tmp_path, env)
    async with fleet("cam-1", "cam-7") as devices:
        job = project(devices)
        job.config(fleet="shop")
        job.config(ssh={"connect_time_limit_s": 5, "known_hosts": "known_hosts", "accept_new_host_keys": True})
        listed = entries(devices)
        listed["cam-7"]["tags"] = ["production"]
        write_inventory(job, devices=listed)

        def shell(line: str) -> None:
            argv = ["bash", "-c", line]
            done = subprocess.run(
                argv, cwd=job.folder, env=env, capture_output=True, text=True, timeout=180, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

        (job.folder / "models").mkdir()
        (job.folder / "models" / "cls.nb").symlink_to(nb_files("cls", "arm"))
        await run_blocks(DOCS / "ci.md", job.folder, env)
        assert (job.folder / "litefleet.sarif").stat().st_size > 500

        job.config(notify={"chat": {"command": {"argv": ["/bin/sh", "-c", f"cat >> {tmp_path}/told"]}}})
        await run_blocks(DOCS / "notifications.md", job.folder, env)
        assert (tmp_path / "told").stat().st_size > 50

        # Nobody receives the traces here: the rollout does not depend on it.
        await run_blocks(DOCS / "monitoring.md", job.folder, env, replaced={":4318": ":9"})

        async def probed() -> None:
            await asyncio.to_thread(shell, "litefleet probe --json > probe.json")

        await run_blocks(DOCS / "variants.md", job.folder, env, {"probe.json": probed})

        async def signed() -> None:
            own = {"key": "release-key", "allowed_signers": "allowed_signers", "expires_after": "90d"}
            job.config(signing=own)
            await asyncio.to_thread(shell, "litefleet rollout")  # it brings the first list of signers

        async def facts() -> None:
            await asyncio.to_thread(shell, f"{lite_python} litefleet-agent.pyz facts > cam-7.json")

        replaced = {
            '-C "releases"': '-C "releases" -N ""',  # without a passphrase, which it would ask for
            "python3 ": f"{lite_python} ",
            "install stick.lfb": f"install stick.lfb --root {tmp_path / 'carried'}",  # else that of this machine
        }
        happens = {"trust --reset-time": signed, "--facts": facts}
        await run_blocks(DOCS / "releases.md", job.folder, env, happens, replaced)
        assert (tmp_path / "carried" / "models" / "cls" / "current").is_symlink()
