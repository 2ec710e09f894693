"""The service's client for Python applications: `with Client() as client: client.infer("cls", {"x": x})`.

Standard library only; accepts and returns numpy arrays where the application has numpy.
"""

import errno
import os
import select
import socket
import stat
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .errors import AgentError
from .formats.checked import items, mapping, number, whole
from .formats.npz import DTYPES, Array, Lod, read_lod
from .formats.numpy_arrays import Part, inputs_of, numpy_of, to_array
from .protocol import FrameDecoder, Header, ProtocolError, encode

__all__ = ["PLACES", "Array", "Client", "Result", "ServiceError", "find_socket"]

# sockets of a service, tried in this order after $LITEFLEET_SOCKET
PLACES = (
    "/run/litefleet/agent.sock",
    "~/.local/share/litefleet/run/agent.sock",
    "/var/lib/litefleet/run/agent.sock",
)
# pauses before a request that the service did not accept is sent again; one restart may follow another
_RETRY_S = (0.0, 0.1, 0.3, 1.0, 3.0)
_GRACE_S = 1.0  # beyond a request's deadline, for its response to arrive
_CONNECT_RETRY_S = 0.02  # between attempts while the kernel's queue of connections to accept is full
_READ_SIZE = 4096  # bytes requested until the header is whole: mostly a response's prefix and its header
_MAX_OUTPUTS = 1024  # of a model
_MAX_RANK = 32  # dimensions of an output: as many as numpy 1 has
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_MAX_PREALLOCATED = 64 << 20  # bytes of a body that are allocated at once


