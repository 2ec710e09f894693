"""Channels to simulated devices: delays, outages and broken connections, all in virtual time.

A device works as its answers are awaited: a request is carried out when its time has come and somebody still reads.  A
controller that dies before that never had its request arrive; one that dies after it never learns of it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from litefleet_agent.findings import finding
from litefleet_agent.protocol import encode
from litefleet_controller.devices.transport.base import Channel, TransportError
from litefleet_inventory.model import Device

from tests.sim.sim_device import SimDevice
from tests.sim.sim_profile import Style
from tests.sim.sim_wire import Boot, Peer, Request, nonce_of

__all__ = ["Contact", "SimChannel", "SimTransport"]


@dataclass(frozen=True)
class Contact:
    """One connection that was tried; times are of the clock's `elapsed`."""

    device: str
    at: float
    reached: bool
    open_now: int  # channels, this one included
    behind_jump: int  # of those behind the same jump host; 0 = it is behind none


class SimChannel:
    """One exec channel to one device."""

    def __init__(self, device: SimDevice, command: str) -> None:
        self._device = device
        self._clock = device.clock
        self._profile = device.profile
        self._python = bool(device.profile.kind.facts.python.tag)
        self._peer = Peer(command, device.agents)
        self._cut = device.profile.cut(device.contacts)
        self._taken = self._given = 0  # bytes
        self._inbox: deque[tuple[float, Boot | Request]] = deque()
        self._outbox: deque[tuple[float, bytes]] = deque()
        self._free_at = self._clock.elapsed + self._profile.link_s + self._profile.start_s
        self._version = ""
        self._over = False
        self._broken: Style | None = None
        self._news = asyncio.Event()
        outage = device.next_outage(self._clock.elapsed)
        self._outage_at, self._outage_style = (outage.start, outage.style) if outage else (math.inf, "reset")
        if not self._python:
            self._say(_nopython(device, nonce_of(command)), self._free_at)
            self._over = True

    host_key = ""
    held_s = 0.0

    async def write(self, data: bytes) -> None:
        """Take bytes; TransportError when the connection is broken."""
        if self._clock.elapsed >= self._outage_at:
            self._break(self._outage_style)
        if self._broken is None:
            self._take(data)
        if self._broken in ("reset", "closed"):
            raise TransportError(finding("LF505", "the connection broke while sending: simulated"))

    async def read(self, limit: int) -> bytes:
        """Return the next bytes, none at the end; TransportError when the connection is broken."""
        while True:
            if self._broken is not None:
                return await self._end(self._broken)
            if self._outbox:
                if await self._until(self._outbox[0][0]) and (data := self._give(limit)):
                    return data
            elif self._inbox:
                await self._work()
            elif self._over:
                return b""
            else:
                await self._wait()

    @property
    def name(self) -> str:
        """The device's."""
        return self._device.name

    def break_after(self, seconds: float) -> None:
        """Let the connection break some time from now, as an outage that begins then would."""
        self._outage_at, self._outage_style = self._clock.elapsed + seconds, "reset"

    def stderr_tail(self) -> str:
        """Return nothing."""
        return ""

    async def exit_code(self) -> int | None:
        """Return nothing: a simulated command ends with its connection."""
        return None

    def close(self) -> None:
        """The controller closes the channel, or died."""
        self._device.leave(self, broken=self._broken is not None)

    def _take(self, data: bytes) -> None:
        cut = self._cut_at("in", self._taken, len(data))
        self._taken += len(data)
        arrives = self._clock.elapsed + self._profile.link_s
        if self._python:
            self._inbox.extend((arrives, output) for output in self._peer.feed(data[:cut]))
        self._news.set()
        if cut is not None and self._cut is not None:
            self._break(self._cut.style)

    def _give(self, limit: int) -> bytes:
        at, data = self._outbox.popleft()
        if len(data) > limit:
            self._outbox.appendleft((at, data[limit:]))
            data = data[:limit]
        cut = self._cut_at("out", self._given, len(data))
        self._given += len(data)
        if cut is not None and self._cut is not None:
            self._break(self._cut.style)
            data = data[:cut]
        return data

    def _cut_at(self, side: str, done: int, size: int) -> int | None:
        """Return how many of the next `size` bytes still pass, or None when all do."""
        if self._cut is None or self._cut.side != side or not done <= self._cut.byte < done + size:
            return None
        return self._cut.byte - done

    async def _work(self) -> None:
        """Carry out the oldest request once its time has come."""
        arrived, output = self._inbox[0]
        cost = self._device.cost(output) if isinstance(output, Request) else 0.0
        done = max(arrived, self._free_at) + cost
        if not await self._until(done):
            return
        self._inbox.popleft()
        self._free_at = done
        back = self._clock.elapsed + self._profile.link_s
        if isinstance(output, Boot):
            self._start(output, back)
        else:
            header = self._device.answer(output, self, self._version)
            self._say(encode({**header, "re": output.header.get("id")}), back)

    def _start(self, said: Boot, back: float) -> None:
        self._say(f"LFBOOT {self._peer.nonce} {said.text}\n".encode(), back)
        self._over = said.text.startswith("fail")
        if said.agent:
            self._device.agents.add(said.agent)

    def _say(self, data: bytes, at: float) -> None:
        self._outbox.append((at, data))

    async def _until(self, when: float) -> bool:
        """Let time pass; False when the connection breaks before."""
        delay = min(when, self._outage_at) - self._clock.elapsed
        if delay > 0:
            await asyncio.sleep(delay)
        if self._outage_at <= when:
            self._break(self._outage_style)
        return self._broken is None

    async def _wait(self) -> None:
        """Wait for the controller's next bytes."""
        self._news.clear()
        try:
            async with asyncio.timeout_at(None if self._outage_at == math.inf else self._outage_at):
                await self._news.wait()
        except TimeoutError:
            self._break(self._outage_style)

    def _break(self, style: Style) -> None:
        if self._broken is None:
            self._broken = style
            self._inbox.clear()
            self._outbox.clear()
            self._news.set()

    async def _end(self, style: Style) -> bytes:
        if style == "hang":
            await asyncio.Event().wait()
        if style == "reset":
            raise TransportError(finding("LF505", "the connection broke: simulated"))
        return b""


