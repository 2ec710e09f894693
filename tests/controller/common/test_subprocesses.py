"""Subprocesses end in time with their descendants, and their output is bounded and decoded."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from litefleet_controller.common.errors import LitefleetError
from litefleet_controller.common.subprocesses import run_subprocess


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


async def test_both_streams_and_the_exit_code_come_back() -> None:
    end = await run_subprocess(["sh", "-c", "echo out; echo err >&2; exit 3"], time_limit_s=10)
    assert (end.code, end.output, end.timed_out, end.signal_name) == (3, "out\nerr\n", False, "")
    assert (end.ok, end.ending, end.last_lines()) == (False, "exit code 3", "out | err")
    assert (await run_subprocess(["true"], time_limit_s=10)).ok


@pytest.mark.parametrize("argv", [["sh", "-c", "kill -SEGV $$"], ["sh", "-c", "exit 139"]])
async def test_a_signal_has_its_name_directly_and_through_a_wrapper(argv: list[str]) -> None:
    end = await run_subprocess(argv, time_limit_s=10)
    assert (end.signal_name, end.ending) == ("SIGSEGV", "killed by SIGSEGV")


async def test_a_flood_is_read_and_only_its_end_is_kept() -> None:
    end = await run_subprocess([sys.executable, "-c", "print('x' * 5_000_000); print('last')"], time_limit_s=30)
    assert end.code == 0
    assert len(end.output) == 64 * 1024
    assert end.output.endswith("last\n")


async def test_the_time_limit_ends_grandchildren_too() -> None:
    end = await run_subprocess(["sh", "-c", "sleep 300 & echo $!; wait"], time_limit_s=0.3)
    assert (end.timed_out, end.ending) == (True, "stopped at its time limit")
    assert gone(int(end.output))


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = f"sleep 300 & echo $$ $! > {note}.new; mv {note}.new {note}; wait"
    task = asyncio.create_task(run_subprocess(["sh", "-c", script], time_limit_s=60))
    while not note.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(gone(int(pid)) for pid in note.read_text().split())


async def test_a_child_that_left_its_group_can_not_hold_the_caller() -> None:
    started = time.monotonic()
    end = await run_subprocess(["sh", "-c", "setsid sleep 20 & exit 0"], time_limit_s=0.5)
    assert end.timed_out
    assert time.monotonic() - started < 10


async def test_what_can_not_be_started_is_a_sentence() -> None:
    with pytest.raises(LitefleetError, match="/nowhere/tool cannot be started: No such file"):
        await run_subprocess(["/nowhere/tool"], time_limit_s=1)


async def test_nothing_of_ours_is_inherited() -> None:
    end = await run_subprocess(["/bin/sh", "-c", "env; cat"], time_limit_s=10, env={"ONLY": "this"}, cwd=Path("/"))
    assert "ONLY=this" in end.output
    assert "HOME=" not in end.output
    assert os.environ.get("ONLY") is None
