"""The main job on ARM devices: probed, converted for, pushed to and checked there, and honest about the runtime.

No Paddle-Lite for ARM Linux is published, so none runs here: what a device with one would add, the run of the model
itself, is shown on x86_64 (tests/e2e).  What stands in for a built ARM runtime says so in its test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_agent.formats.nb import read_nb
from litefleet_controller.devices.agent_archive import agent_archive

from tests.conftest import CACHE
from tests.e2e.cutting_proxy import CuttingProxy
from tests.lab.arm_devices import LabDevice
from tests.lab.lab_project import LabJob
from tests.lab.rootfs import build

pytestmark = pytest.mark.lab

Jobs = Callable[..., LabJob]


@pytest.fixture
def job(tmp_path: Path, models: dict[str, Path], request: pytest.FixtureRequest) -> Jobs:
    """Return a maker of jobs; each test has its own root on the device."""
    os.environ["LITEFLEET_CACHE"] = str(CACHE / "litefleet")

    def make(device: LabDevice) -> LabJob:
        return LabJob(tmp_path, models["cls"], device, f"/var/lib/{request.node.originalname}")

    return make


FACTS = {
    "aarch64": (64, ["Cortex-A72"], {"asimd"}),
    "armv7l": (32, ["Cortex-A7"], {"neon", "vfpv4"}),
}


async def test_a_probe_tells_what_the_device_is_and_that_the_inventory_expected_another(
    arm_device: LabDevice, job: Jobs
) -> None:
    outcome = await job(arm_device).run("probe", arch="x86_64")
    machine = arm_device.userland.machine
    bits, parts, features = FACTS[machine]
    facts = outcome.facts
    assert (facts["arch"], facts["machine"], facts["bits"], facts["cpu"]["parts"]) == (machine, machine, bits, parts)
    assert features <= set(facts["cpu"]["features"])
    assert facts["libc"]["kind"] == "glibc"
    assert [(f.code, f.observed) for f in outcome.findings] == [
        ("LF314", f"the inventory says x86_64, the device is {machine}")
    ]


async def test_the_right_file_is_pushed_and_checked_and_the_want_of_a_runtime_is_said(
    arm_device: LabDevice, job: Jobs
) -> None:
    work, machine = job(arm_device), arm_device.userland.machine
    blocked = await work.run()  # a rollout sends nothing to a device whose runtime cannot serve
    assert (blocked.verdict, blocked.findings[0].code) == (Verdict.UNSUPPORTED, "LF302"), blocked.to_dict()
    assert work.blobs() == {}
    first = await work.run("verify")
    assert (first.verdict, first.findings[0].code) == (Verdict.UNSUPPORTED, "LF302"), first.to_dict()
    python = ".".join(str(first.facts["python"]["version"]).split(".")[:2])
    assert first.sentence == (
        f"paddlelite is published for x86_64 only; this device has {machine} with CPython {python}: name Paddle-Lite's "
        f"C++ library with `litefleet runtime add FILE`, or a wheel or a folder built for {machine} under "
        f"`runtimes: {{{machine}: ...}}`."
    )
    blobs = work.blobs()
    assert first.artifact in blobs
    assert len(blobs) >= 3  # the model and its goldens: two, or more where two could not tell enough
    assert all(name == sha for name, sha in blobs.items())
    pushed = read_nb(arm_device.ssh(f"cat {work.root}/blobs/{first.artifact}").stdout)
    assert pushed.kernels_by_target() == {"arm": 99, "host": 5}
    manifest = json.loads("".join(work.there(f'cat "$root/releases/{first.release}.json"')))
    assert manifest["model"]["nb"] == first.artifact
    assert work.there('ls "$root/models" 2>/dev/null || true') == []  # nothing is switched on
    assert not first.activated

    second = await work.run("verify")
    assert (second.verdict, second.sentence, second.release) == (first.verdict, first.sentence, first.release)
    assert second.sent_bytes < 6_500 < first.sent_bytes


async def test_the_device_checks_the_file_itself(aarch64_device: LabDevice, job: Jobs) -> None:
    work = job(aarch64_device)
    artifact = (await work.run("verify")).artifact
    work.there(f'printf "damaged" | dd of="$root/blobs/{artifact}" bs=1 seek=4000 conv=notrunc 2>/dev/null')
    damaged = await work.run("verify")
    assert (damaged.verdict, damaged.findings[0].code) == (Verdict.FAILED, "LF110"), damaged.to_dict()
    assert (await work.run("verify")).findings[0].code == "LF302"
    assert work.blobs()[artifact] == artifact  # sent anew


async def test_an_x86_file_is_refused_before_a_byte_of_it_travels(
    arm_device: LabDevice, job: Jobs, nb_files: Callable[..., Path]
) -> None:
    work, machine = job(arm_device), arm_device.userland.machine
    outcome = await work.run(artifact=str(nb_files("cls", "x86")))
    assert (outcome.verdict, outcome.findings[0].code) == (Verdict.REFUSED, "LF101"), outcome.to_dict()
    assert outcome.sentence == f"83 of 97 kernels are for x86; this device is {machine}."
    assert work.blobs() == {}
    assert outcome.sent_bytes < len(agent_archive().data) + 10_000


@pytest.mark.parametrize("cut_in", ["agent", "model"])
async def test_a_connection_cut_in_the_middle_of_a_push(aarch64_device: LabDevice, job: Jobs, cut_in: str) -> None:
    work = job(aarch64_device)
    work.root += cut_in
    # The agent's file goes first, in a connection of its own; the logins and the talk around it are a few kilobytes.
    cut_after = 30_000 + (0 if cut_in == "agent" else len(agent_archive().data) + 70_000)
    async with CuttingProxy(aarch64_device.port, cut_after) as proxy:
        cut = await work.run("verify", port=proxy.port)
        assert proxy.passed == cut_after
    assert (cut.verdict, cut.findings[0].code) == (Verdict.UNREACHABLE, "LF505"), cut.to_dict()
    assert all(name == sha for name, sha in work.blobs().items() if not name.startswith("."))
    whole = await work.run("verify")
    assert (whole.verdict, whole.findings[0].code) == (Verdict.UNSUPPORTED, "LF302"), whole.to_dict()
    blobs = work.blobs()
    assert len(blobs) >= 3
    assert not any(name.startswith(".") for name in blobs)  # nothing unfinished beside them
    assert all(name == sha for name, sha in blobs.items())


async def test_a_named_runtime_for_x86_is_refused_here(arm_device: LabDevice, job: Jobs, lite_python: Path) -> None:
    """The folder holds the published x86_64 package, in place of the ARM build that it should hold."""
    work, machine = job(arm_device), arm_device.userland.machine
    package = next(lite_python.parent.parent.glob("lib/python*/site-packages/paddlelite"))
    shutil.copytree(package, work.folder / "built" / "paddlelite")
    work.runtimes = {machine: {"folder": "built"}}
    outcome = await work.run()
    assert (outcome.verdict, outcome.findings[0].code) == (Verdict.REFUSED, "LF308"), outcome.to_dict()
    assert f"paddlelite/lite.so is for x86_64; this device has {machine}" in outcome.sentence
    assert work.blobs() == {}


async def test_a_named_arm_runtime_is_pushed_unpacked_and_tried_on_the_device(arm_device: LabDevice, job: Jobs) -> None:
    """No built ARM Paddle-Lite is to be had here: an ARM extension module of numpy's stands in for its lite.so.

    It passes every static check, so the device's own Python goes as far as importing it, and says why it can't.
    """
    work, userland = job(arm_device), arm_device.userland
    package = work.folder / "built" / "paddlelite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    binary = next(build(userland).glob("usr/lib/python3/dist-packages/numpy/core/_multiarray_umath*.so"))
    shutil.copyfile(binary, package / "lite.so")
    work.runtimes = {userland.machine: {"folder": "built"}}
    outcome = await work.run()
    assert (outcome.verdict, outcome.findings[0].code) == (Verdict.REFUSED, "LF315"), outcome.to_dict()
    assert "PyInit_lite" in outcome.sentence
    runtimes = work.there('cd "$root/runtimes" && sha256sum */paddlelite/lite.so')
    assert len(runtimes) == 1
    assert runtimes[0].split()[0] == hashlib.sha256(binary.read_bytes()).hexdigest()
    again = await work.run()
    assert (again.verdict, again.sentence) == (outcome.verdict, outcome.sentence)
    assert again.sent_bytes < 6_500
