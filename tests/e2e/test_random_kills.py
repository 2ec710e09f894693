"""The controller and agents killed at random moments of every operation: devices whole, the state true, and no person needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.kill_rounds import OPERATIONS, VICTIMS, KillRounds

pytestmark = pytest.mark.lab

SEED = int(os.environ.get("LITEFLEET_TEST_SEED", "20261128"))


async def _kill(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], kills: int, record_property: Any
) -> None:
    """Kill the controller and the agent `kills` times each."""
    async with fleet("a", "b") as devices:
        job = project(devices)
        job.policy(waves=[1, "100%"], retry={"first": "1s"})
        rounds = KillRounds(job, devices, SEED)
        await rounds.begin()
        for number in range(kills):
            for victim in VICTIMS:
                while not await rounds.one(OPERATIONS[number % len(OPERATIONS)], victim):
                    assert rounds.figures.missed <= 4 * kills + 10, rounds.figures.to_dict()
    print(f"seed {SEED}:", rounds.figures.to_dict())
    record_property("figures", rounds.figures.to_dict())
    assert sum(rounds.figures.kills.values()) == 2 * kills


@pytest.mark.timeout(600)
async def test_four_kills_each(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], record_property: Any
) -> None:
    await _kill(fleet, project, 4, record_property)


@pytest.mark.long
@pytest.mark.timeout(5400)
async def test_sixty_kills_each(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project], record_property: Any
) -> None:
    await _kill(fleet, project, 60, record_property)
