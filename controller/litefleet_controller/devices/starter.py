"""Who starts agents on devices: this process over SSH connections of its own, or one that stands nearer to the devices.

A session's decisions are made by its caller in either case; an `AgentStarter` only holds the connection, and carries requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from litefleet_inventory.model import Device

from .agent_archive import AgentArchive
from .agent_client import AgentClient, Answer, Opening, Request
from .bootstrap import Choice
from .bring import Brought, bring_python
from .python_bundle import PythonBundle
from .transport.base import Channel, Transport


@dataclass(frozen=True)
class Launch:
    """How the agent is started on a device."""

    python: str = ""  # path of the interpreter there; "" = by `choice`
    keep: bool = True  # without it, the device holds no new file afterwards
    choice: Choice = Choice.OWN
    temporary: str = ""  # a folder on the device that goes with the session
    limit_s: float = 120.0  # for each answer until the agent runs


class Agent(Protocol):
    """A connection to one device, and the agent on it once `start` has returned."""

    @property
    def host_key(self) -> str:
        """The fingerprint of the key that the device proved to hold; "" where the transport has none."""

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to the device so far."""

    @property
    def round_trips(self) -> int:
        """Round trips so far, after the SSH handshake."""

    async def start(self) -> dict[str, object]:
        """Start the agent and return its answer to "hello".

        Raises: NoPython, TransportError (time limit, broken connection), ProtocolError.
        """

    async def ask(self, requests: Sequence[Request], limit_s: float) -> list[Answer]:
        """Send all requests without waiting and return their answers; `limit_s` (seconds) applies to each.

        Raises: RequestRejected at the first error answer; TransportError, ProtocolError.
        """


class AgentStarter(Protocol):
    """Connects to devices and starts agents there; one object serves a whole fleet."""

    def open(self, device: Device, launch: Launch) -> AbstractAsyncContextManager[Agent]:
        """Connect, and yield the agent that is to be started; TransportError when the device cannot be reached."""

    async def bring(self, device: Device, bundle: PythonBundle, keep: bool, limit_s: float) -> Brought:
        """Place a Python on a device as `bring_python` does.  Raises: TransportError."""


class _LocalAgent:
    def __init__(self, channel: Channel, opening: Opening, archive: AgentArchive, limit_s: float) -> None:
        self.host_key = channel.host_key
        self._client = AgentClient(channel)
        self._opening, self._archive, self._limit_s = opening, archive, limit_s

    @property
    def sent_bytes(self) -> int:
        return self._client.sent_bytes

    @property
    def round_trips(self) -> int:
        return self._client.round_trips

    async def start(self) -> dict[str, object]:
        return await self._client.start(self._opening, self._archive, self._limit_s)

    async def ask(self, requests: Sequence[Request], limit_s: float) -> list[Answer]:
        return await self._client.ask(requests, limit_s)

    async def stop(self) -> None:
        await self._client.stop()


@dataclass(frozen=True)
class LocalStarter:
    """Starts agents over this process's own connections."""

    transport: Transport
    archive: AgentArchive

    @asynccontextmanager
    async def open(self, device: Device, launch: Launch) -> AsyncIterator[Agent]:
        """Connect and yield the agent; the connection is closed afterwards."""
        command, opening = AgentClient.opening(
            self.archive, device.root, launch.python, launch.keep, launch.choice, launch.temporary
        )
        async with self.transport.open(device, command) as channel:
            agent = _LocalAgent(channel, opening, self.archive, launch.limit_s)
            try:
                yield agent
            finally:
                await agent.stop()

    async def bring(self, device: Device, bundle: PythonBundle, keep: bool, limit_s: float) -> Brought:
        """Place a Python on the device over a connection of its own."""
        return await bring_python(
            lambda command: self.transport.open(device, command), bundle, device.root, keep, limit_s
        )
