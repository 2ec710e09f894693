"""What a device would refuse a release for is in the plan, with the verdict that a rollout would end with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.facts import Disk, Facts, Package
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.devices.release import Release
from litefleet_controller.rollout import DeviceState
from litefleet_controller.rollout_engine.fleet_survey import ProbeResult, _plan_one
from litefleet_inventory.model import Device

OWN = Package("2.13rc0", "/opt/paddlelite")
GOOD = Facts(machine="x86_64", arch="x86_64", bits=64, paddlelite=OWN, disk=Disk(10**9, 10**8), writable=True)
KEPT = {"current": {"other": "a" * 64}}


class Supply:
    """Makes the same release for every device."""

    def __init__(self, release: Release) -> None:
        self._release = release

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        return self._release


async def planned(tmp_path: Path, facts: Facts, hello: dict[str, Any], size: int = 1000, **changes: Any) -> Any:
    """Return the plan of one device for a release with one file of `size` bytes."""
    blob = tmp_path / "nb"
    with blob.open("wb") as file:
        file.truncate(size)
    release = replace(Release(id="c" * 64, model="cls", artifact="d" * 64, blobs={"d" * 64: blob}), **changes)
    probe = ProbeResult(Device("one", "192.0.2.1"), {"root": "/var/lib/litefleet", **hello}, facts, seen_at=1.0)
    return (await _plan_one(probe, "cls", Supply(release), 0))[0]


@pytest.mark.parametrize(
    ("facts", "size", "changes", "code", "verdict"),
    [
        (GOOD, 1000, {"runtime_key": "system"}, "", None),
        (GOOD._replace(paddlelite=Package()), 1000, {"runtime_key": "aa"}, "", None),
        (GOOD._replace(paddlelite=Package()), 1000, {"runtime_key": "system"}, "LF302", Verdict.UNSUPPORTED),
        (GOOD._replace(writable=False), 1000, {}, "LF313", Verdict.FAILED),
        (GOOD, 2 * 10**8, {}, "LF312", Verdict.FAILED),
    ],
)
async def test_a_device_is_blocked_before_anything_is_sent(
    tmp_path: Path, facts: Facts, size: int, changes: dict[str, Any], code: str, verdict: Verdict | None
) -> None:
    device = await planned(tmp_path, facts, {}, size, **changes)
    if not code:
        assert device.row.state is DeviceState.PENDING
        return
    assert (device.effect, device.row.verdict, device.row.codes) == ("blocked", verdict, (code,))
    assert device.bytes_to_send == 0


async def test_why_no_runtime_fits_is_what_is_said(tmp_path: Path) -> None:
    why = finding("LF302", "published for x86_64 only")
    lacking = GOOD._replace(paddlelite=Package())
    device = await planned(tmp_path, lacking, {}, runtime_key="system", no_runtime=(why,))
    assert device.row.sentence == "published for x86_64 only"


async def test_what_a_device_may_drop_leaves_space_possible(tmp_path: Path) -> None:
    device = await planned(tmp_path, GOOD, KEPT, 2 * 10**8)
    assert device.row.state is DeviceState.PENDING
    (found,) = device.findings
    assert (found.code, found.decides) == ("LF312", False)


async def test_a_device_that_runs_the_release_needs_nothing(tmp_path: Path) -> None:
    device = await planned(tmp_path, GOOD._replace(writable=False), {"current": {"cls": "c" * 64}})
    assert device.findings == ()