class SimTransport:
    """Opens channels to a simulated fleet, and remembers who was reached when."""

    def __init__(self, devices: Mapping[str, SimDevice]) -> None:
        self.devices = devices
        self.contacts: list[Contact] = []
        self._open: dict[SimChannel | object, str] = {}  # -> jump host

    @property
    def open_now(self) -> int:
        """The connections that are open or being made."""
        return len(self._open)

    @property
    def most_open(self) -> int:
        """The most connections that were open or being made at one time."""
        return max((c.open_now for c in self.contacts), default=0)

    @property
    def most_behind_jump(self) -> int:
        """The same behind one jump host."""
        return max((c.behind_jump for c in self.contacts), default=0)

    @asynccontextmanager
    async def open(self, device: Device, command: str) -> AsyncIterator[Channel]:
        """Connect; TransportError when the device can't be reached now."""
        sim = self.devices[device.name]
        place = object()
        self._open[place] = device.jump
        try:
            await self._connect(sim, device.jump)
            sim.contacts += 1
            channel = SimChannel(sim, command)
            self._open[channel] = self._open.pop(place)
            try:
                yield channel
            finally:
                channel.close()
                self._open.pop(channel, None)
        finally:
            self._open.pop(place, None)

    async def _connect(self, sim: SimDevice, jump: str) -> None:
        there = sim.outage(sim.clock.elapsed) is None
        behind = Counter(self._open.values())[jump] if jump else 0
        self.contacts.append(Contact(sim.name, sim.clock.elapsed, there, len(self._open), behind))
        await asyncio.sleep(sim.profile.connect_s if there else sim.profile.connect_limit_s)
        if not there or sim.outage(sim.clock.elapsed) is not None:
            raise TransportError(finding("LF501", f"{sim.name} does not answer: simulated"))

    def cut(self, device: str, after_s: float) -> None:
        """Break what is open to a device, some seconds from now."""
        for channel in self._open:
            if isinstance(channel, SimChannel) and channel.name == device:
                channel.break_after(after_s)

    def hang_up(self) -> None:
        """Close what a killed controller had open, as its kernel would."""
        for channel in self._open:
            if isinstance(channel, SimChannel):
                channel.close()
        self._open.clear()


def _nopython(device: SimDevice, nonce: str) -> bytes:
    facts = device.profile.kind.facts
    words = f"machine={facts.machine} bits={facts.bits} libc={facts.libc.kind} os={facts.os_release.id} kernel=6.1"
    return f"LFBOOT {nonce} nopython {words}\n".encode()
