"""Sessions that stay open from the look to the delivery, over a real sshd: one login, and none of it for another machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
from litefleet_controller.demo import EmbeddedFleet
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.kept_sessions import KeptSessions
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.devices.transport.ssh import SshTransport
from litefleet_controller.devices.visit import DeviceSession, SessionFactory, open_session
from litefleet_inventory.model import Device


async def test_one_login_serves_look_and_delivery_and_another_host_key_in_between_ends_it(
    fleet: Callable[..., EmbeddedFleet], tmp_path: Path
) -> None:
    async with fleet("a") as devices:
        a = devices.devices["a"]
        device = Device("a", a.host, a.port, a.user, str(a.key_path), root=str(a.root), host_keys=(a.host_public_key,))
        kept = KeptSessions(4, 4)
        transport = SshTransport(HostKeys([], tmp_path / "pins", False), lambda device: [])
        factory = replace(SessionFactory(transport, agent_archive()), kept=kept)
        used: list[object] = []

        async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
            used.append(session.agent)
            done.append(session.outcome("m", ()))

        async def visit(keep: bool) -> DeviceOutcome:
            return (await open_session(factory, device, ["m"], work, keep))[0]

        try:
            assert not (await visit(keep=True)).findings
            assert not (await visit(keep=False)).findings
            assert used[0] is used[1], "the delivery logged in again"

            await visit(keep=True)
            await devices.kill("a")
            key = asyncssh.generate_private_key("ssh-ed25519")
            a.place.host_key.write_bytes(key.export_private_key())
            a.place.host_key.with_suffix(".pub").write_bytes(key.export_public_key())
            await devices.restart("a")
            changed = await visit(keep=False)
            assert [found.code for found in changed.findings] == ["LF503"], changed.to_dict()
            assert len(used) == 3, "something was asked of the other machine"
        finally:
            await kept.close()
