"""One reader of the state for each followed rollout, however many browsers follow it.

A subscriber has room for one update: a browser that reads slowly skips what came between, and gets the newest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from ..common.errors import LitefleetError

EVERY_S = 1.0  # between two looks at the state
HEARTBEAT_S = 15.0  # proxies close a connection on which nothing is sent for 60 s
STREAM_S = 600.0  # then a stream ends; the browser connects again, and is asked again who it is
MOST = 300  # subscribers of the server
_LOG = logging.getLogger("litefleet.serve")


@dataclass(frozen=True)
class Update:
    """What a subscriber gets.  `number` grows; `data` is what `read` returned, "" when only `problem` is said.

    A heartbeat has neither.
    """

    number: int
    data: str = ""
    problem: str = ""


@dataclass
class _Followed:
    """One thing that is followed: its latest update, and an event for each subscriber."""

    stamp: Callable[[], object]
    read: Callable[[], str]
    waiting: set[asyncio.Event] = field(default_factory=set)
    latest: Update | None = None
    seen: object = None
    task: asyncio.Task[None] | None = None


class Live:
    """The followed rollouts of one server; used in one event loop."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._followed: dict[str, _Followed] = {}
        self._closed = False
        self._count = 0
        self._reads = 0

    @property
    def subscribers(self) -> int:
        """The number of streams that are open."""
        return self._count

    @property
    def reads(self) -> int:
        """How often `read` was called, for all of them."""
        return self._reads

    def follow(
        self, key: str, stamp: Callable[[], object], read: Callable[[], str], after: int = 0
    ) -> AsyncGenerator[Update, None]:
        """Return the newest update at once, then each change; a heartbeat when nothing changes for 15 s.  Ends after 10 min.

        `stamp` is cheap and is called each second: `read` is called when its value has changed.  Both run in a thread, once
        for all subscribers of a `key`.  `after` is the number of the update that the browser had before it reconnected.
        Raises: HTTPException 503 when 300 streams are open.
        """
        if self._count >= MOST or self._closed:
            raise HTTPException(503, "Too many pages follow a rollout already. Close one, or try again later.")
        return self._updates(key, stamp, read, after)

    async def _updates(
        self, key: str, stamp: Callable[[], object], read: Callable[[], str], after: int
    ) -> AsyncGenerator[Update, None]:
        followed = self._followed.setdefault(key, _Followed(stamp, read))
        news, ends = asyncio.Event(), time.monotonic() + STREAM_S
        followed.waiting.add(news)
        self._count += 1
        if followed.task is None:
            followed.task = asyncio.create_task(self._poll(followed))
        elif followed.latest is not None:
            news.set()
        try:
            while not self._closed and time.monotonic() < ends:
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), HEARTBEAT_S)
                changed = news.is_set() and followed.latest is not None and followed.latest.number != after
                news.clear()
                if changed and followed.latest is not None:
                    after = followed.latest.number
                    yield followed.latest
                elif not self._closed:
                    yield Update(after)
        finally:
            self._count -= 1
            followed.waiting.discard(news)
            if not followed.waiting and self._followed.get(key) is followed:
                del self._followed[key]
                followed.task.cancel()

    async def _poll(self, followed: _Followed) -> None:
        """Look at the state each second, and read it when it has changed."""
        while True:
            try:
                stamp = await run_in_threadpool(followed.stamp)
                if stamp != followed.seen or followed.latest is None or followed.latest.problem:
                    self._reads += 1
                    data = await run_in_threadpool(followed.read)
                    followed.seen = stamp
                    self._publish(followed, data, "")
            except LitefleetError as error:
                self._publish(followed, "", str(error))
            except Exception:
                _LOG.exception("cannot follow a rollout")
                self._publish(followed, "", "An internal error: see the server's log.")
            await asyncio.sleep(self._every_s)

    def _publish(self, followed: _Followed, data: str, problem: str) -> None:
        last = followed.latest
        if last is not None and (last.data, last.problem) == (data, problem):
            return
        # A number that grows across restarts too: a browser may name one that an earlier server gave.
        number = max((last.number if last else 0) + 1, int(time.time() * 1000))
        followed.latest = Update(number, data, problem)
        for news in followed.waiting:
            news.set()

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        for followed in self._followed.values():
            for news in followed.waiting:
                news.set()


def as_event(update: Update, name: str = "update") -> bytes:
    """Return an update as a server-sent event: its data as `name`, a problem as "problem", a heartbeat as a comment."""
    if not update.data and not update.problem:
        return b": nothing has changed\n\n"
    # A line ends at \n, \r or \r\n for a browser, and at nothing else.
    lines = (update.data or update.problem).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    data = "".join(f"data: {line}\n" for line in lines)
    return f"id: {update.number}\nevent: {name if update.data else 'problem'}\n{data}\n".encode()


def event_response(events: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """Return the response that sends server-sent events, unbuffered by proxies; who loses it connects again after 3 s."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"retry: 3000\n\n"
        async with aclosing(events):
            async for event in events:
                yield event

    return StreamingResponse(
        chunks(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    )


def event_stream(updates: AsyncGenerator[Update, None], name: str = "update") -> StreamingResponse:
    """Return the response that sends updates as server-sent events."""

    async def events() -> AsyncGenerator[bytes, None]:
        async with aclosing(updates):
            async for update in updates:
                yield as_event(update, name)

    return event_response(events())


def number_after(last_event_id: str) -> int:
    """Return the number in a Last-Event-ID header; 0 for anything else."""
    return int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 19 else 0
