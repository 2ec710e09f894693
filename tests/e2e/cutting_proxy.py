"""A TCP proxy on loopback that cuts the line, or stops passing bytes, after so many bytes: towards the device, back, or both."""

from __future__ import annotations

import asyncio
from types import TracebackType


class CuttingProxy:
    """Passes bytes to `port`; after `cut_after` of them it closes both sides, or hangs when `hang` is set.

    It counts the bytes towards the device ("up"), those that come from it ("down"), or "both".
    """

    def __init__(self, port: int, cut_after: int | None = None, hang: bool = False, counts: str = "up") -> None:
        self._target = port
        self.cut_after = cut_after
        self._hang = hang
        self._counts = counts
        self.port = 0
        self.passed = 0

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            up, down = (self._counted if self._counts in (way, "both") else self._pass for way in ("up", "down"))
            await asyncio.gather(up(reader, up_writer), down(up_reader, writer))
        except OSError:
            pass
        finally:
            for end in (writer, up_writer):
                end.transport.abort()

    async def _counted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16384):
            if self.cut_after is not None and self.passed + len(data) > self.cut_after:
                writer.write(data[: self.cut_after - self.passed])
                await writer.drain()
                self.passed = self.cut_after
                if self._hang:
                    await asyncio.sleep(3600)
                raise ConnectionAbortedError
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16384):
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError
