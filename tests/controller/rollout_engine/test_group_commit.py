"""Commits of many devices in one transaction: who waits for what, and whose error it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from litefleet_controller.rollout import DeviceEvent, DeviceRow, DeviceState
from litefleet_controller.rollout_engine.group_commit import GroupCommit
from litefleet_controller.state import FleetLockLost
from litefleet_controller.state.model import Conflict, RowChange


def change(device: str) -> RowChange:
    row = DeviceRow(device, "cls", 0, 0)
    return RowChange(row, DeviceEvent.BEGIN, replace(row, state=DeviceState.STAGING))


class Disk:
    """Stores the names of changed devices; a transaction takes a few turns of the loop."""

    def __init__(self, refused: str = "", lost: str = "") -> None:
        self.transactions: list[list[str]] = []
        self._refused, self._lost = refused, lost

    async def write(self, changes: Sequence[RowChange]) -> None:
        await asyncio.sleep(0.001)
        names = [c.after.device for c in changes]
        if self._lost in names:
            raise FleetLockLost("another controller took over")
        if self._refused in names:
            raise Conflict(f"{self._refused} is in another state")
        self.transactions.append(names)

    @property
    def stored(self) -> set[str]:
        return {name for names in self.transactions for name in names}


def test_what_comes_while_one_is_written_goes_into_the_next_and_nobody_goes_on_before_its_own_is_stored() -> None:
    async def scenario() -> None:
        disk = Disk()
        commits = GroupCommit(disk.write)

        async def device(name: str) -> None:
            for _ in range(3):
                await commits.store([change(name)])
                assert name in disk.transactions[-1]

        await asyncio.gather(*(device(f"d{n}") for n in range(50)))
        assert sum(map(len, disk.transactions)) == 150
        assert len(disk.transactions) <= 6

    asyncio.run(scenario())


def test_only_the_caller_of_a_refused_change_gets_the_error() -> None:
    async def scenario() -> None:
        disk = Disk(refused="d3")
        commits = GroupCommit(disk.write)
        ends = await asyncio.gather(*(commits.store([change(f"d{n}")]) for n in range(6)), return_exceptions=True)
        assert [type(end) for end in ends] == [type(None)] * 3 + [Conflict] + [type(None)] * 2
        assert disk.stored == {"d0", "d1", "d2", "d4", "d5"}
        await commits.store([change("d6")])
        assert "d6" in disk.stored

    asyncio.run(scenario())


def test_without_the_lock_nobody_s_changes_are_stored() -> None:
    async def scenario() -> None:
        disk = Disk(lost="d1")
        commits = GroupCommit(disk.write)
        ends = await asyncio.gather(*(commits.store([change(f"d{n}")]) for n in range(3)), return_exceptions=True)
        assert {type(end) for end in ends} == {FleetLockLost}
        assert disk.stored == set()

    asyncio.run(scenario())


def test_a_cancelled_caller_s_changes_are_stored_all_the_same() -> None:
    async def scenario() -> None:
        disk = Disk()
        commits = GroupCommit(disk.write)
        caller = asyncio.create_task(commits.store([change("d0")]))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await commits.flush()
        assert disk.stored == {"d0"}

    asyncio.run(scenario())
