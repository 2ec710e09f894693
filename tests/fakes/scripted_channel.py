"""A channel whose peer follows a script: it gives out bytes once enough was written to it, and keeps what it got."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from litefleet_agent.findings import finding
from litefleet_controller.devices.transport.base import TransportError

__all__ = ["Say", "ScriptedChannel"]


@dataclass(frozen=True)
class Say:
    """Bytes that come once `after` bytes in all were written."""

    data: bytes
    after: int = 0


class ScriptedChannel:
    """Gives out `script` in order, at most `piece` bytes a read; then closes, or hangs where `hangs` is set.

    Writes fail once `breaks_after` bytes were taken, and never end where `deaf` is set.
    """

    def __init__(
        self,
        script: Sequence[Say],
        *,
        piece: int = 1 << 20,
        stderr: str = "",
        hangs: bool = False,
        deaf: bool = False,
        breaks_after: int | None = None,
        exit_code: int | None = None,
    ) -> None:
        self._script = list(script)
        self._piece = piece
        self._stderr = stderr
        self._hangs = hangs
        self._deaf = deaf
        self._breaks_after = breaks_after
        self._exit_code = exit_code
        self._written = asyncio.Condition()
        self.got = bytearray()

    host_key = ""
    held_s = 0.0

    async def write(self, data: bytes) -> None:
        """Take bytes."""
        await asyncio.sleep(0)  # as a real one may: the reader runs between two pieces
        if self._deaf:
            await asyncio.Event().wait()
        if self._breaks_after is not None and len(self.got) + len(data) > self._breaks_after:
            raise TransportError(finding("LF505", "the connection broke while sending: scripted"))
        async with self._written:
            self.got += data
            self._written.notify_all()

    async def end_input(self) -> None:
        """Take the end of the input."""

    async def read(self, limit: int) -> bytes:
        """Give the script's next bytes, none at its end."""
        if not self._script:
            if self._hangs:
                await asyncio.Event().wait()
            return b""
        say = self._script[0]
        async with self._written:
            await self._written.wait_for(lambda: len(self.got) >= say.after)
        size = min(limit, self._piece)
        self._script[0] = Say(say.data[size:])
        if not self._script[0].data:
            del self._script[0]
        return say.data[:size]

    async def exit_code(self) -> int | None:
        """Return how the peer ended."""
        return self._exit_code

    def stderr_tail(self) -> str:
        """Return what the peer wrote to stderr."""
        return self._stderr
