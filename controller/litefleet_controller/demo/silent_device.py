"""A device that accepts connections and never says a word: a hung sshd, or a wrong port."""

from __future__ import annotations

import asyncio
import contextlib

from .base import HOST

__all__ = ["Silent", "start_silent"]


class Silent:
    """A running silent listener, inside this process."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def pid(self) -> int | None:
        """None: it has no process of its own."""
        return None

    async def listen(self, port: int) -> None:
        """Begin to accept on `port`."""
        self._server = await asyncio.start_server(self._serve, HOST, port)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                while await reader.read(4096):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def start_silent(port: int) -> Silent:
    """Start a silent listener on `port`; OSError when the port is taken."""
    silent = Silent()
    await silent.listen(port)
    return silent
