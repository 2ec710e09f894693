"""Bounded fan-out.  Devices are independent: one failure affects one outcome, and Ctrl-C records an outcome for every device."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from litefleet_agent.findings import Verdict, finding
from litefleet_inventory.model import Device

from .outcome import DeviceOutcome, unexpected

_AT_ONCE = 1000  # items of `in_order`: many more than releases that are built for the kinds of a fleet
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Slots:
    """Limits devices at work at once: in all, and behind one jump host, whose sshd rejects more."""

    def __init__(self, most: int, per_jump: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._behind: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_jump))

    @asynccontextmanager
    async def slot(self, device: Device) -> AsyncIterator[None]:
        """Wait for a device's turn; waiting for one jump host does not block other devices."""
        if not device.jump:
            async with self._all:
                yield
            return
        async with self._behind[device.jump], self._all:
            yield


async def run_bounded(
    devices: Sequence[Device],
    work: Callable[[Device], Awaitable[list[DeviceOutcome]]],
    concurrency: int,
    done: Callable[[DeviceOutcome], None],
    per_jump: int = 8,
) -> tuple[tuple[DeviceOutcome, ...], bool]:
    """Run `work` on all devices, at most `concurrency` at once and `per_jump` behind one jump host.

    Return (outcomes in the devices' order, interrupted).

    When the task is cancelled (Ctrl-C), devices that were not done end as `failed` with LF509.
    """
    slots = Slots(concurrency, per_jump)
    settled: dict[str, list[DeviceOutcome]] = {}
    behind: defaultdict[str, list[Device]] = defaultdict(list)
    for device in devices:
        behind[device.jump].append(device)

    async def each(waiting: Iterator[Device]) -> None:
        for device in waiting:
            async with slots.slot(device):
                outcomes = await _run_one(device, work)
            settled[device.name] = outcomes
            for outcome in outcomes:
                done(outcome)

    # As many tasks as devices can be at work: a task takes more memory than all that is kept of a device.
    tasks = []
    for jump, group in behind.items():
        waiting = iter(group)
        most = min(len(group), concurrency, per_jump if jump else concurrency)
        tasks += [asyncio.create_task(each(waiting)) for _ in range(most)]
    interrupted = False
    try:
        await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        interrupted = True
        await asyncio.gather(*tasks, return_exceptions=True)
    outcomes = [o for device in devices for o in settled.get(device.name) or [interrupted_outcome(device.name)]]
    return tuple(outcomes), interrupted


async def in_order(
    items: Sequence[_Item], work: Callable[[_Item], Awaitable[_Result]], most: int = _AT_ONCE
) -> list[_Result]:
    """Return the results of `work` in the order of its items, of which at most `most` are at work at once.

    The first error is raised, as `asyncio.gather` does.
    """
    results: dict[int, _Result] = {}
    waiting = iter(enumerate(items))

    async def each() -> None:
        for place, item in waiting:
            results[place] = await work(item)

    await asyncio.gather(*(each() for _ in range(min(most, len(items)))))
    return [results[place] for place in range(len(items))]


async def _run_one(device: Device, work: Callable[[Device], Awaitable[list[DeviceOutcome]]]) -> list[DeviceOutcome]:
    try:
        return await work(device)
    except Exception as error:  # a bug in one session must not stop the other devices
        return [unexpected(device.name, "", error)]


def interrupted_outcome(device: str, model: str = "", release: str = "") -> DeviceOutcome:
    """Return the outcome of a device that was not done when Ctrl-C came."""
    found = finding("LF509", f"{device} was not done when the run was interrupted")
    return DeviceOutcome(device, model, Verdict.FAILED, (found,), release=release)
