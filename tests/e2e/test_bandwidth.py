"""Limits of the bandwidth over a real sshd, with a jump host: what is sent keeps to the rate, small answers do not wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.transport.bandwidth import Bandwidth, BandwidthLimits
from litefleet_controller.devices.transport.base import Channel
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_inventory.model import Device, Inventory

from tests.e2e.conftest import Project

RATE = 400_000  # bytes a second
SIZE = 600_000


async def _push(channel: Channel) -> None:
    await channel.write(bytes(SIZE))
    await channel.end_input()
    assert (await channel.read(100)).strip() == str(SIZE).encode()


async def test_two_devices_behind_a_jump_host_share_its_limit(
    fleet: Callable[..., EmbeddedFleet], tmp_path: Path
) -> None:
    async with fleet("gate", "a", "b") as devices:
        known = {
            name: Device(name, one.host, one.port, one.user, str(one.key_path), host_keys=(one.host_public_key,))
            for name, one in devices.devices.items()
        }
        gate = known["gate"]
        behind = [
            Device(d.name, d.host, d.port, d.user, d.key, jump="gate", host_keys=d.host_keys)
            for d in (known["a"], known["b"])
        ]
        transport = SshTransport(
            HostKeys([], tmp_path / "pins", False),
            Inventory((gate, *behind)).jump_chain,
            bandwidth=Bandwidth(BandwidthLimits(per_jump_host=RATE)),
        )
        async with (
            transport.open(behind[0], "wc -c") as a,
            transport.open(behind[1], "wc -c") as b,
            transport.open(behind[0], "cat") as small,
        ):
            began = time.monotonic()
            pushes = asyncio.gather(_push(a), _push(b))
            turns = 0
            while not pushes.done() and turns < 20:
                await asyncio.sleep(0.02)
                await small.write(b"x" * 100)
                assert await small.read(1000) == b"x" * 100
                turns += 1
            assert (turns, small.held_s) == (20, 0.0)
            await pushes
            seconds = time.monotonic() - began
        assert 2 * SIZE / seconds < 1.15 * RATE, seconds
        assert a.held_s > 1
        assert b.held_s > 1


async def test_a_rollout_keeps_to_the_limit_and_its_time_limits_do_not_count_that(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        job.config(bandwidth={"fleet": "4M", "per_site": {"hall": "8M"}})
        with pytest.raises(ConfigError, match=r"bandwidth.per_site: the inventory has no group 'hall'"):
            await job.run()
        inventory = yaml.safe_load((job.folder / "fleet.yaml").read_text())
        job.inventory(yaml.safe_dump({**inventory, "groups": {"hall": {"devices": ["a"]}}}))
        job.config(bandwidth={"fleet": "4M", "per_site": {"hall": "2M"}})
        outcome = (await job.run()).outcomes[0]
        assert outcome.verdict is Verdict.VERIFIED, outcome.to_dict()
        pushed = outcome.sent_bytes - len(agent_archive().data)  # the agent went with the look
        assert pushed / outcome.steps["push and prove"] < 1.3 * 250_000, outcome.to_dict()
