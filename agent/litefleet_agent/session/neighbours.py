"""A blob from a neighbour: one device serves files of its store, and another one fetches them, as the controller directs.

The controller gives both a secret for one transfer, over their own sessions.  The one that serves listens on the address from
which it reaches the other one, while its session lasts; the port ends with the session.

    it sends       32 random bytes
    the other one  ticket (16 bytes, from the secret), offset (8 bytes), HMAC-SHA256 by the secret over both
    it sends       the blob from that offset on, each block of 64 KiB with SHAKE256(key, number of the block) added by XOR

The key is made of the secret and the random bytes, so that no stream of keys is used twice, and nobody on the network reads the
file.  Nothing here vouches for the bytes: a blob counts when it has its hash, as one that the controller sent.
"""

import hmac
import os
import socket
import threading
import time
from hashlib import sha256, shake_256
from typing import Callable, Dict, Iterator, NamedTuple, Tuple

from ..errors import AgentError
from ..formats.checked import text, whole
from ..formats.files import open_regular
from ..protocol import MAX_BODY, Header
from ..releases.store import Store

_BLOCK = 1 << 16  # bytes that one number of the key stream covers
_NONCE, _TICKET, _OFFSET, _PROOF = 32, 16, 8, 32  # bytes
_CONNECT_S = 5.0
_SILENCE_S = 15.0  # without a byte
_SLOWEST = 50000  # bytes a second, below which the controller's line is as good
_GRACE_S = 30.0
_TICKET_S = 120.0  # in which a transfer must begin
_MOST_TICKETS = 512
_MOST_LISTENERS = 4  # addresses
_AT_ONCE = 16  # connections of one listener
_MOST_REFUSED = 1000  # wrong proofs, after which nothing more is served


class _Offer(NamedTuple):
    path: str
    secret: bytes
    until: float  # on the monotonic clock


class Neighbours:
    """What this session serves to other devices."""

    def __init__(self) -> None:
        self._offers: Dict[bytes, _Offer] = {}
        self._listeners: Dict[str, Tuple[str, int]] = {}
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._refused = 0

    def offer(self, store: Store, header: Header) -> Header:
        """{sha256, secret, peer} -> {address, port, size}: serve a blob once, to who knows the secret.

        Raises AgentError: "missing" without the blob, "no-neighbour" where `peer` (the other device's address) has no route.
        """
        path, secret = store.blob(_text(header, "sha256")), _secret(header)
        try:
            size = os.stat(path).st_size
        except OSError:
            raise AgentError("the blob %s is not on this device" % _text(header, "sha256")[:12], "missing") from None
        now = time.monotonic()
        self._offers = {ticket: one for ticket, one in self._offers.items() if one.until > now}
        if len(self._offers) >= _MOST_TICKETS:
            raise AgentError("%d transfers are open" % len(self._offers), "no-neighbour")
        address, port = self._listener(_text(header, "peer"))
        self._offers[_ticket(secret)] = _Offer(path, secret, now + _TICKET_S)
        return {"address": address, "port": port, "size": size}

    def _listener(self, peer: str) -> Tuple[str, int]:
        """Return where a listener for `peer` is, on the one address of this device from which `peer` is reached."""
        try:
            found = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)[0]
            with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
                probe.connect(found[4])  # sends nothing: the kernel chooses the route
                address = str(probe.getsockname()[0])
            if address not in self._listeners:
                if len(self._listeners) >= _MOST_LISTENERS:
                    raise AgentError("this session listens on %d addresses already" % _MOST_LISTENERS, "no-neighbour")
                listener = socket.socket(found[0], socket.SOCK_STREAM)
                listener.bind((address, 0))
                listener.listen(_AT_ONCE)
                self._listeners[address] = (address, int(listener.getsockname()[1]))
                threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            return self._listeners[address]
        except OSError as error:
            raise AgentError("%s cannot be served from here: %s" % (peer[:100], error), "no-neighbour") from None

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while self._refused < _MOST_REFUSED:
                self._slots.acquire()
                try:
                    connection = listener.accept()[0]
                    threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
                except (OSError, RuntimeError):  # no descriptor or no thread is left
                    self._slots.release()
                    time.sleep(1)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_SILENCE_S)
                self._send(connection)
        except OSError:
            pass  # the other one is gone, or slow; the controller sends the file
        finally:
            self._slots.release()

    def _send(self, connection: socket.socket) -> None:
        nonce = os.urandom(_NONCE)
        connection.sendall(nonce)
        asked = b"".join(_received(connection, _TICKET + _OFFSET + _PROOF))
        ticket, offset, proof = asked[:_TICKET], asked[_TICKET : _TICKET + _OFFSET], asked[_TICKET + _OFFSET :]
        offered = self._offers.get(ticket)
        known = offered.secret if offered is not None else os.urandom(32)
        right = hmac.compare_digest(proof, _proof(known, nonce, offset))
        if offered is None or not right or time.monotonic() > offered.until:
            self._refused += 1
            return
        if self._offers.pop(ticket, None) is None:
            return  # a transfer of another connection has begun: each secret is for one
        key, at = _key(offered.secret, nonce), int.from_bytes(offset, "big")
        with open_regular(offered.path, follow=False) as file:
            file.seek(at)
            for number, piece in enumerate(iter(lambda: file.read(_BLOCK), b"")):
                connection.sendall(_mixed(key, number, piece))


