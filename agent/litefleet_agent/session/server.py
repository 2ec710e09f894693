"""Serves one controller over stdin and stdout.

The real stdout is kept for frames; whatever else prints goes to stderr.  Requests are served one after another, in order.
When the controller goes away, a running child is ended and nothing half-made stays visible.
"""

import os
import sys
from typing import Any, Callable, Dict, Iterator, List, Union

from .. import facts as facts_package
from ..errors import AgentError
from ..protocol import PREFIX_SIZE, ProtocolError, ResponseParts, decode_header, decode_prefix, encode
from ..releases.activation import Activation, activate, confirm, lock_and_recover, rollback
from ..releases.archive import name_archive
from ..releases.store import Store, StoreError, explain_os_error
from . import requests
from .hello import hello_status, revert_expired

__all__ = ["Session", "serve"]

_CHUNK = 256 * 1024


class _ConnectionClosed(Exception):
    """The controller closed the connection."""


class _PipeReader:
    """Exact reads from a file descriptor, after what was read ahead before the agent started."""

    def __init__(self, fd: int, ahead: bytes) -> None:
        self._fd = fd
        self._buffer = ahead

    def some(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes, or none at the end."""
        if self._buffer:
            data, self._buffer = self._buffer[:limit], self._buffer[limit:]
            return data
        return os.read(self._fd, limit)

    def exactly(self, size: int) -> bytes:
        """Return `size` bytes; _Gone when the stream ends before."""
        parts = []
        while size:
            part = self.some(min(size, _CHUNK))
            if not part:
                raise _ConnectionClosed()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Session:
    """One controller's requests against one store."""

    def __init__(self, root: str, version: str, read: _PipeReader, write: Callable[[bytes], None]) -> None:
        self._store = Store(root)
        self._version = version
        self._read = read
        self._write = write
        self._facts = facts_package.gather(root)
        self._operations: Dict[str, Callable[[Dict[str, Any], int], Union[Dict[str, Any], ResponseParts]]] = {
            "hello": self._hello,
            "put": self._put,
            "runtime": self._runtime,
            "release": self._release,
            "verify": self._verify,
            "activate": self._activate,
            "confirm": self._confirm,
            "rollback": self._rollback,
            "infer": self._infer,
            "bench": self._bench,
        }
        self._operations.update(dict.fromkeys(requests.OPERATIONS, self._store_request))

    def run(self) -> None:
        """Serve until the controller goes away; ProtocolError when it does not speak the protocol."""
        while True:
            try:
                header_size, body_size = decode_prefix(self._read.exactly(PREFIX_SIZE))
                header = decode_header(self._read.exactly(header_size))
            except _ConnectionClosed:
                return
            self._answer(header, body_size)

    def _answer(self, header: Dict[str, Any], body_size: int) -> None:
        self._left = body_size
        body: List[bytes] = []
        try:
            operation = self._operations.get(str(header.get("op")))
            if operation is None:
                raise AgentError("unknown request %r" % str(header.get("op"))[:40], "bad-request")
            done = operation(header, body_size)
            result, body = done if isinstance(done, ResponseParts) else (done, [])
            reply: Dict[str, Any] = {"result": result}
        except AgentError as error:
            reply = {"error": {"code": error.code, "message": str(error)}}
        except (BrokenPipeError, ConnectionResetError):
            raise  # the controller is gone: nobody is left to be told
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            reply = {"error": {"code": "bad-request", "message": "the request does not fit: %r" % (error,)}}
        except OSError as error:
            known = explain_os_error(error, "the request %s failed" % header.get("op"))
            reply = {"error": {"code": known.code, "message": str(known)}}
        for _ in self._body():  # what was refused still has to be read past
            pass
        self._reply(reply, body, header.get("id"))

    def _reply(self, reply: Dict[str, Any], body: List[bytes], number: Any) -> None:
        try:
            data = encode(dict(reply, re=number), sum(map(len, body)))
        except ProtocolError as error:
            problem = {"code": "too-large", "message": "the answer can't be sent: %s" % error}
            data, body = encode({"error": problem, "re": number}), []
        for part in [data] + body:
            self._write(part)

    def _body(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._read.some(min(self._left, _CHUNK))
            if not chunk:
                raise _ConnectionClosed()
            self._left -= len(chunk)
            yield chunk

    def _hello(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        revert_expired(self._store)
        current = self._store.current()
        records = {identity: self._store.verified(identity) for identity in current.values()}
        return {
            "agent": self._version,
            "root": self._store.root,
            "boot": self._store.clock.boot_id(),
            "facts": self._facts.to_dict(),
            "fingerprint": facts_package.fingerprint(self._facts),
            "blobs": self._store.blobs(),
            "runtimes": self._store.runtimes(),
            "current": current,
            "previous": self._store.links("previous"),
            "verified": {identity: record.to_dict() for identity, record in records.items() if record is not None},
            **hello_status(self._store),
            **requests.device_status(self._store),
        }

    def _put(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        lock_and_recover(self._store)
        self._store.put(header["sha256"], body_size, self._body())
        return {"stored": body_size}

    def _runtime(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        from ..releases.runtimes import unpack_runtime

        lock_and_recover(self._store)
        unpack_runtime(self._store, header["key"], header["sha256"])
        return {}

    def _release(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        from ..releases.trust import receive

        lock_and_recover(self._store)
        now = self._store.clock.wall()
        identity, notes = receive(
            self._store, header["manifest"], header.get("sealed"), now, again=header.get("again") is True
        )
        return {"release": identity, "findings": [f.to_wire() for f in notes]}

    def _verify(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        from ..verification.release import verify_and_record

        lock_and_recover(self._store)
        identity = header["release"]
        return verify_and_record(self._store, identity, self._facts, self._tick).to_wire()

    def _bench(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        from ..bench.run import bench

        lock_and_recover(self._store)
        return bench(self._store, self._facts, header, self._tick)

    def _activate(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        lock_and_recover(self._store)
        done = activate(self._store, header["release"], header.get("lease_s", 0))
        return {
            "changed": done.changed,
            "lease_remaining_s": done.lease_remaining_s,
            "keeper": self._start_keeper(done),
        }

    def _start_keeper(self, done: Activation) -> bool:
        """Say whether a process on the device watches over the lease."""
        if done.lease_remaining_s is None:
            return False
        from ..releases.lease_keeper import start

        return start(self._store.root)

    def _confirm(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        lock_and_recover(self._store)
        confirm(self._store, header["release"])
        return {}

    def _rollback(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        lock_and_recover(self._store)
        return rollback(self._store, header["model"], header["to"])._asdict()

    def _infer(self, header: Dict[str, Any], body_size: int) -> ResponseParts:
        from .infer import MAX_BODY, infer  # the service's client and a worker: only who is asked compiles them

        if body_size > MAX_BODY:
            raise AgentError("the inputs have %d bytes; at most %d are taken" % (body_size, MAX_BODY), "too-large")
        return infer(self._store, self._facts, header, b"".join(self._body()), self._tick)

    def _store_request(self, header: Dict[str, Any], body_size: int) -> Dict[str, Any]:
        operation = requests.OPERATIONS[header["op"]]
        return operation(requests.Session(self._store, self._facts, self._version), header)

    def _tick(self) -> None:
        self._write(encode({"event": "running"}))


def serve(root: str, version: str, ahead: bytes = b"") -> int:
    """Serve one controller on this process's stdin and stdout and return the exit code.

    `ahead` is what the bootstrap had already read of the frames; `version` the SHA-256 of the running .pyz.
    """
    os.umask(0o077)  # what is written here is this user's alone, whatever the device's own habit
    name_archive(root)
    out = os.dup(1)
    os.dup2(2, 1)

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(out, view) :]

    try:
        Session(root, version, _PipeReader(0, ahead), write).run()
    except (_ConnectionClosed, BrokenPipeError, ConnectionResetError):
        return 0
    except (ProtocolError, StoreError) as error:
        sys.stderr.write("litefleet-agent: %s\n" % error)
        return 1
    return 0
