"""What goes wrong on the way, with real sshd: a clear outcome, nothing half-written visible, and the next run succeeds."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.outcome import Interrupted
from litefleet_controller.operations.plan import plan_rollout

from tests.conftest import lacking
from tests.e2e.conftest import Project
from tests.e2e.cutting_proxy import CuttingProxy
from tests.e2e.rollout_helpers import options, quiet
from tests.fakes.embedded_inventory import inventory_yaml

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]


def needs_root() -> None:
    """Skip with the reason, or fail in CI."""
    if os.geteuid() != 0:
        lacking("needs root: it mounts a small tmpfs as the device's disk")


@contextmanager
def disk(path: Path, options: str) -> Iterator[None]:
    """A tmpfs of its own at `path`."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def through(devices: EmbeddedFleet, port: int) -> str:
    """The inventory with device `a` behind another port."""
    entry = {**devices.devices["a"].inventory_entry(), "port": port}
    return yaml.safe_dump({"devices": {"a": entry}}, width=1000)


def whole_blobs_only(root: Path) -> bool:
    """Every visible blob holds the bytes that its name promises."""
    blobs = [p for p in (root / "blobs").glob("*") if not p.name.startswith(".")] if (root / "blobs").exists() else []
    sums = (
        subprocess.run(["sha256sum", *map(str, blobs)], capture_output=True, text=True, check=False).stdout
        if blobs
        else ""
    )
    return all(line.split()[0] == Path(line.split()[1]).name for line in sums.splitlines())


# In the agent, and in the model's file; random ones: test_random_cuts.py.
@pytest.mark.parametrize(
    "cut_after", [30_000, 9_000_000, *(pytest.param(n, marks=pytest.mark.long) for n in (200_000, 3_000_000))]
)
async def test_a_connection_cut_in_the_middle_of_a_push(fleet: Fleets, project: Projects, cut_after: int) -> None:
    async with fleet("a") as devices, CuttingProxy(devices.devices["a"].port, cut_after) as proxy:
        job = project(devices, model="rec")
        job.inventory(through(devices, proxy.port))
        report = await job.run()
        outcome = report.outcomes[0]
        assert outcome.verdict is Verdict.UNREACHABLE, report.to_dict()
        assert outcome.findings[0].code == "LF505"
        root = devices.devices["a"].root
        assert whole_blobs_only(root)
        assert not (root / "models" / "rec" / "current").exists()
        proxy.cut_after = None
        assert (await job.run()).outcomes[0].verdict is Verdict.VERIFIED
        assert not list((root / "blobs").glob(".tmp-*"))


