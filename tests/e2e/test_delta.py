"""A new version of a model over a real sshd: what the device holds is copied there, and only the rest travels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import litefleet


def retrained(job: Project) -> None:
    """Make the next release one of a model whose last parameter's last value is another."""
    path = job.folder / "litefleet.yaml"
    config = yaml.safe_load(path.read_text())
    source = Path(config["models"]["cls"]["source"])
    folder = job.folder / f"{source.name}-next"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    (params,) = folder.glob("*.pdiparams")
    data = bytearray(params.read_bytes())
    data[-2] = (data[-2] + 1) % 256  # of a float32: a small change
    params.write_bytes(data)
    config["models"]["cls"]["source"] = str(folder)
    path.write_text(yaml.safe_dump(config))


async def test_a_new_version_travels_as_its_differences_and_whole_where_that_fails(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        first = (await job.run()).outcomes[0]
        assert first.verdict is Verdict.VERIFIED, first.to_dict()
        retrained(job)
        plan = json.loads((await litefleet(job, "plan", "--json")).stdout)
        (planned,) = plan["devices"]
        assert planned["bytes_saved"] > 700_000, planned
        assert planned["bytes_to_send"] < 250_000, planned
        second = (await job.run()).outcomes[0]
        assert second.verdict is Verdict.VERIFIED, second.to_dict()
        assert (second.activated, second.artifact != first.artifact) == (True, True)
        assert second.sent_bytes < first.sent_bytes - 400_000, (first.sent_bytes, second.sent_bytes)

        # The files on the device are damaged: what it makes of them has another hash, and the new file is sent whole.
        for artifact in (first.artifact, second.artifact):
            blob = devices.devices["a"].root / "blobs" / artifact
            data = blob.read_bytes()
            blob.write_bytes(data[:300_000] + bytes([data[300_000] ^ 1]) + data[300_001:])
        retrained(job)
        third = (await job.run()).outcomes[0]
        assert third.verdict is Verdict.VERIFIED, third.to_dict()
        assert third.artifact not in (first.artifact, second.artifact)
        assert third.activated
        assert third.sent_bytes > 600_000  # compressed, but for the goldens
