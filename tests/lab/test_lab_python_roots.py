"""Devices whose root has busybox, dropbear and no Python, from the first contact on: provisioned, rolled out to, rolled back.

On x86_64 the published Paddle-Lite runs.  On aarch64 the stand-in library does (tests/agent/verification/native/standin), which
is ours, says so, and computes no model: it answers with the first items of its input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_agent.formats.nb import read_nb
from litefleet_controller.operations import Target, roll_back

from tests.agent.verification.native.driving import compile_standin
from tests.conftest import lacking, raw_nb, source_models
from tests.e2e.conftest import CONFIG, DIMS, Project
from tests.e2e.rollout_helpers import litefleet, new_release, options, quiet, rollout, within
from tests.lab.arm_devices import why_not
from tests.lab.bare_root import BareDevice, bare_device
from tests.lab.rootfs import AARCH64, build, file_of, unpack_packages

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("bare_devices")]
USER = "litefleet"
INIT = '#!/bin/sh\nfor script in /etc/init.d/S??*; do [ ! -x "$script" ] || "$script" start; done\n'
BINFMT = """mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || [ -e /proc/sys/fs/binfmt_misc/register ]
[ -e /proc/sys/fs/binfmt_misc/{rule} ] || cat /usr/lib/binfmt.d/{rule}.conf >/proc/sys/fs/binfmt_misc/register"""


@dataclass(frozen=True)
class Kind:
    """What a root file system has besides busybox and dropbear; `own_libc` is what litefleet is to say of it."""

    name: str
    own_libc: str
    machine: str = "x86_64"
    init: bool = True


BARE, MUSL, OLD = Kind("bare", "none"), Kind("musl", "musl"), Kind("glibc-2.31", "glibc")
ARM = Kind("bare-aarch64", "none", "aarch64")


@contextmanager
def running(kind: Kind, folder: Path) -> Iterator[BareDevice]:
    """Run a device of this kind."""
    root = folder / "root"
    for name in ("etc/init.d", "run", "usr/local", "lib", "lib64") if kind.init else ("usr/local", "run"):
        (root / name).mkdir(parents=True)
    if kind.init:
        (root / "etc/init.d/rcS").write_text(INIT)
    busybox, boot, source = None, "", Path("/")
    if kind is MUSL:
        file_of("musl", "amd64", "libc.so", folder / "musl").rename(root / "lib/ld-musl-x86_64.so.1")
    if kind is OLD:
        unpack_packages(["libc6", "dash"], "amd64", "bullseye", root, folder / "old")
    if kind is ARM:
        if reason := why_not():
            lacking(reason)
        busybox = file_of("busybox-static", AARCH64.debian, "bin/busybox", folder / "fetched")
        boot, source = BINFMT.format(rule=AARCH64.binfmt), build(AARCH64)
    with bare_device(folder, busybox=busybox, boot=boot, dropbear=source) as device:
        if kind is OLD:  # the login shell, too, is a program of that libc
            (root / "bin/sh").unlink()
            (root / "bin/sh").symlink_to("dash")
        for name, line in (  # Debian's busybox has no adduser
            ("passwd", f"{USER}:x:500:500::/var/lib/{USER}:/bin/sh\n"),
            ("group", f"{USER}:x:500:\n"),
            ("shadow", f"{USER}:*:19000:0:99999:7:::\n"),
        ):
            with (root / "etc" / name).open("a") as stream:
                stream.write(line)
        yield device


def job_for(kind: Kind, folder: Path) -> Project:
    """Return a project of the cls model, with what runs it on a device of this kind."""
    folder.mkdir()
    text = CONFIG.format(model="cls", source=source_models()["cls"], dims=DIMS["cls"], connect=30, step=240)
    (folder / "litefleet.yaml").write_text(text)
    job = Project(folder)
    job.config(runtimes=None)
    if kind is ARM:
        _with_standin(job)
    return job


def _with_standin(job: Project) -> None:
    """Write lines for the stand-in into the values of a parameter of the model, and goldens that it answers with."""
    nb = raw_nb("cls", "arm").read_bytes()
    model = read_nb(nb)
    (output,) = (tensor.name for tensor in model.outputs)
    lines = f"\nversion v2.13\ninput x\noutput {output} head 0\n".encode()
    half = len(nb) // 2
    marked = nb[:half] + lines + nb[half + len(lines) :]
    assert read_nb(marked).complete
    (job.folder / "cls.nb").write_bytes(marked)
    for number in (1, 2):
        x = np.random.default_rng(number).random((1, 3, 48, 192), dtype=np.float32)
        x[0, 0, 0, :2] = (0.2 * number, 1 - 0.2 * number)
        np.savez(job.folder / f"case{number}.npz", **{"x": x, output: x[0, 0, 0, :2].reshape(1, 2)})
    compile_standin(job.folder / "libpaddle_light_api_shared.so", "-DSTANDIN_ARM", compiler=f"{AARCH64.triplet}-g++")
    job.config(
        models={"cls": {"nb": {"aarch64": "cls.nb"}, "golden": {"files": ["case1.npz", "case2.npz"]}}},
        runtimes={"aarch64": {"archive": "libpaddle_light_api_shared.so"}},
    )


def inventory(job: Project, device: BareDevice, user: str, **more: object) -> None:
    job.inventory(yaml.safe_dump({"devices": {"bare": device.inventory_entry(user=user, **more)}}))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kind",
    [BARE, *(pytest.param(kind, marks=pytest.mark.long) for kind in (MUSL, OLD, ARM))],
    ids=lambda kind: kind.name,
)
async def test_a_root_without_python_is_provisioned_rolled_out_to_and_rolled_back(kind: Kind, tmp_path: Path) -> None:
    job = job_for(kind, tmp_path / "project")
    with running(kind, tmp_path) as device:
        inventory(job, device, "root")
        probed = (await job.run("probe")).outcomes[0]
        assert probed.verdict is Verdict.VERIFIED, probed.findings
        facts = probed.facts
        assert (facts["arch"], facts["brought"]["own_libc"]) == (kind.machine, kind.own_libc)
        assert facts["libc"]["kind"] == "glibc"
        assert 4_000_000 < probed.sent_bytes < 10_000_000

        done = await litefleet(job, "provision")
        assert done.returncode == 0, done.stdout + done.stderr
        key = device.sh("cat /usr/local/lib/litefleet/python/current").strip()
        assert f"/usr/local/lib/litefleet/python/{key}/bin/python3" in device.sh("ps")

        inventory(job, device, USER)
        releases = []
        for runs in (2, 3):
            new_release(job, runs)
            outcome = (await rollout(job)).outcomes[0]
            assert (outcome.verdict, outcome.activated) == (Verdict.VERIFIED, True), outcome.to_dict()
            assert outcome.facts["python"]["executable"].endswith(f"/python/{key}/bin/python3")
            assert outcome.measurements["engine"] == "native"
            releases.append(outcome.release)
        await serves(device, releases[1])
        went = (await roll_back(options(job), quiet, Target("previous"))).outcomes[0]
        assert (went.release, went.activated) == (releases[0], True), went.to_dict()
        await serves(device, releases[0])
        assert went.sent_bytes < 10_000


async def serves(device: BareDevice, release: str) -> None:
    """Wait until the device's service answers with this release."""

    def served() -> bool:
        said = device.sh(
            "/usr/local/bin/litefleet-agent status --json 2>/dev/null || /usr/local/bin/litefleet-agent status"
        )
        try:
            model = json.loads(said)["models"]["cls"]
        except ValueError:
            return False
        return (model["release"], model["state"]) == (release, "serving")

    await within(60, served)
