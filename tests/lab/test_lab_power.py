"""A whole machine loses its power while a release is staged, proven and switched on: it has the old one or the new one.

What is lost is real: the machine's page cache, its file system's open transaction, and what its disk was not yet told
to flush.  Paddle-Lite runs on the machine, in the runtime that the rollout brings.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from litefleet_agent.releases.store import release_id
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations import start_rollout
from litefleet_controller.operations.resume import resume
from litefleet_controller.operations.rollout import StillOpen
from litefleet_controller.project import Options

from tests.conftest import CACHE, lacking
from tests.e2e.cutting_proxy import CuttingProxy
from tests.lab.arm_devices import LabDevice
from tests.lab.vm import PYTHON, Machine, VmImage, build_image, machine, why_no_machine

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

Moment = Callable[[LabDevice, CuttingProxy], Awaitable[None]]
OLD = {"runs": 2, "numpy": "<2"}
NEW = {"runs": 3, "numpy": "<2"}  # another release of the same files
NEW_RUNTIME = {"runs": 3, "numpy": "<1.26"}  # another runtime as well: 70 MB to send and to unpack


@dataclass
class Site:
    """A project around the machine, which keeps its address and keys from boot to boot."""

    folder: Path
    source: Path
    machine: Machine

    async def run(self, release: dict[str, object], port: int = 0) -> RunReport:
        """Roll a release out, or go on with that; through a proxy's port where one is given."""
        device = self.machine.device()
        entry = {**device.inventory_entry(), "python": PYTHON, **({"port": port} if port else {})}
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump({"devices": {"machine": entry}}, width=1000))
        (self.folder / "litefleet.yaml").write_text(yaml.safe_dump(self._config(release), width=1000))
        options = Options(self.folder / "litefleet.yaml")
        try:
            # The tests share one machine, and each brings a state of its own.
            return await start_rollout(options, _quiet, WaitPolicy.NONE, take_over=True)
        except StillOpen:
            return await resume(options, _quiet, "", WaitPolicy.NONE)

    def _config(self, release: dict[str, object]) -> dict[str, object]:
        cls = {"source": str(self.source), "inputs": {"x": [1, 3, 48, 192]}, "golden": {"engine": "paddlelite"}}
        return {
            "inventory": "fleet.yaml",
            "store": ".litefleet",
            "models": {"cls": cls},
            "runtimes": {"x86_64": {"paddlelite": "2.13rc0", "numpy": release["numpy"]}},
            "rollout": {
                "retry": {"first": 1},  # a device that was lost is tried again as soon as it is back
                "gates": {"regression": {"latency": None, "memory": None}},  # how fast an emulator is tells nothing
            },
            "verify": {"runs": release["runs"], "warmup": 0, "time_limit_s": 300},
            "ssh": {"connect_time_limit_s": 60, "step_time_limit_s": 120, "known_hosts": "known_hosts"},
        }

    async def cut_at(self, release: dict[str, object], moment: Moment) -> RunReport:
        """Roll a release out and cut the power at a moment of it; return what the controller says of the device."""
        async with CuttingProxy(self.machine.device().port) as proxy:
            rollout = asyncio.create_task(self.run(release, proxy.port))
            reached = asyncio.create_task(_awaited(moment(self.machine.device(), proxy)))
            await asyncio.wait({rollout, reached}, return_when=asyncio.FIRST_COMPLETED)
            early = rollout.done() and not reached.done()
            self.machine.cut_power()
            reached.cancel()
            report = await rollout
            assert not early, f"the rollout ended before its moment: {report.to_dict()}"
            return report


def _quiet(total: int) -> QuietProgress:
    return QuietProgress()


async def _awaited(moment: Awaitable[None]) -> None:
    await moment


def sent(size: int) -> Moment:
    """When so many bytes went to the machine."""

    async def moment(device: LabDevice, proxy: CuttingProxy) -> None:
        while proxy.passed < size:
            await asyncio.sleep(0.01)

    return moment


def seen(condition: str, later_s: float = 0) -> Moment:
    """When a shell condition holds on the machine, in the agent's folder; or some moments later."""

    async def moment(device: LabDevice, proxy: CuttingProxy) -> None:
        command = f"cd {device.root} && until {condition}; do sleep 0.02; done"
        watch = await asyncio.create_subprocess_exec(*device.ssh_argv(command))
        try:
            assert await watch.wait() == 0
        finally:
            if watch.returncode is None:
                watch.kill()
                await watch.wait()
        await asyncio.sleep(later_s)

    return moment


@dataclass(frozen=True)
class State:
    """What an application finds on the machine."""

    current: str  # the release's id
    verified: bool
    runtimes: dict[str, str]  # by key: a digest of the visible one's files and their sizes


