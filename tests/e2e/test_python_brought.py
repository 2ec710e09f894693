"""A device with busybox and nothing else, no libc and no Python: litefleet brings one, and the model verifies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import yaml
from litefleet_agent.findings.finding import Verdict

from tests.conftest import lacking
from tests.e2e.conftest import Project
from tests.lab.bare_root import BareDevice, bare_device, why_no_bare_device

PYTHONS = "/var/lib/litefleet/python"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareDevice]:
    if reason := why_no_bare_device():
        lacking(reason)
    with bare_device(tmp_path_factory.mktemp("bare")) as running:
        yield running


@pytest.fixture
def bare(device: BareDevice, project: Callable[..., Project]) -> Project:
    made = project(None)
    made.config(runtimes=None)
    made.inventory(yaml.safe_dump({"devices": {"bare": device.inventory_entry()}}))
    return made


async def test_a_bare_device_is_planned_verified_and_rolled_out_to(device: BareDevice, bare: Project) -> None:
    probed = (await bare.run("probe")).outcomes[0]
    assert probed.verdict is Verdict.VERIFIED, probed.findings
    assert 4_000_000 < probed.sent_bytes < 10_000_000
    key = device.sh(f"cat {PYTHONS}/current").strip()
    assert probed.facts["python"]["executable"] == f"{PYTHONS}/{key}/bin/python3"
    assert probed.facts["brought"] == {"key": key, "own_libc": "none"}
    assert probed.facts["libc"]["kind"] == "glibc"
    assert {"libstdc++.so.6", "libgomp.so.1"} <= set(probed.facts["libraries"])
    assert device.sh(f"ls -A {PYTHONS}").split() == [key, "current"]

    rolled = (await bare.run("rollout")).outcomes[0]
    assert (rolled.verdict, rolled.activated) == (Verdict.VERIFIED, True), rolled.findings
    assert rolled.measurements["engine"] == "native", rolled.measurements
    assert rolled.sent_bytes < 60_000_000

    again = (await bare.run("verify")).outcomes[0]
    assert again.verdict is Verdict.VERIFIED
    assert again.sent_bytes < 20_000