class Fetch(NamedTuple):
    """The fields of a request."""

    sha256: str
    size: int  # bytes of the blob
    address: str
    port: int
    secret: bytes

    @classmethod
    def from_header(cls, header: Header) -> "Fetch":
        """Read {sha256, size, address, port, secret}.  Raises AgentError "bad-request"."""
        try:
            size, port = whole(header.get("size"), 0, MAX_BODY, "`size`"), whole(header.get("port"), 1, 65535, "`port`")
        except ValueError as error:
            raise AgentError("the request does not fit: %s" % error, "bad-request") from None
        return cls(_text(header, "sha256"), size, _text(header, "address"), port, _secret(header))


def fetched(fetch: Fetch, offset: int, on_tick: Callable[[], None]) -> Iterator[bytes]:
    """Yield a neighbour's blob from `offset` on; `on_tick` is called about once a second.

    Raises AgentError "no-neighbour" where it cannot be had in time, so that what came is kept.
    """
    ticked = time.monotonic()
    ends = ticked + _GRACE_S + fetch.size / _SLOWEST
    try:
        with socket.create_connection((fetch.address, fetch.port), timeout=_CONNECT_S) as connection:
            connection.settimeout(_SILENCE_S)
            nonce, begin = b"".join(_received(connection, _NONCE)), offset.to_bytes(_OFFSET, "big")
            connection.sendall(_ticket(fetch.secret) + begin + _proof(fetch.secret, nonce, begin))
            key, left = _key(fetch.secret, nonce), fetch.size - offset
            for number in range(-(-left // _BLOCK)):
                piece = b"".join(_received(connection, min(_BLOCK, left - number * _BLOCK)))
                yield _mixed(key, number, piece)
                now = time.monotonic()
                if now > ends:
                    raise OSError("it is slower than %d kB a second" % (_SLOWEST // 1000))
                if now - ticked > 1:
                    ticked = now
                    on_tick()
    except OSError as error:
        text_of_error = "%s port %d did not give the file: %s" % (fetch.address, fetch.port, error)
        raise AgentError(text_of_error, "no-neighbour") from None


def _received(connection: socket.socket, count: int) -> Iterator[bytes]:
    while count:
        piece = connection.recv(count)
        if not piece:
            raise ConnectionError("it closed the connection too early")
        count -= len(piece)
        yield piece


def _text(header: Header, name: str) -> str:
    try:
        return text(header.get(name), 300, "`%s`" % name)
    except ValueError as error:
        raise AgentError("the request does not fit: %s" % error, "bad-request") from None


def _secret(header: Header) -> bytes:
    try:
        secret = bytes.fromhex(_text(header, "secret"))
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise AgentError("the request does not fit: `secret` must be 32 bytes in hexadecimal", "bad-request")
    return secret


def _ticket(secret: bytes) -> bytes:
    return sha256(b"litefleet ticket" + secret).digest()[:_TICKET]


def _proof(secret: bytes, nonce: bytes, offset: bytes) -> bytes:
    return hmac.new(secret, b"litefleet fetch" + nonce + offset, sha256).digest()


def _key(secret: bytes, nonce: bytes) -> bytes:
    return hmac.new(secret, b"litefleet stream" + nonce, sha256).digest()


def _mixed(key: bytes, number: int, piece: bytes) -> bytes:
    """Encrypt or decrypt block `number` of a stream."""
    stream = shake_256(key + number.to_bytes(8, "big")).digest(len(piece))
    return (int.from_bytes(piece, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(piece), "big")