def look(device: LabDevice) -> State:
    """Return the machine's state; assert that the current release is whole."""

    def there(command: str) -> str:
        done = device.ssh(f"cd {device.root} && {command}")
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout.decode()

    text = there("cat models/cls/current")
    manifest = json.loads(text)
    current = release_id(manifest)
    assert there("readlink models/cls/current").strip() == f"../../releases/{current}.json"
    blobs = [manifest["model"]["nb"], *manifest["golden"]]
    hashed = dict(reversed(line.split()) for line in there(f"cd blobs && sha256sum {' '.join(blobs)}").splitlines())
    assert hashed == {sha: sha for sha in blobs}
    listed = """cd runtimes && for key in *; do
        if [ -d $key ]; then echo $key $(find $key -type f ! -name '*.pyc' -printf '%P %s\\n' | sort | sha256sum); fi
    done"""
    runtimes = {line.split()[0]: line.split()[1] for line in there(listed).splitlines()}
    assert manifest["runtime"] in runtimes
    proofs = there("ls verified").split()
    return State(current, f"{current}.json" in proofs, runtimes)


@pytest.fixture(scope="module")
def image(lite_python: Path) -> VmImage:
    """The image of a machine with a bare CPython that Paddle-Lite is published for."""
    if reason := why_no_machine():
        lacking(reason)
    os.environ["LITEFLEET_CACHE"] = str(CACHE / "litefleet")
    return build_image(lite_python)


@dataclass(frozen=True)
class Settled:
    """A machine that is off and has the old release."""

    machine: Machine
    release: str


@pytest.fixture(scope="module")
def settled(image: VmImage, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settled]:
    """Roll the old release out, and cut the power as soon as the controller knows that it is on."""
    with machine(image) as made:
        device = made.boot()
        report = asyncio.run(Site(tmp_path_factory.mktemp("settled"), models["cls"], made).run(OLD))
        assert rolled_out(report), report.to_dict()
        release = look(device).current
        made.cut_power()
        yield Settled(made, release)


@pytest.fixture
def site(settled: Settled, image: VmImage, models: dict[str, Path], tmp_path: Path) -> Iterator[Site]:
    """A running machine that has the old release; its first start follows a power cut."""
    with ExitStack() as stack:
        made = stack.enter_context(machine(image, like=settled.machine))
        assert look(made.boot()).current == settled.release  # what was told as done is not lost
        yield Site(tmp_path, models["cls"], made)


def rolled_out(report: RunReport) -> bool:
    """Say whether the controller holds the release for switched on and confirmed."""
    counts = report.rollout.get("counts", {})
    return counts.get("confirmed", 0) + counts.get("unchanged", 0) == 1 or any(o.activated for o in report.outcomes)


async def ends_on(site: Site, release: dict[str, object], old: str) -> State:
    """Roll out again: it ends verified on the new release, with nothing left half-made."""
    report = await site.run(release)
    assert rolled_out(report), report.to_dict()
    device = site.machine.device()
    state = look(device)
    assert state.current != old
    assert state.verified
    assert device.ssh(f"find {device.root} -name '.tmp-*'; ls -A {device.root}/work").stdout == b""
    return state


async def test_the_power_is_cut_while_a_release_is_staged_and_proven(site: Site, settled: Settled) -> None:
    """In turn: in the runtime's bytes, as it is unpacked, as the model runs.  The old release stays on and whole."""
    moments = {
        "sending": sent(30_000_000),
        "stored": seen('[ -n "$(find blobs -maxdepth 1 -size +50M ! -name ".*")" ]'),
        "unpacking": seen('[ -n "$(find runtimes -maxdepth 3 -path "*/.tmp-*/numpy")" ]', 1),
        "proving": seen('[ -n "$(ls work)" ]', 0.5),
    }
    before = []
    for name, moment in moments.items():
        cut = await site.cut_at(NEW_RUNTIME, moment)
        assert not rolled_out(cut), (name, cut.to_dict())
        state = look(site.machine.boot())
        assert (state.current, state.verified) == (settled.release, True), name
        before.append(state)
    after = await ends_on(site, NEW_RUNTIME, settled.release)
    for state in before:  # a runtime that could be seen was whole
        assert state.runtimes.items() <= after.runtimes.items()


PROVEN = '[ "$(ls verified | wc -l)" -gt 1 ]'
SWITCHED = '[ "$(readlink models/cls/current)" != "$(readlink models/cls/previous)" ] && [ -e models/cls/previous ]'


@pytest.mark.parametrize(
    "moment",
    [seen(PROVEN), seen(PROVEN, 0.1), seen(SWITCHED)],
    ids=["proven", "100ms-later", "switched"],
)
async def test_the_power_is_cut_while_a_release_is_switched_on(site: Site, settled: Settled, moment: Moment) -> None:
    cut = await site.cut_at(NEW, moment)
    state = look(site.machine.boot())
    assert state.verified
    if rolled_out(cut):  # the controller had the answer: it holds
        assert state.current != settled.release, cut.to_dict()
    after = await ends_on(site, NEW, settled.release)
    assert state.current in (settled.release, after.current)


async def test_a_release_that_was_reported_survives_the_power_cut_right_after(site: Site, settled: Settled) -> None:
    report = await site.run(NEW)
    site.machine.cut_power()
    assert rolled_out(report), report.to_dict()
    state = look(site.machine.boot())
    assert state.current != settled.release
    assert state.verified