async def test_a_line_that_hangs_in_a_push_costs_its_time_limit_only(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices, CuttingProxy(devices.devices["a"].port, 40_000, hang=True) as proxy:
        job = project(devices, step=2)
        job.inventory(through(devices, proxy.port))
        outcome = (await job.run()).outcomes[0]
    assert outcome.verdict is Verdict.UNREACHABLE
    assert outcome.findings[0].code == "LF506"
    assert "within 2 s" in outcome.sentence


async def test_a_full_disk_is_said_and_leaves_nothing(fleet: Fleets, project: Projects) -> None:
    needs_root()
    async with fleet("a") as devices:
        job = project(devices, model="rec")
        root = devices.devices["a"].root
        with disk(root, "size=9m"):
            outcome = (await job.run()).outcomes[0]
            assert outcome.verdict is Verdict.FAILED
            assert outcome.findings[0].code == "LF312"
            assert not list(root.glob("blobs/*"))
        with disk(root, "size=64m"):
            assert (await job.run()).outcomes[0].verdict is Verdict.VERIFIED


async def test_a_read_only_root(fleet: Fleets, project: Projects) -> None:
    needs_root()
    async with fleet("a") as devices:
        job = project(devices)
        root = devices.devices["a"].root
        with disk(root, "size=64m,ro"):
            outcome = (await job.run()).outcomes[0]
            planned = (await plan_rollout(options(job), quiet)).devices[0]
            assert (planned.effect, planned.findings[0].code) == ("blocked", "LF313")
        assert outcome.verdict is Verdict.FAILED
        assert outcome.findings[0].code == "LF313"
        assert (await job.run()).outcomes[0].verdict is Verdict.VERIFIED


async def test_a_damaged_blob_is_noticed_before_it_runs_and_sent_again(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        artifact = (await job.run()).outcomes[0].artifact
        blob = devices.devices["a"].root / "blobs" / artifact
        data = bytearray(blob.read_bytes())
        data[-1000] ^= 1
        blob.write_bytes(data)
        outcome = (await job.run("verify")).outcomes[0]
        assert outcome.verdict is Verdict.VERIFIED
        assert outcome.sent_bytes > len(data) // 4  # the device did not list the blob: it was sent again before it ran
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == artifact


async def test_two_controllers_at_once(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        root = devices.devices["a"].root
        root.mkdir(parents=True)
        with (root / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            outcome = (await job.run("verify")).outcomes[0]
            assert outcome.verdict is Verdict.FAILED
            assert outcome.findings[0].code == "LF508"
        both = await asyncio.gather(job.run("verify"), job.run("verify"))
        codes = [o.findings[0].code if o.findings else "" for report in both for o in report.outcomes]
        assert sorted(codes) in (["", "LF508"], ["", ""])
        assert (await job.run()).outcomes[0].verdict is Verdict.VERIFIED


async def test_ctrl_c_leaves_each_device_with_a_word(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices, CuttingProxy(devices.devices["a"].port, 40_000, hang=True) as proxy:
        job = project(devices)
        job.inventory(through(devices, proxy.port))
        task = asyncio.create_task(job.run())
        while proxy.passed < 40_000:
            await asyncio.sleep(0.05)
        task.cancel()  # what asyncio makes of Ctrl-C
        with pytest.raises(Interrupted) as stopped:
            await task
        assert [f.code for o in stopped.value.report.outcomes for f in o.findings] == ["LF509"]
        job.inventory(inventory_yaml(devices))
        assert (await job.run()).outcomes[0].verdict is Verdict.VERIFIED


async def test_host_keys_are_verified_pinned_on_request_and_never_replaced(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        entry = devices.devices["a"].inventory_entry()
        entry.pop("host_key")
        job.inventory(yaml.safe_dump({"devices": {"a": entry}}, width=1000))
        unknown = (await job.run("probe")).outcomes[0]
        assert (unknown.verdict, unknown.findings[0].code) == (Verdict.FAILED, "LF502")
        assert "SHA256:" in unknown.sentence
        assert (await job.run("probe", accept=True)).outcomes[0].verdict is Verdict.VERIFIED
        assert (await job.run("probe")).outcomes[0].verdict is Verdict.VERIFIED
        pinned = job.folder / ".litefleet" / "known_hosts"
        assert pinned.stat().st_mode & 0o777 == 0o600
        other = subprocess.run(
            f"ssh-keygen -q -t ed25519 -N '' -f {job.folder}/other && cut -d' ' -f1,2 {job.folder}/other.pub",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        host, _, _ = pinned.read_text().partition(" ")
        pinned.write_text(f"{host} {other}\n")
        changed = (await job.run("probe", accept=True)).outcomes[0]
        assert (changed.verdict, changed.findings[0].code) == (Verdict.FAILED, "LF503")


async def test_a_refused_key_and_a_dead_port(fleet: Fleets, project: Projects) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", job.folder / "stranger"], check=True)
        entry = {**devices.devices["a"].inventory_entry(), "key": str(job.folder / "stranger")}
        dead = {**devices.devices["a"].inventory_entry(), "port": 1}
        job.inventory(yaml.safe_dump({"devices": {"a": entry, "b": dead}}, width=1000))
        report = await job.run("probe")
        assert [o.findings[0].code for o in report.outcomes] == ["LF504", "LF501"]


async def test_a_jump_host(fleet: Fleets, project: Projects) -> None:
    async with fleet("gate", "a") as devices:
        job = project(devices)
        entries = {name: device.inventory_entry() for name, device in devices.devices.items()}
        entries["a"]["jump"] = "gate"
        job.inventory(yaml.safe_dump({"devices": entries}, width=1000))
        report = await job.run(limit="a")
        assert report.outcomes[0].verdict is Verdict.VERIFIED, report.to_dict()
