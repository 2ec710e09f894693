"""The client side of one agent session: bootstrap, frames out, answers in.  All input is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from litefleet_agent.findings import Finding, finding, finding_of_error
from litefleet_agent.formats.checked import number_or, shortened
from litefleet_agent.protocol import FrameDecoder, Header, ProtocolError, encode

from ..common.checked import from_outside
from . import bootstrap
from .agent_archive import AgentArchive
from .login_output import LoginOutput, lacks_module
from .transport.base import Channel, TransportError

_CHUNK = 128 * 1024  # as much as the transport sends at once: a larger piece is copied into smaller ones
_READ = 4 << 20  # bytes read at once: all that has come, so that a fast device never gets ahead of its reader
_DEAD_LINE = 50_000  # bytes a second: a slower link counts as dead
_HEARTBEAT = encode({"event": "alive"})
# An agent ticks once a second in 20 bytes; a peer that sends more before one answer floods.
_MAX_EVENTS, _MAX_EVENT, _MAX_EVENT_BYTES = 100_000, 4096, 4 << 20
_ASKED = {
    "need": "the device asks for the agent again after it was sent",
    "code": "the device asks for bytecode that was not offered, or asks again after it was sent",
}


@dataclass(frozen=True)
class Request:
    """One request: its operation and fields, its body (a file's bytes, or these), and how large a body its answer may have.

    The first `start` bytes of the body are not sent.
    """

    op: str
    fields: Mapping[str, object] = field(default_factory=dict)
    body: Path | bytes | None = None
    answer_limit: int = 0  # bytes
    start: int = 0

    @cached_property
    def size(self) -> int:
        """Bytes of the body that are sent; those of a file as it was when they were first asked for."""
        return (self.body.stat().st_size if isinstance(self.body, Path) else len(self.body or b"")) - self.start


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    result: dict[str, object]
    body: bytes = b""


class RequestRejected(Exception):
    """The agent answered a request with an error."""

    def __init__(self, request: Request, code: str, message: str) -> None:
        super().__init__(message)
        self.request = request
        self.found = finding_of_error(code, message)

    @classmethod
    def of(cls, request: Request, found: Finding) -> RequestRejected:
        """Return the error of a request whose finding is known."""
        made = cls(request, "", found.observed)
        made.found = found
        return made


class NoPython(Exception):
    """The device has no usable Python; `facts` is what sh reported, `why` why none could be brought."""

    def __init__(self, facts: Mapping[str, str], why: str = "") -> None:
        super().__init__("no Python")
        self.facts = facts
        self.why = why


class _Begun(NamedTuple):
    """What still sends the body of a rejected request, and the size of the largest one in bytes."""

    sender: asyncio.Task[None]
    size: int


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class AgentClient:
    """Sends requests to the agent over one channel: `start`, then `ask`."""

    def __init__(self, channel: Channel, nonce: str = "") -> None:
        self._channel = channel
        self._buffer = bytearray()  # what came before the first frame
        self._decoder = FrameDecoder()
        self._sending = asyncio.Lock()  # one frame at a time
        self._login = LoginOutput(nonce)
        self._heartbeat: asyncio.Task[None] | None = None
        self._sent_at = 0.0  # by the event loop's clock: when something was sent last
        self._begun: _Begun | None = None
        self._next_id = 1
        self._limits: set[asyncio.Timeout] = set()  # that run now
        self.sent_bytes = 0
        self.round_trips = 0

    @staticmethod
    def opening(
        archive: AgentArchive,
        root: str,
        python: str,
        keep: bool = True,
        choice: bootstrap.Choice = bootstrap.Choice.OWN,
        temporary: str = "",
    ) -> tuple[str, Opening]:
        """Return the exec command, and what to send first for it.

        Without `keep` the device holds no new file afterwards; the folder `temporary` on the device goes with the session.
        """
        nonce = secrets.token_hex(8)
        first = encode({"id": 1, "op": "hello"})
        loader = bootstrap.loader(nonce, archive.sha256, len(archive.data), len(first), root, keep, temporary)
        return bootstrap.command(nonce, len(loader), python, choice, root), Opening(nonce, loader, first)

    async def start(self, opening: Opening, archive: AgentArchive, limit_s: float) -> dict[str, object]:
        """Start the agent and return its answer to "hello".

        Raises NoPython, TransportError (time limit, broken connection) and ProtocolError.
        """
        self._login = LoginOutput(opening.nonce)
        async with self._limit(limit_s, "answer to the bootstrap", self._late):
            self._next_id = 2
            answer = await self._open(opening)
            if answer.state == "need":
                answer = await self._send_agent(archive, answer.text)
            if answer.state in ("need", "code"):
                raise ProtocolError(_ASKED[answer.state])
            if answer.state == "nopython":
                raise NoPython(answer.facts)
            if answer.state == "nomodule":
                module, python, words = [*answer.text.split(" ", 2), "", ""][:3]
                raise TransportError(lacks_module(module, python, words))
            if answer.state in ("fail", "limit"):
                raise TransportError(finding("LF514" if answer.state == "limit" else "LF313", answer.text))
            self.round_trips += 1
            hello = (await self._result(Request("hello"), 1)).result
        interval_s = number_or(0, hello.get("heartbeat_s"), 1, 60)  # older agents request none
        if interval_s:
            self._heartbeat = asyncio.create_task(self._send_heartbeats(interval_s))
        return hello

    async def _send_agent(self, archive: AgentArchive, interpreter: str) -> bootstrap.Answer:
        """Send the agent to a device that has the interpreter, and bytecode where it asks for what was offered."""
        pack = archive.packs.of(interpreter) if archive.packs is not None else b""
        keeper = bootstrap.keeper(len(pack))
        first = _CHUNK - len(keeper)
        await self._send(keeper + archive.data[:first])
        await self._send_bytes(archive.data, first)  # in pieces: a copy of it for each device at work takes 0.4 MB
        self.round_trips += 1
        answer = await self._answer()
        if answer.state == "code" and pack:
            await self._send(pack)
            self.round_trips += 1
            answer = await self._answer()
        return answer

    def _late(self) -> str:
        return self._login.late(bytes(self._buffer[: bootstrap.LINE_LIMIT]), self._channel.stderr_tail())

    async def _send_heartbeats(self, interval_s: float) -> None:
        """Send a sign of life when nothing was sent for `interval_s` seconds; without one, the agent ends the session."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TransportError):  # the caller that waits for an answer reports it
            while True:  # the first one at once: from then on the agent requires them
                if not self._sending.locked():  # a frame that is being sent is a sign of life
                    async with self._sending:
                        await self._channel.write(_HEARTBEAT)
                    self._sent_at = loop.time()
                left_s = interval_s
                while left_s > 0:
                    await asyncio.sleep(left_s)
                    left_s = self._sent_at + interval_s - loop.time()

    async def stop(self) -> None:
        """Stop the heartbeat and what is being sent; the channel's owner closes the channel."""
        if self._heartbeat is not None:
            await _cancelled(self._heartbeat)
        if self._begun is not None:
            await _cancelled(self._begun.sender)

    async def _open(self, opening: Opening) -> bootstrap.Answer:
        """Send the opening; a device that cannot use it may have said why and closed before all was sent."""
        try:
            await self._send(opening.loader + opening.first)
        except TransportError as error:
            try:
                return await self._answer()
            except TransportError as told:
                raise (error if told.found.code == "LF505" else told) from None
        return await self._answer()

    async def answer(self, limit_s: float) -> bootstrap.Answer:
        """Return the next answer of a script that uses the client's nonce.  Raises: TransportError, ProtocolError."""
        async with self._limit(limit_s, "answer to the bootstrap"):
            return await self._answer()

    async def send_to_end(self, data: bytes, limit_s: float) -> None:
        """Send a script all of its standard input, and end that.

        A peer that closes before is no error here: its answer says why.  Raises: TransportError at the time limit.
        """
        self.round_trips += 1
        async with self._limit(limit_s + len(data) / _DEAD_LINE, "end of what is being sent"):
            try:
                await self._send_bytes(data)
                await self._channel.end_input()
            except TransportError:
                return

    async def ask(self, requests: Sequence[Request], limit_s: float) -> list[Answer]:
        """Send all requests without waiting and return their answers, in order; `limit_s` (seconds) applies to each.

        Raises RequestRejected at the first error answer; the requests that have not begun by then are not sent.
        """
        await self._end_begun(limit_s)
        first = self._next_id
        self._next_id += len(requests)
        self.round_trips += 1
        stopped = asyncio.Event()
        sender = asyncio.create_task(self._send_all(requests, first, stopped))
        try:
            answers = []
            for number, request in enumerate(requests, start=first):
                budget = limit_s + (request.size + request.answer_limit) / _DEAD_LINE
                async with self._limit(budget, f"answer to {request.op}"):
                    answers.append(await self._result(request, number, sender))
            async with self._limit(limit_s, "end of what is being sent"):  # a peer may answer without ever reading
                await sender
            return answers
        except RequestRejected:
            stopped.set()
            self._begun = _Begun(sender, max(request.size for request in requests))
            raise
        finally:
            if not stopped.is_set():
                await _cancelled(sender)

    async def _end_begun(self, limit_s: float) -> None:
        """Send the rest of a body whose request was rejected: the agent would read the next request as that rest."""
        begun, self._begun = self._begun, None
        if begun is not None:
            async with self._limit(limit_s + begun.size / _DEAD_LINE, "end of what is being sent"):
                await begun.sender

    async def _send_all(self, requests: Sequence[Request], first: int, stopped: asyncio.Event) -> None:
        """Send requests; frames without a body go out with what follows them, since each packet costs both ends CPU."""
        ahead = b""
        for number, request in enumerate(requests, start=first):
            if stopped.is_set():
                return
            ahead += encode({**request.fields, "id": number, "op": request.op}, request.size)
            if request.size or len(ahead) >= _CHUNK // 2 or request is requests[-1]:
                async with self._sending:
                    await self._send_body(ahead, request)
                ahead = b""

    async def _send_body(self, ahead: bytes, request: Request) -> None:
        """Send the frames `ahead`, the last of which is the request's, and its body."""
        if not request.size:
            await self._send_bytes(ahead)
            return
        left = request.size
        with request.body.open("rb") if isinstance(request.body, Path) else BytesIO(request.body or b"") as file:
            file.seek(request.start)
            while left:
                chunk = file.read(min(max(_CHUNK - len(ahead), 1), left))
                if not chunk:
                    raise TransportError(finding("LF110", f"{request.body!s} became shorter while it was sent"))
                left -= len(chunk)
                await self._send(ahead + chunk)
                ahead = b""

    async def _send_bytes(self, data: bytes, start: int = 0) -> None:
        for at in range(start, len(data), _CHUNK):
            await self._send(data[at : at + _CHUNK])

    async def _send(self, data: bytes) -> None:
        held_s = self._channel.held_s
        await self._channel.write(data)
        self._sent_at = asyncio.get_running_loop().time()
        self.sent_bytes += len(data)
        if (more_s := self._channel.held_s - held_s) > 0:
            for limit in self._limits:
                limit.reschedule((limit.when() or 0.0) + more_s)

    @contextlib.asynccontextmanager
    async def _limit(self, seconds: float, waiting_for: str, known: Callable[[], str] = str) -> AsyncIterator[None]:
        """As asyncio.timeout, with LF506 instead of TimeoutError; `known` returns the end of its sentence.

        The seconds for which limits of the bandwidth hold back what is sent do not count.
        """
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                self._limits.add(limit)
                yield
        except TimeoutError:
            observed = f"no {waiting_for} within {seconds:.0f} s{known()}"
            raise TransportError(finding("LF506", observed)) from None
        finally:
            self._limits.discard(limit)

    async def _result(self, request: Request, number: int, sender: asyncio.Task[None] | None = None) -> Answer:
        event_bytes = 0
        for _ in range(_MAX_EVENTS):
            header, body = await self._frame(request.answer_limit, sender)
            if "event" in header:
                event_bytes += _size_of_event(self._decoder.header_size)
                if event_bytes > _MAX_EVENT_BYTES:
                    raise ProtocolError(f"more than {_MAX_EVENT_BYTES >> 20} MiB of events arrived before an answer")
                continue
            if header.get("re") != number:
                raise ProtocolError(
                    f"expected the answer to request {number}, got one to {str(header.get('re'))[:20]!r}"
                )
            header = _checked(header)
            error = header.get("error")
            if isinstance(error, dict):
                raise RequestRejected(request, str(error.get("code")), shortened(str(error.get("message")), 2000))
            result = header.get("result")
            if not isinstance(result, dict):
                raise ProtocolError("an answer has neither a result nor an error")
            return Answer(result, body)
        raise ProtocolError(f"more than {_MAX_EVENTS} events arrived before an answer")

    async def _frame(self, most: int, sender: asyncio.Task[None] | None) -> tuple[Header, bytes]:
        """Return the next frame's header and body, which has at most `most` bytes."""
        if self._buffer:  # came after the bootstrap's line
            self._decoder.feed(bytes(self._buffer))
            self._buffer.clear()
        while (header := self._decoder.next_header()) is None:
            self._decoder.feed(await self._more(sender))
        if self._decoder.missing > (0 if "event" in header else most):
            allowed = f"where at most {most} were asked for" if most else "that was not requested"
            raise ProtocolError(f"the device announces a body of {self._decoder.missing} bytes {allowed}")
        while (body := self._decoder.body()) is None:
            self._decoder.feed(await self._more(sender))
        return header, body

    async def _answer(self) -> bootstrap.Answer:
        """Return the bootstrap's next answer; what the login prints before it is passed over."""
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                self._buffer += await self._words()
                continue
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if (answer := self._login.take(line)) is not None:
                return answer

    async def _words(self) -> bytes:
        """Return what the login says next; TransportError when it ends, or says something and then nothing."""
        partial = bytes(self._buffer)
        try:
            async with asyncio.timeout(self._login.wait_s(partial)):
                data = await self._channel.read(_READ)
        except TimeoutError:
            raise TransportError(self._login.silent(partial, self._channel.stderr_tail())) from None
        if not data:
            if partial:
                self._login.take(partial)
            code = await self._channel.exit_code()
            raise TransportError(self._login.ended(code, self._channel.stderr_tail()))
        return data

    async def _more(self, sender: asyncio.Task[None] | None) -> bytes:
        data = await self._read_or_fail(sender)
        if not data:
            tail = self._channel.stderr_tail().strip().splitlines()
            last_output = f"; its last words: {shortened(tail[-1], 300)}" if tail else ""
            raise TransportError(finding("LF505", f"the device closed the session before it answered{last_output}"))
        return data

    async def _read_or_fail(self, sender: asyncio.Task[None] | None) -> bytes:
        """Read; when sending fails meanwhile, raise that error instead of waiting."""
        if sender is None or sender.done():
            if sender is not None:
                sender.result()
            return await self._channel.read(_READ)  # a task and a wait for each read would cost as much as the read
        reader = asyncio.ensure_future(self._channel.read(_READ))
        try:
            await asyncio.wait({reader, sender}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done() and not reader.done():
                sender.result()
            return await reader
        finally:
            reader.cancel()


def _checked(header: Header) -> Header:
    """Return an answer's header whose values can be stored and printed; ProtocolError for one that cannot."""
    try:
        checked = from_outside(header)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"an answer holds {error}") from None
    assert isinstance(checked, dict)
    return checked


def _size_of_event(size: int) -> int:
    """Return an event's bytes; ProtocolError when it is larger than any event of an agent."""
    if size > _MAX_EVENT:
        raise ProtocolError(f"an event of {size} bytes came; at most {_MAX_EVENT} are taken")
    return size


@dataclass(frozen=True)
class Opening:
    """What is sent before the first answer."""

    nonce: str
    loader: bytes
    first: bytes
