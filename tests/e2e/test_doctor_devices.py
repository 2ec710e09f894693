"""doctor of devices: real OpenSSH devices, one good, one that is off, one that is not what the inventory says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from litefleet_agent.findings import Severity, Verdict
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.doctor.devices import Probed, diagnose_devices
from litefleet_controller.doctor.diagnosis import Diagnosis, Kind
from litefleet_controller.project import Options

from tests.e2e.conftest import Project


async def look(job: Project, limit: str = "") -> tuple[dict[str, Probed], dict[str, Diagnosis]]:
    options = Options(job.folder / "litefleet.yaml", None, limit)
    probed, diagnoses = await diagnose_devices(options, lambda total: QuietProgress())
    return {p.device: p for p in probed}, {d.subject: d for d in diagnoses}


def codes(diagnosis: Diagnosis) -> list[str]:
    return [f.code for f in diagnosis.ranked]


async def test_good_unreachable_and_unexpected_devices(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("good", "off", "other") as devices:
        job = project(devices)
        reported = yaml.safe_load((job.folder / "fleet.yaml").read_text())
        reported["devices"]["other"]["arch"] = "aarch64"
        job.inventory(yaml.safe_dump(reported))
        await devices.kill("off")
        probed, found = await look(job)

        assert list(found) == ["good", "off", "other"]
        assert {d.kind for d in found.values()} == {Kind.DEVICE}
        assert found["good"].findings == ()
        assert "It answers, and runs the agent." in found["good"].works
        assert any("Its own Paddle-Lite 2.13rc0" in sentence for sentence in found["good"].works)
        labels = {fact.label for fact in found["good"].facts}
        assert labels >= {"address", "cpu", "userland", "libc", "python", "memory", "disk", "paddlelite", "numpy"}
        facts = probed["good"].facts
        assert facts is not None
        assert facts.arch == "x86_64"
        assert found["good"].to_dict()["data"]["facts"]["arch"] == "x86_64"

        assert codes(found["off"]) == ["LF501"]
        assert probed["off"].facts is None
        assert probed["off"].outcome.verdict is Verdict.UNREACHABLE

        assert codes(found["other"]) == ["LF314"]
        assert found["other"].worst is Severity.WARNING

        assert not (job.folder / ".litefleet" / "reports").exists()
        for device in devices.devices.values():
            assert not device.root.exists() or list(device.root.iterdir()) == []


async def test_a_runtime_that_does_not_fit(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("one") as devices:
        job = project(devices)
        job.config(runtimes={"x86_64": {"paddlelite": "2.12"}})
        _, found = await look(job)
        assert codes(found["one"]) == []  # made for CPython 3.7: its library is called without the binding
        job.config(runtimes={"x86_64": {"wheel": "gone-1-cp310-cp310-linux_x86_64.whl"}})
        _, found = await look(job)
        assert codes(found["one"]) == ["LF302"]
        job.config(runtimes=None)
        _, found = await look(job)
        assert codes(found["one"]) == []
        assert "A runtime fits: the wheels of paddlelite 2.13rc0." in found["one"].works


async def test_what_a_device_runs_is_reported_and_what_is_no_longer_as_it_was(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("one") as devices:
        job = project(devices)
        rollout = await job.run()
        _, found = await look(job)
        runs = {fact.label: fact.text for fact in found["one"].facts}["runs"]
        assert runs == f"cls {rollout.outcomes[0].release[:12]}"
        assert found["one"].findings == ()
        blob: Path = devices.devices["one"].root / "blobs" / rollout.outcomes[0].artifact
        blob.chmod(0o600)
        blob.unlink()
        _, found = await look(job)
        assert found["one"].worst is Severity.ERROR
        assert all(code.startswith("LF6") for code in codes(found["one"]))
