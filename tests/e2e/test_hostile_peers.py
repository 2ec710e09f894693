"""Peers that misbehave after a proper login, next to a good device: each costs itself alone, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.fakes.hostile_server import BEHAVIOURS, HostilePeer, hostile
from tests.fakes.lying_agent import LIES

Fleets = Callable[..., EmbeddedFleet]
Projects = Callable[..., Project]

STEP = 3  # seconds that a device has for its answer
LIED = (Verdict.FAILED, "LF507")
CUT = (Verdict.UNREACHABLE, "LF505")
LATE = (Verdict.UNREACHABLE, "LF506")
EXPECTED = {
    "garbage": LIED,
    "chatter": LIED,
    "endless-frames": LIED,
    "wrong-answers": LIED,
    "hang": LATE,
    "hang-after-boot": LATE,
    "drop": CUT,
    "huge-header": LIED,
    "huge-body": LIED,
    "not-json": LIED,
    "deep-json": LIED,
    "exit": (Verdict.FAILED, "LF510"),
    "deaf": LIED,
    "big-events": LIED,
    "many-events": LIED,
}


@asynccontextmanager
async def peers(folder: Path, *behaviours: str) -> AsyncIterator[dict[str, HostilePeer]]:
    """Run one hostile server per behaviour."""
    async with AsyncExitStack() as stack:
        yield {b: await stack.enter_async_context(hostile(b, folder / b)) for b in behaviours}


def beside(devices: EmbeddedFleet, bad: dict[str, HostilePeer]) -> str:
    """The inventory with the good devices and the hostile ones."""
    entries = {name: device.inventory_entry() for name, device in devices.devices.items()}
    entries |= {name: peer.inventory_entry() for name, peer in bad.items()}
    return yaml.safe_dump({"devices": entries}, width=1000)


async def controller(job: Project, *words: str) -> asyncio.subprocess.Process:
    """Start the command line as a process of its own: the hostile servers' memory is not in it."""
    call = "from litefleet_controller.cli import main; main()"
    argv = [sys.executable, "-c", call, *words, "--json", "-c", str(job.folder / "litefleet.yaml")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe, env=env)


async def peak_memory(pid: int) -> int:
    """Return a process's highest resident set in bytes, once it has ended."""
    peak = 0
    while True:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return peak
        found = [line for line in lines if line.startswith("VmHWM:")]
        if not found:  # it has ended
            return peak
        peak = max(peak, int(found[0].split()[1]) * 1024)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
async def test_a_hostile_peer_ends_in_time_and_with_its_reason(
    fleet: Fleets, project: Projects, tmp_path: Path, behaviour: str
) -> None:
    async with fleet("good") as devices, peers(tmp_path / "peers", behaviour) as bad:
        job = project(devices, step=STEP)
        job.inventory(beside(devices, bad))
        began = time.monotonic()
        report = await job.run("probe")
        assert time.monotonic() - began < STEP + 3
        assert bad[behaviour].sent < 64 << 20  # what a bounded reader let through
    outcomes = {o.device: o for o in report.outcomes}
    ended = outcomes[behaviour]
    assert outcomes["good"].verdict is Verdict.VERIFIED
    assert (ended.verdict, ended.findings[0].code) == EXPECTED[behaviour], ended.sentence
    assert len(ended.sentence.split()) > 4


async def test_all_of_them_at_once_do_not_keep_the_good_one_from_its_release(
    fleet: Fleets, project: Projects, tmp_path: Path
) -> None:
    async with fleet("good") as devices, peers(tmp_path / "peers", *BEHAVIOURS) as bad:
        job = project(devices, step=8)
        job.inventory(beside(devices, bad))
        report = await job.run()
    ended = {o.device: (o.verdict, o.findings[0].code if o.findings else "") for o in report.outcomes}
    assert ended == {"good": (Verdict.VERIFIED, ""), **EXPECTED}


async def test_the_controllers_memory_stays_small(fleet: Fleets, project: Projects, tmp_path: Path) -> None:
    async with fleet("good") as devices, peers(tmp_path / "peers", *BEHAVIOURS) as bad:
        job = project(devices, step=STEP)
        process = await controller(job, "probe", "--limit", "good")
        alone, _ = await asyncio.gather(peak_memory(process.pid), process.communicate())
        job.inventory(beside(devices, bad))
        process = await controller(job, "probe")
        with_them, (out, err) = await asyncio.gather(peak_memory(process.pid), process.communicate())
    assert process.returncode == 1, err
    assert len(json.loads(out)["devices"]) == 1 + len(BEHAVIOURS)
    assert alone > 20 << 20  # it was really measured
    assert with_them - alone < 100 << 20, f"{alone >> 20} MiB alone, {with_them >> 20} MiB beside them"


async def test_ctrl_c_while_they_hang_ends_at_once(fleet: Fleets, project: Projects, tmp_path: Path) -> None:
    async with fleet("good") as devices, peers(tmp_path / "peers", "hang", "deaf", "hang-after-boot") as bad:
        job = project(devices, step=600)
        job.inventory(beside(devices, bad))
        process = await controller(job, "probe")
        async with asyncio.timeout(30):
            while not all(peer.commands for peer in bad.values()):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # the good one has answered by now
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = await process.communicate()
        assert time.monotonic() - began < 5
    assert process.returncode == 4, err
    ended = {o["device"]: o["verdict"] for o in json.loads(out)["devices"]}
    assert ended == {"good": "verified", "hang": "failed", "deaf": "failed", "hang-after-boot": "failed"}


EACH_DEVICE = ("rollout", "infer x.npy", "bench")
COMMANDS = (*EACH_DEVICE, "reconcile", "status")


@pytest.mark.timeout(400)  # five programs of their own
async def test_lies_of_one_device_are_its_own_outcome_in_every_command(
    fleet: Fleets, project: Projects, tmp_path: Path
) -> None:
    """Numbers, types and names that no agent sends: there is one document, every device is in it, the good one is served."""
    async with fleet("good") as devices, peers(tmp_path / "peers", *LIES) as bad:
        job = project(devices, step=20)
        job.inventory(beside(devices, bad))
        np.save(job.folder / "x.npy", np.zeros((1, 3, 48, 192), np.float32))
        for words in COMMANDS:
            process = await controller(job, *words.replace("x.npy", str(job.folder / "x.npy")).split())
            out, err = await process.communicate()
            assert b"Traceback" not in err, (words, err.decode())
            document = json.loads(out)
            assert process.returncode in (0, 1, 3), (words, document, err)
            assert "error" not in document, (words, document)
            if words in EACH_DEVICE:
                ended = {o["device"]: o for o in document["devices"]}
                assert ended.keys() == {"good", *LIES}, words
                assert ended["good"].get("verdict", "verified") == "verified", (words, ended["good"])
                bugs = {name: o["detail"] for name, o in ended.items() if "Traceback" in str(o.get("detail"))}
                assert not bugs, (words, bugs)
