"""Rollouts over a real Dask cluster: scheduler and workers are processes on loopback, devices are real OpenSSH servers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.cluster.address import ClusterError, TlsFiles
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import pause, start_rollout
from litefleet_controller.operations.resume import resume
from litefleet_controller.rollout import DeviceState, RolloutState

from tests.e2e.cluster_processes import ClusterProcesses, certificates
from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import audit, current, latest, litefleet, options, quiet, rows

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

Projects = Callable[..., Project]
Fleets = Callable[..., EmbeddedFleet]


class Recorded(QuietProgress):
    """Keeps the messages, and calls `on_step` at each step of a device."""

    def __init__(self, on_step: Callable[[str, str], None] = lambda device, step: None) -> None:
        self.messages: list[str] = []
        self._on_step = on_step

    def message(self, text: str) -> None:
        self.messages.append(text)

    def device_step(self, device: str, step: str) -> None:
        self._on_step(device, step)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    with ClusterProcesses(tmp_path / "cluster", certificates(tmp_path / "tls")) as running:
        yield running


def use(job: Project, tls: TlsFiles) -> None:
    """Write the certificates into litefleet.yaml."""
    job.config(cluster={name: str(path) for name, path in tls._asdict().items()})


async def roll_out(job: Project, cluster: ClusterProcesses, progress: QuietProgress) -> RunReport:
    return await start_rollout(replace(options(job), cluster=cluster.address), lambda total: progress)


async def test_a_worker_that_is_killed_in_a_wave_loses_nothing(
    project: Projects, fleet: Fleets, cluster: ClusterProcesses
) -> None:
    cluster.start("first", "--concurrency", "1")
    cluster.start("second", "--concurrency", "1")
    async with fleet("cam-1", "cam-2") as devices:
        job = project(devices)
        use(job, cluster.tls)
        await asyncio.to_thread(cluster.ready)
        killed: list[str] = []

        def kill_its_worker(device: str, step: str) -> None:
            if step == "push and prove" and not killed:
                killed.extend(cluster.connected_to(devices.devices[device].port))
                cluster.kill(killed[0])

        progress = Recorded(kill_its_worker)
        report = await roll_out(job, cluster, progress)
        assert report.exit_code == 0, [o.sentence for o in report.outcomes]
        found = rows(job)
        assert [row.state for row in found] == [DeviceState.CONFIRMED] * 2
        assert sorted(row.attempts for row in found) == [1, 2]  # only the one that the killed worker held
        assert "2 workers for 2 devices at once" in progress.messages
        assert f"the worker {killed[0]} has ended, which held 1 sessions" in progress.messages
        assert set(current(devices).values()) == {found[0].release}
        assert latest(job).state is RolloutState.DONE

    # The other worker holds every file once, by its hash; no private key came with them.
    (left,) = {"first", "second"} - set(killed)
    held = {path.name: path.read_bytes() for path in cluster.cache(left).iterdir() if path.is_file()}
    assert {hashlib.sha256(data).hexdigest() for data in held.values()} == set(held)
    assert agent_archive().sha256 in held
    assert len(held) > 1  # and what devices were sent, compressed where that is smaller
    assert not any(b"PRIVATE KEY" in data for data in held.values())


@pytest.mark.long
async def test_devices_are_taken_by_the_workers_that_can_reach_them(
    project: Projects, fleet: Fleets, cluster: ClusterProcesses
) -> None:
    cluster.start("berlin", "--site", "berlin")
    async with fleet("b-1", "b-2", "h-1") as devices:
        job = project(devices)
        use(job, cluster.tls)
        job.policy(retry={"first": "2s"})
        inventory = yaml.safe_load((job.folder / "fleet.yaml").read_text())
        for name, about in inventory["devices"].items():
            about["tags"] = ["berlin" if name.startswith("b") else "hamburg"]
        job.inventory(yaml.safe_dump(inventory))
        await asyncio.to_thread(cluster.ready)
        progress = Recorded()
        report = await roll_out(job, cluster, progress)
        outcomes = {outcome.device: outcome for outcome in report.outcomes}
        said = "no worker of the cluster can reach h-1: they count as offline until one can"
        assert progress.messages.index(said) < progress.messages.index("probing 3 devices")
        assert outcomes["b-1"].activated
        assert outcomes["b-2"].activated
        assert outcomes["h-1"].verdict is Verdict.UNREACHABLE
        assert outcomes["h-1"].findings[0].code == "LF515"
        assert "(groups and tags: hamburg): the workers take site berlin" in outcomes["h-1"].sentence

        cluster.start("hamburg", "--site", "hamburg")
        await asyncio.to_thread(cluster.ready)
        await resume(replace(options(job), cluster=cluster.address), quiet, "", WaitPolicy.WAVES)
        assert [row.state for row in rows(job)] == [DeviceState.CONFIRMED] * 3

        plan = await litefleet(job, "plan", "--json", "--cluster", cluster.address)
        assert plan.returncode == 0, plan.stderr
        assert all(device["reachable"] for device in json.loads(plan.stdout)["devices"])


@pytest.mark.long
async def test_a_scheduler_that_ends_ends_the_run_and_resume_continues_without_it(
    project: Projects, fleet: Fleets, cluster: ClusterProcesses
) -> None:
    cluster.start("only")
    async with fleet("cam-1", "cam-2") as devices:
        job = project(devices)
        use(job, cluster.tls)
        await asyncio.to_thread(cluster.ready)

        def end_it(device: str, step: str) -> None:
            if step == "activate":
                cluster.kill_scheduler()

        with pytest.raises(ClusterError, match="does not answer any more"):
            await roll_out(job, cluster, Recorded(end_it))
        assert any(row.state.in_flight for row in rows(job))  # as a killed controller leaves them
        report = await resume(options(job), quiet, "", WaitPolicy.WAVES)
        assert report.exit_code == 0, [o.sentence for o in report.outcomes]
        assert [row.state for row in rows(job)] == [DeviceState.CONFIRMED] * 2


@pytest.mark.long
async def test_the_next_wave_gets_its_files_over_the_cluster_too(
    project: Projects, fleet: Fleets, cluster: ClusterProcesses
) -> None:
    cluster.start("only", "--concurrency", "2")
    async with fleet("cam-1", "cam-2", "cam-3") as devices:
        job = project(devices)
        use(job, cluster.tls)
        job.policy(waves=[1, "100%"], soak="5s", prepare_next=True)
        await asyncio.to_thread(cluster.ready)
        progress = Recorded()
        report = await roll_out(job, cluster, progress)
        assert report.exit_code == 0, [o.sentence for o in report.outcomes]
        assert [row.state for row in rows(job)] == [DeviceState.CONFIRMED] * 3
        assert "wave 2: 2 of 2 devices had their files before their turn" in progress.messages
        sent = {outcome.device: outcome.sent_bytes for outcome in report.outcomes}
        first = max(sent, key=sent.__getitem__)
        (entry,) = [entry for entry in audit(job) if entry.action == "prepare"]
        ahead = entry.what["bytes"]
        assert isinstance(ahead, int)
        assert all(sent[name] < ahead / 4 for name in sent if name != first), (sent, ahead)


@pytest.mark.long
async def test_a_pause_reaches_a_run_over_the_cluster(
    project: Projects, fleet: Fleets, cluster: ClusterProcesses
) -> None:
    cluster.start("only", "--concurrency", "1")
    async with fleet("cam-1", "cam-2", "cam-3") as devices:
        job = project(devices)
        use(job, cluster.tls)
        await asyncio.to_thread(cluster.ready)
        asked: list[str] = []

        def pause_it(device: str, step: str) -> None:
            if step == "push and prove" and not asked:
                asked.append(pause(options(job), ""))

        await roll_out(job, cluster, Recorded(pause_it))
        assert asked
        assert asked[0].startswith("asked for")
        assert latest(job).state is RolloutState.PAUSED
        states = [row.state for row in rows(job)]
        assert DeviceState.PENDING in states
        assert DeviceState.CONFIRMED in states


@pytest.mark.long
async def test_who_has_no_certificate_of_the_authority_cannot_connect(
    project: Projects, fleet: Fleets, cluster: ClusterProcesses, tmp_path: Path
) -> None:
    cluster.start("only")
    async with fleet("cam-1") as devices:
        job = project(devices)
        use(job, certificates(tmp_path / "other"))
        await asyncio.to_thread(cluster.ready)
        done = await litefleet(job, "rollout", "--cluster", cluster.address)
        assert done.returncode == 1
        assert f"the scheduler {cluster.address} does not answer" in done.stderr
        assert "Traceback" not in done.stderr
