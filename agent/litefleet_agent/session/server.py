"""Serves one controller over stdin and stdout.

The real stdout is kept for frames; whatever else prints goes to stderr.  Requests are served one after another, in order.
When the controller closes the connection, or is silent for too long (see `watch`), a running child is ended and nothing
half-made stays visible.
"""

from __future__ import annotations

import os
import sys
import time

from ..errors import AgentError
from ..facts.known import gather_known
from ..formats.checked import whole
from ..protocol import MAX_BODY, BlockingStream, Header, ProtocolError, ResponseParts, encode
from ..releases.activation import Activation, activate, confirm, rollback
from ..releases.archive import keep_bytecode, keep_start, kept_note, loaded_modules, name_archive
from ..releases.store import Store, StoreError, explain_os_error
from . import requests
from .hello import hello
from .requests import acquire, lease_of, order_of, text_of
from .watch import Watch, is_heartbeat

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterator, List, Optional, Tuple, Union

    from .neighbours import Neighbours


_EVENT_S = 5.0  # between two events of a request that runs: each costs the controller as much as an answer


class _ConnectionClosed(Exception):
    """The controller closed the connection."""


class Session:
    """One controller's requests against one store."""

    def __init__(self, root: str, version: str, stream: BlockingStream, watch: Watch) -> None:
        self._store = Store(root)
        self._version = version
        self._stream = stream
        self._watch = watch
        known = gather_known(root, kept_note())
        self._facts, self.note = known.facts, known.note
        self._besides = known.loaded
        self._neighbours: Optional[Neighbours] = None  # as soon as it serves some
        self._event_at = 0.0  # on the monotonic clock: when the request that runs reports itself next
        self.needed: Tuple[str, ...] = ()  # the agent's modules that the first answer of the next session will load
        self._operations: Dict[str, Callable[[Header], Union[Header, ResponseParts]]] = {
            "hello": self._hello,
            "put": self._put,
            "rebuild": self._rebuild,
            "offer": self._offer,
            "fetch": self._fetch,
            "runtime": self._runtime,
            "release": self._release,
            "verify": self._verify,
            "activate": self._activate,
            "confirm": self._confirm,
            "rollback": self._rollback,
            "infer": self._infer,
            "bench": self._bench,
            "sandbox": self._sandbox,
        }
        self._operations.update(dict.fromkeys(requests.OPERATIONS, self._store_request))

    def run(self) -> None:
        """Serve until the controller closes the connection; ProtocolError when it sends what is no frame."""
        while True:
            header = self._stream.read_header()
            if header is None:
                return
            if is_heartbeat(header):
                self._watch.expect_heartbeats()
            else:
                self._answer(header)
                self.needed = self.needed or tuple(name for name in loaded_modules() if name not in self._besides)

    def _answer(self, header: Header) -> None:
        body: List[bytes] = []
        self._event_at = time.monotonic() + _EVENT_S
        try:
            operation = self._operations.get(str(header.get("op")))
            if operation is None:
                raise AgentError("unknown request %r" % str(header.get("op"))[:40], "bad-request")
            response = operation(header)
            result, body = response if isinstance(response, ResponseParts) else (response, [])
            reply: Header = {"result": result}
        except AgentError as error:
            reply = {"error": {"code": error.code, "message": str(error)}}
        except (BrokenPipeError, ConnectionResetError):
            raise  # the controller is gone: nobody reads the answer
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            reply = {"error": {"code": "bad-request", "message": "the request does not fit: %r" % (error,)}}
        except ImportError as error:  # small systems split the standard library into packages
            message = "%s lacks the module %s: %s" % (sys.executable or "this Python", error.name, error)
            reply = {"error": {"code": "no-module", "message": message}}
        except OSError as error:
            known = explain_os_error(error, "the request %s failed" % header.get("op"))
            reply = {"error": {"code": known.code, "message": str(known)}}
        for _ in self._body():  # of a rejected request: the next frame begins behind it
            pass
        self._reply(reply, body, header.get("id"))

    def _reply(self, reply: Header, body: List[bytes], number: object) -> None:
        try:
            data = encode(dict(reply, re=number), sum(map(len, body)))
        except ProtocolError as error:
            problem = {"code": "too-large", "message": "the answer cannot be sent: %s" % error}
            data, body = encode({"error": problem, "re": number}), []
        self._stream.write([data, *body])

    def _body(self) -> Iterator[bytes]:
        yield from self._stream.read_chunks()
        if self._stream.missing:
            raise _ConnectionClosed()

    # --- the requests: fields -> result

    def _hello(self, header: Header) -> Header:
        """{} -> hello.Hello."""
        return hello(self._store, self._facts, self._version).to_dict()

    def _sandbox(self, header: Header) -> Header:
        """{} -> SandboxSupport.to_dict: what this kernel offers to confine a model's process.

        A request of its own, for probes: its eight modules and ctypes would double the time of the first answer.
        """
        from ..sandbox import describe_kernel

        return dict(describe_kernel().to_dict())

    def _put(self, header: Header) -> Header:
        """{sha256, offset} and the blob from there on as the body -> {stored}: bytes of the whole blob."""
        from ..releases.parts import receive

        offset = whole(header.get("offset", 0), 0, MAX_BODY, "`offset`")
        size = offset + self._stream.missing
        acquire(self._store)
        receive(self._store, text_of(header, "sha256"), size, self._body(), offset)
        return {"stored": size}

    def _rebuild(self, header: Header) -> Header:
        """{sha256, size, bases, script, coding} and the steps as the body -> {stored}: a blob from blobs that are here."""
        from ..releases.rebuild import RebuildRequest, rebuild

        request = RebuildRequest.from_header(header)
        acquire(self._store)
        rebuild(self._store, request, self._body())
        return {"stored": request.size}

    def _offer(self, header: Header) -> Header:
        """As `neighbours.Neighbours.offer`; the store is not held, so that another session may change it."""
        from .neighbours import Neighbours

        if self._neighbours is None:
            self._neighbours = Neighbours()
        return self._neighbours.offer(self._store, header)

    def _fetch(self, header: Header) -> Header:
        """{sha256, size, address, port, secret} -> {stored}: a blob from a neighbour, from where a transfer was cut."""
        from ..releases.parts import part_of, receive
        from .neighbours import Fetch, fetched

        fetch = Fetch.from_header(header)
        acquire(self._store)
        begun = part_of(self._store, fetch.sha256).size
        offset = begun if begun <= fetch.size else 0
        receive(self._store, fetch.sha256, fetch.size, fetched(fetch, offset, self._tick), offset)
        return {"stored": fetch.size}

    def _runtime(self, header: Header) -> Header:
        """{key, sha256} -> {}: unpack a runtime from this blob."""
        from ..releases.runtimes import unpack_runtime

        acquire(self._store)
        unpack_runtime(self._store, text_of(header, "key"), text_of(header, "sha256"))
        return {}

    def _release(self, header: Header) -> Header:
        """{manifest, sealed, again} -> {release, findings}: accept and store a release."""
        from ..releases.trust import receive

        acquire(self._store)
        now = self._store.clock.wall()
        identity, notes = receive(
            self._store, header["manifest"], header.get("sealed"), now, again=header.get("again") is True
        )
        return {"release": identity, "findings": [f.to_wire() for f in notes]}

    def _verify(self, header: Header) -> Header:
        """{release} -> the verification's result; events in between say that the session is alive."""
        from ..verification.release import verify_and_record

        acquire(self._store)
        return verify_and_record(self._store, text_of(header, "release"), self._facts, self._tick).to_wire()

    def _bench(self, header: Header) -> Header:
        """As `bench.run.bench`."""
        from ..bench.run import bench

        acquire(self._store)
        result = bench(self._store, self._facts, header, self._tick)
        return dict(result.to_dict(), findings=[found.to_wire() for found in result.findings])

    def _activate(self, header: Header) -> Header:
        """{release, lease_s, told, seen} -> {changed, lease_remaining_s, keeper}: `keeper`: a process watches the lease."""
        acquire(self._store)
        done = activate(self._store, text_of(header, "release"), lease_of(header), order_of(header))
        return {
            "changed": done.changed,
            "lease_remaining_s": done.lease_remaining_s,
            "keeper": self._start_keeper(done),
        }

    def _start_keeper(self, done: Activation) -> bool:
        if done.lease_remaining_s is None:
            return False
        from ..releases.lease_keeper import start

        return start(self._store.root)

    def _confirm(self, header: Header) -> Header:
        """{release} -> {}."""
        acquire(self._store)
        confirm(self._store, text_of(header, "release"))
        return {}

    def _rollback(self, header: Header) -> Header:
        """{model, to, told, seen} -> {changed, current, before}."""
        acquire(self._store)
        done = rollback(self._store, text_of(header, "model"), text_of(header, "to"), order_of(header))
        return dict(done._asdict())

    def _infer(self, header: Header) -> ResponseParts:
        """As `infer.infer`; the body holds the inputs."""
        from .infer import MAX_BODY, infer  # the service's client and a worker: compiled only when requested

        size = self._stream.missing
        if size > MAX_BODY:
            raise AgentError("the inputs have %d bytes; at most %d are taken" % (size, MAX_BODY), "too-large")
        return infer(self._store, self._facts, header, b"".join(self._body()), self._tick)

    def _store_request(self, header: Header) -> Header:
        operation = requests.OPERATIONS[str(header["op"])]
        return operation(requests.Session(self._store, self._facts, self._version), header)

    def _tick(self) -> None:
        self._stream.read_ahead()  # heartbeats, which must not fill the pipe while a request runs
        now = time.monotonic()
        if now >= self._event_at:
            self._event_at = now + _EVENT_S
            self._stream.send({"event": "running"})


def serve(root: str, version: str, ahead: bytes = b"") -> int:
    """Serve one controller on this process's stdin and stdout and return the exit code.

    `ahead` is what the bootstrap has already read of the frames; `version` is the SHA-256 of the running .pyz.
    """
    os.umask(0o077)  # only this user may read what is written here, whatever the device's umask
    name_archive(root)
    out = os.dup(1)
    os.dup2(2, 1)
    stream = BlockingStream(0, out, ahead)
    watch = Watch(stream)
    watch.start()
    try:
        session = Session(root, version, stream, watch)
        session.run()
    except (_ConnectionClosed, BrokenPipeError, ConnectionResetError):
        return 0
    except KeyboardInterrupt:  # the watch ends the session
        return 0 if watch.gone else 1
    except (ProtocolError, StoreError) as error:
        sys.stderr.write("litefleet-agent: %s\n" % error)
        return 1
    keep_bytecode()
    keep_start(session.needed, session.note)
    return 0
