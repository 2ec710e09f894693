"""Child programs end in time, with their children, and what they said is kept within bounds."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from litefleet_controller.common.files import locked, write_atomically
from litefleet_controller.common.subprocesses import SubprocessEnd, run_subprocess


async def python(code: str, time_limit_s: float = 20) -> SubprocessEnd:
    return await run_subprocess([sys.executable, "-c", code], time_limit_s=time_limit_s)


async def test_exit_codes_and_signals_in_words() -> None:
    ended = await python("import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)")
    assert (ended.code, ended.ok, ended.ending) == (3, False, "exit code 3")
    assert sorted(ended.last_lines().split(" | ")) == ["a", "b"]
    assert (await python("import os; os.abort()")).ending == "killed by SIGABRT"
    assert (await run_subprocess(["/bin/sh", "-c", "exit 139"], time_limit_s=20)).ending == "killed by SIGSEGV"
    assert (await python("pass")).ok


async def test_only_the_end_of_endless_output_is_kept() -> None:
    ended = await python("print('x' * 1000000); print('last')")
    assert len(ended.output) == 65536
    assert ended.output.endswith("last\n")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


SPAWN = (
    "import subprocess, time; p = subprocess.Popen(['sleep', '60']); open({!r}, 'w').write(str(p.pid)); time.sleep(60)"
)


async def test_the_time_limit_ends_the_grandchild_too(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = await python(SPAWN.format(str(tmp_path / "pid")), 2)
    assert (ended.timed_out, ended.ending) == (True, "stopped at its time limit")
    assert time.monotonic() - began < 15
    await asyncio.sleep(0.1)
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_cancelling_the_caller_ends_the_program(tmp_path: Path) -> None:
    task = asyncio.create_task(python(SPAWN.format(str(tmp_path / "pid"))))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_a_lock_is_held_by_one_task_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with locked(tmp_path / "a" / "lock"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(5)))
    assert (inside, most) == (0, 1)


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "d" / "f", b"one")
    write_atomically(tmp_path / "d" / "f", b"two")
    assert (tmp_path / "d" / "f").read_bytes() == b"two"
    assert os.listdir(tmp_path / "d") == ["f"]
