"""`litefleet demo` for real: every verdict, a page to mail, nothing left to do the second time, nothing left running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.demo.demo import EXPECTED, run_demo

from tests.e2e.conftest import Project


def running(folder: Path) -> list[str]:
    """The command lines of all processes that name `folder` (a device's sshd, its session, its agent)."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # no process, or one that has just ended
            continue
        if str(folder) in words and entry.name != str(os.getpid()):
            found.append(words)
    return found


async def none_left(folder: Path) -> list[str]:
    """What still runs for `folder`, after a moment for the killed ones to be reaped."""
    for _ in range(50):
        if not running(folder):
            return []
        await asyncio.sleep(0.1)
    return running(folder)


def kept(folder: Path) -> list[dict[str, dict[str, object]]]:
    """The project's kept reports, the oldest first, as device -> outcome."""
    files = sorted((folder / ".litefleet" / "reports").glob("*-rollout.json"))
    return [{o["device"]: o for o in json.loads(file.read_text())["devices"]} for file in files]


async def test_the_demo_ends_as_it_says_and_a_second_time_has_nothing_to_do(tmp_path: Path) -> None:
    folder, output = tmp_path / "demo", []
    assert await run_demo(folder, as_json=True, keep_running=False, say=output.append) == 0, output
    (first,) = kept(folder)
    assert {name: o["verdict"] for name, o in first.items()} == {name: want for name, (want, _) in EXPECTED.items()}
    for name, outcome in first.items():
        assert outcome["sentence"] or outcome["verdict"] == "verified", name
    codes = {name: outcome["findings"][0]["code"] for name, outcome in first.items() if outcome["findings"]}
    assert "cam-numpy2" not in codes
    raw = next(line for line in output if line.startswith("without litefleet"))
    assert "nan" in raw
    assert raw.endswith("exit code 0")
    assert codes["cam-arm-file"] == codes["cam-arm-x86-file"] == "LF101"
    page = (folder / "report.html").read_text()
    for name, (verdict, _) in EXPECTED.items():
        assert name in page
        assert verdict in page
    assert 'http-equiv="refresh"' not in page
    assert not any(mark in page for mark in ('src="http', 'href="http', "url(http"))  # one file to mail
    assert any(f"demo {folder} --keep-running" in line for line in output)
    assert await none_left(folder) == []

    assert await run_demo(folder, as_json=True, keep_running=False, say=output.append) == 0, output
    second = kept(folder)[-1]
    for name in ("cam-01", "cam-02"):
        assert (second[name]["verdict"], second[name]["unchanged"], second[name]["round_trips"]) == (
            "verified",
            True,
            1,
        )
        assert second[name]["release"] == first[name]["release"]
    assert await none_left(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_in_the_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "demo"
    call = "from litefleet_controller.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", call, "demo", str(folder), stdout=pipe, stderr=pipe, env=env
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        output = b""
        while b"rolling out" not in output:
            line = await process.stderr.readline()
            assert line, output  # it ended before it began
            output += line
    await asyncio.sleep(1)  # in the middle of it
    devices = [words for words in running(folder / "devices") if "sshd" in words]
    assert len(devices) >= len(EXPECTED) - 1  # all but the silent one
    process.send_signal(number)
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    assert process.returncode == 4, err
    assert b"Traceback" not in err
    assert await none_left(folder) == []


async def test_a_device_without_openssh_gets_the_same_job_from_the_server_within(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a", kind="asyncssh") as devices:
        job = project(devices)
        assert yaml.safe_load((job.folder / "fleet.yaml").read_text())["devices"]["a"]["host"] == "127.0.0.1"
        first = (await job.run()).outcomes[0]
        second = (await job.run()).outcomes[0]
    assert (first.verdict, first.activated) == (Verdict.VERIFIED, True), first.to_dict()
    assert (second.verdict, second.unchanged, second.round_trips) == (Verdict.VERIFIED, True, 1)
