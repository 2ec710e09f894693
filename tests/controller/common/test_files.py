"""Lock files and atomic writes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from litefleet_controller.common.files import locked, write_atomically


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