class ServiceError(AgentError):
    """The service rejected a request, or is unavailable; `finding` is the finding's JSON form, or None.

    Codes besides the service's own: "not-running", "not-allowed", "gone" (the connection broke, and the request may have been
    run), "timed-out", "protocol", "bad-input", "not-trusted" (any user of the device may have made the socket), "no-lod" (the
    service's agent is older than sequences).
    """

    def __init__(self, code: str, message: str, finding: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(message, code)
        self.finding = finding


class _RequestNotAccepted(Exception):
    """The connection ended before the service had the whole request: it can be sent again."""


@dataclass(frozen=True)
class Result:
    """The result of one inference; `outputs` are numpy arrays if any input was one, else `Array`.

    `lods` holds the sequences of the outputs that have some, by name, as `Array.lod` does.
    """

    outputs: Dict[str, Any]
    model: str
    release: str  # SHA-256
    wait_ms: float  # in the service's queue
    run_ms: float  # of the batch
    batch: int  # how many requests were run together
    lods: Dict[str, Lod] = field(default_factory=dict)


def find_socket(environ: Optional[Mapping[str, str]] = None) -> str:
    """Return the service's socket: $LITEFLEET_SOCKET, else the first of PLACES that exists.  Raises ServiceError."""
    given = (os.environ if environ is None else environ).get("LITEFLEET_SOCKET", "")
    if given:
        return given
    places = [os.path.expanduser(place) for place in PLACES]
    for place in places:
        if os.path.exists(place):
            return place
    raise ServiceError(
        "not-running",
        "there is no socket at %s: start the service, or name its socket in LITEFLEET_SOCKET" % ", ".join(places),
    )


class Client:
    """A connection to the service, opened by the first request and kept.

    Threads may share it; their requests are sent one after the other.  A process that forks opens a new one in the child.
    A request that the service cannot have accepted, because it restarted, is sent again on a new connection.  `timeout_s`
    bounds each request, retries included.
    """

    def __init__(self, path: Optional[str] = None, timeout_s: float = 10.0) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._socket: Optional[socket.socket] = None
        self._decoder = FrameDecoder()  # of the connection: each has its own
        self._lod_levels: Optional[int] = None  # that its service takes; None: not asked
        self._number = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- requests

    def infer(self, model: Optional[str], inputs: Mapping[str, Any], deadline_ms: Optional[float] = None) -> Result:
        """Run `inputs` (numpy arrays or `Array`, by name) through a model.  Raises ServiceError when there is no result.

        The sequences (LoD) of an input are its `Array.lod`, or beside it, as in a .npz: NAME@lod0 holds the offsets at which
        they begin, and the end (with nested ones, the outermost level's; NAME@lod1 the next).

        `model` may be None where the device serves only one.  `deadline_ms` (milliseconds) begins when the service accepts
        the request.
        """
        numpy = numpy_of(inputs)
        try:
            given = inputs_of(inputs)
        except AgentError as error:
            raise ServiceError("bad-input", str(error)) from error
        header: Header = {"op": "infer", "inputs": [one.described(name) for name, one in given.items()]}
        if model is not None:
            header["model"] = model
        if deadline_ms is not None:
            header["deadline_ms"] = deadline_ms
        timeout_s = self._timeout_s if deadline_ms is None else max(self._timeout_s, deadline_ms / 1e3 + _GRACE_S)
        levels = max((len(one.lod) for one in given.values()), default=0)
        result, body = self._ask(header, [one.data for one in given.values()], timeout_s, levels)
        return _result(result, body, numpy)

    def status(self) -> Dict[str, Any]:
        """Return the service's status, as docs/service.md shows it.  Raises ServiceError."""
        return self._ask({"op": "status"}, (), self._timeout_s)[0]

    def health(self) -> Dict[str, Any]:
        """Return {health, reasons}; `health` is "ok" when every model is served as configured.  Raises ServiceError."""
        return self._ask({"op": "health"}, (), self._timeout_s)[0]

    def models(self) -> List[Dict[str, Any]]:
        """Return the descriptions of the models that are served.  Raises ServiceError."""
        models = self._ask({"op": "models"}, (), self._timeout_s)[0].get("models")
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    def metrics(self) -> str:
        """Return the metrics as Prometheus text.  Raises ServiceError."""
        return str(self._ask({"op": "metrics"}, (), self._timeout_s)[0].get("text", ""))

    # --- sending

    def _ask(
        self, header: Header, parts: Sequence[Part], timeout_s: float, lod_levels: int = 0
    ) -> Tuple[Header, bytearray]:
        end = time.monotonic() + timeout_s
        with self._lock:
            for pause_s in _RETRY_S:
                try:
                    return self._ask_checked(header, parts, end, lod_levels)
                except ServiceError as error:
                    if error.code != "stopping":
                        raise
                    self.close()  # a service that restarts takes new connections at once
                time.sleep(max(0.0, min(pause_s, end - time.monotonic())))
            return self._ask_checked(header, parts, end, lod_levels)

    def _ask_checked(
        self, header: Header, parts: Sequence[Part], end: float, lod_levels: int
    ) -> Tuple[Header, bytearray]:
        """Send one request; one with sequences only to a service that takes them: an older one would run it without."""
        if lod_levels:
            self._connected(end)
            if self._lod_levels is None:
                told = self._ask_once({"op": "models"}, (), end)[0].get("lod_levels")
                self._lod_levels = told if isinstance(told, int) else 0
            if self._lod_levels < lod_levels:
                text = "the service takes no sequences (LoD) of %d levels: update its agent" % lod_levels
                raise ServiceError("no-lod", text)
        return self._ask_once(header, parts, end)

    def _ask_once(self, header: Header, parts: Sequence[Part], end: float) -> Tuple[Header, bytearray]:
        """Send one request and return (result, body); close the connection after an error that leaves the stream in doubt."""
        try:
            connection = self._connected(end)
            self._number += 1
            frame = encode(dict(header, id=self._number), sum(len(part) for part in parts))
            sent_all = _send(connection, [frame, *parts], end)
            answer, body = _receive(connection, self._decoder, self._number, sent_all, end)
        except _RequestNotAccepted:
            self.close()
            raise ServiceError("stopping", "the service ended the connection before it took the request") from None
        except socket.timeout:
            self.close()
            raise ServiceError("timed-out", "the service did not answer in time") from None
        except ProtocolError as error:
            self.close()
            raise ServiceError("protocol", "the answer is not one of litefleet's service: %s" % error) from error
        except OSError as error:
            self.close()
            raise ServiceError("gone", "the connection to the service broke: %s" % (error.strerror or error)) from error
        if "error" in answer:
            raise self._error(answer)
        result = answer.get("result")
        return (result if isinstance(result, dict) else {}), body

    def _error(self, answer: Header) -> ServiceError:
        if answer.get("re") is None:  # about the connection, which the service closes
            self.close()
        error = answer.get("error")
        error = error if isinstance(error, dict) else {}
        finding = error.get("finding")
        return ServiceError(
            str(error.get("code", "failed")),
            str(error.get("message", "the service gave no reason")),
            finding if isinstance(finding, dict) else None,
        )

    def _connected(self, end: float) -> socket.socket:
        if self._socket is not None and _ended(self._socket):
            self.close()
        if self._socket is None:
            path = self._path or find_socket()
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                _connect(connection, path, end)
                connection.setblocking(False)  # `_wait` waits, and only where it has to
                _check_server(connection, path)
            except OSError as error:
                connection.close()
                raise _unreachable(path, error) from error
            except ServiceError:
                connection.close()
                raise
            self._socket, self._decoder = connection, FrameDecoder(preallocate=_MAX_PREALLOCATED)
            self._lod_levels = None
        return self._socket


def _connect(connection: socket.socket, path: str, end: float) -> None:
    while True:
        connection.settimeout(_left(end))
        try:
            connection.connect(path)
            return
        except BlockingIOError:  # the kernel's queue is full, and there is no descriptor to wait on
            time.sleep(_CONNECT_RETRY_S)


def _check_server(connection: socket.socket, path: str) -> None:
    """Raise ServiceError "not-trusted" when any user of the device could have put the connected socket where it is.

    A service of root, of systemd (which opens its socket as root) or of this user is trusted anywhere.  Another user's is
    trusted unless a folder on the way to the socket is writable by everyone and the next part of the path is not root's or
    this user's: a sticky folder such as /tmp protects existing files only.
    """
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid = _CREDENTIALS.unpack(data)[1]
    trusted = (0, os.geteuid())
    if uid in trusted:
        return
    part = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    while part != "/":
        folder = os.path.dirname(part)
        status = os.stat(folder)
        protected = status.st_mode & stat.S_ISVTX and os.lstat(part).st_uid in trusted
        if status.st_mode & stat.S_IWOTH and not protected:
            raise ServiceError(
                "not-trusted",
                "user %d answers on %s, and every user can write in %s, so this need not be the service: name a folder "
                "that only the service can write in as `socket` in service.json" % (uid, path, folder),
            )
        part = folder


def _ended(connection: socket.socket) -> bool:
    """Return whether the service has closed an idle connection, or sent something that belongs to no request."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _wait(connection: socket.socket, event: int, end: float) -> None:
    """Wait until the connection is ready for `event`, or broken; socket.timeout."""
    poll = select.poll()
    poll.register(connection, event)
    if not poll.poll(_left(end) * 1e3):
        raise socket.timeout("timed out")


def _send(connection: socket.socket, parts: Sequence[Part], end: float) -> bool:
    """Send a frame's parts, in one system call where they fit; return False when the service closed the connection before."""
    rest = [memoryview(part) for part in parts if len(part)]
    try:
        while rest:
            try:
                sent = connection.sendmsg(rest)
            except BlockingIOError:
                _wait(connection, select.POLLOUT, end)
                continue
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if sent:
                rest[0] = rest[0][sent:]
    except (BrokenPipeError, ConnectionResetError):
        return False  # it may have sent the reason
    return True


def _receive(
    connection: socket.socket, decoder: FrameDecoder, number: int, sent_all: bool, end: float
) -> Tuple[Header, bytearray]:
    """Return the response to the request `number` as (header, body); `sent_all`: the service may have accepted it."""
    try:
        decoder.feed(_receive_some(connection, end))
    except (ConnectionResetError, BrokenPipeError) as error:
        # On a Unix socket a reset means that the service closed it with bytes unread: it did not have the whole request.
        if sent_all and isinstance(error, _ConnectionClosed):
            raise
        raise _RequestNotAccepted from None
    header = decoder.next_header()
    while header is None:
        decoder.feed(_receive_some(connection, end))
        header = decoder.next_header()
    body = decoder.body_array()
    while body is None:
        _receive_body(connection, decoder, end)
        body = decoder.body_array()
    if decoder.begun:
        raise ProtocolError("more bytes came than the response announced")
    if header.get("re") not in (number, None) or ("error" not in header and header.get("re") is None):
        raise ProtocolError("expected the answer to request %d, got %.80r" % (number, header.get("re")))
    return header, body


def _receive_body(connection: socket.socket, decoder: FrameDecoder, end: float) -> None:
    """Receive into the decoder's buffer until it is full."""
    with decoder.get_buffer() as view:
        filled = 0
        while filled < len(view):
            try:
                count = connection.recv_into(view[filled:])
            except BlockingIOError:
                _wait(connection, select.POLLIN, end)
                continue
            if not count:
                raise _ConnectionClosed()
            filled += count
    decoder.buffer_updated(filled)


def _receive_some(connection: socket.socket, end: float) -> bytes:
    """Return the bytes that come next."""
    while True:
        try:
            piece = connection.recv(_READ_SIZE)
        except BlockingIOError:
            _wait(connection, select.POLLIN, end)
            continue
        if not piece:
            raise _ConnectionClosed()
        return piece


class _ConnectionClosed(ConnectionResetError):
    """The service closed the connection instead of answering."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the service closed it without an answer")


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _unreachable(path: str, error: OSError) -> ServiceError:
    if isinstance(error, socket.timeout):
        return ServiceError("timed-out", "the service on %s accepts no connection" % path)
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return ServiceError(
            "not-running", "no service answers on %s: start it, or name its socket in LITEFLEET_SOCKET" % path
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        text = "this user may not use %s: it must be named in `users` or be in one of `groups` in service.json" % path
        return ServiceError("not-allowed", text)
    return ServiceError("not-running", "%s cannot be reached: %s" % (path, error.strerror or error))


def _result(result: Header, body: bytearray, numpy: Any) -> Result:
    outputs: Dict[str, Any] = {}
    lods: Dict[str, Lod] = {}
    at = 0
    try:
        for tensor in map(mapping, items(result["outputs"], _MAX_OUTPUTS)):
            dtype = str(tensor["dtype"])
            dims = tuple(whole(dim) for dim in items(tensor["dims"], _MAX_RANK))
            size = DTYPES[dtype]
            for dim in dims:
                size *= dim
            data = memoryview(body)[at : at + size]
            at += size
            name, lod = str(tensor["name"]), read_lod(tensor.get("lod"), dims)
            outputs[name] = to_array(dtype, dims, data, lod, numpy)
            if lod:
                lods[name] = lod
        if at != len(body):
            raise ValueError("%d bytes of data for %d" % (len(body), at))
        times = mapping(result["ms"])
        return Result(
            outputs,
            str(result.get("model", "")),
            str(result["release"]),
            float(number(times["wait"])),
            float(number(times["run"])),
            whole(result.get("batch", 1)),
            lods,
        )
    except (KeyError, ValueError, AgentError) as error:
        raise ServiceError("protocol", "the service's response is inconsistent: %s" % error) from error
