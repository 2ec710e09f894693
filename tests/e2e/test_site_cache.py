"""The site cache over real sshds: the first device of a site gets a file from the controller, the others from that one."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.agent_client import Request
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.site_cache import SiteCache
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_controller.devices.visit import DeviceSession, SessionFactory
from litefleet_controller.operations import plan_rollout
from litefleet_controller.project import Options
from litefleet_inventory.model import Device

from tests.e2e.conftest import Project

SIZE = 3 << 20  # bytes


@pytest.mark.usefixtures("no_bytecode")
async def test_a_rollout_sends_a_file_once_to_a_site(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    names = ["a", "b", "c", "d"]
    async with fleet(*names) as devices:
        job = project(devices)
        job.config(site_cache={"sites": ["hall"], "jump_hosts": ["gate"]})
        with pytest.raises(ConfigError) as wrong:
            await job.run()
        assert "site_cache.sites: the inventory has no group 'hall'; it has: none" in str(wrong.value)
        assert "site_cache.jump_hosts: no device of the inventory has `jump: gate`; they have: none" in str(wrong.value)
        inventory = yaml.safe_load((job.folder / "fleet.yaml").read_text())
        job.inventory(yaml.safe_dump({**inventory, "groups": {"hall": {"devices": names}}}))
        job.config(site_cache={"sites": ["hall"]})
        (hall,) = (await plan_rollout(Options(job.folder / "litefleet.yaml"), lambda total: QuietProgress())).sites
        assert (hall.kind, hall.name, hall.devices) == ("site", "hall", len(names))
        assert 400_000 < hall.bytes_to_send < hall.bytes_without / 2
        outcomes = (await job.run()).outcomes
        assert [o.verdict for o in outcomes] == [Verdict.VERIFIED] * len(names), [o.to_dict() for o in outcomes]
        assert all(o.activated for o in outcomes)
        sent = sorted(o.sent_bytes - len(agent_archive().data) for o in outcomes)
        assert sent[-1] > 400_000, sent
        assert sent[-2] < 100_000, sent  # what is small goes to each


async def test_a_neighbour_with_other_bytes_or_none_costs_only_the_transfer(
    fleet: Callable[..., EmbeddedFleet], tmp_path: Path
) -> None:
    async with fleet("a", "b", "c") as devices:
        known = [
            Device(n, d.host, d.port, d.user, str(d.key_path), root=str(d.root), host_keys=(d.host_public_key,))
            for n, d in devices.devices.items()
        ]
        factory = SessionFactory(SshTransport(HostKeys([], tmp_path / "pins", False), lambda d: []), agent_archive())
        files = []
        for _ in range(2):
            data = os.urandom(SIZE)
            files.append(tmp_path / hashlib.sha256(data).hexdigest())
            files[-1].write_bytes(data)
        cache, sent = SiteCache(lambda d: "hall"), {}

        def puts(*paths: Path) -> list[Request]:
            return [Request("put", {"sha256": path.name}, path) for path in paths]

        async def bring(device: Device, *paths: Path) -> None:
            async def work(session: DeviceSession) -> None:
                assert cache.serves(session)
                await cache.bring(session, puts(*paths), dict.fromkeys((p.name for p in paths), SIZE))
                assert session.agent is not None
                sent[device.name] = session.agent.sent_bytes

            done: list[object] = []
            session = DeviceSession(device, factory)
            await session.run(["m"], work, done)  # type: ignore[arg-type]
            assert (Path(device.root) / "blobs" / paths[0].name).read_bytes() == paths[0].read_bytes()

        try:
            await bring(known[0], *files)
            blob = Path(known[0].root) / "blobs" / files[0].name
            blob.write_bytes(b"\0" + blob.read_bytes()[1:])
            await bring(known[1], files[0])  # has another hash
            assert sent["b"] > SIZE
            await asyncio.gather(bring(known[2], files[0]), bring(known[1], files[1]))  # c from b, b from a
            assert max(sent["b"], sent["c"]) < SIZE // 2, sent
        finally:
            await cache.close()
