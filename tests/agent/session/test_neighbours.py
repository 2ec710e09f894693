"""A blob from a neighbour over real sockets: secrets that are wrong or used, cuts, other bytes, and what the network sees."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Callable  # noqa: UP035 (subscripted at run time, on Python 3.7)

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.releases.activation import lock_and_recover
from litefleet_agent.releases.parts import part_of, receive
from litefleet_agent.releases.store import Store, StoreError
from litefleet_agent.session.neighbours import Fetch, Neighbours, fetched

DATA = b"weights " * 40000  # 320,000 bytes, not a multiple of a block
SHA = sha256(DATA).hexdigest()
Offered = Callable[..., Fetch]


def opened(folder: Path) -> Store:
    store = Store(str(folder))
    lock_and_recover(store, 1.0)
    return store


@pytest.fixture
def offered(tmp_path: Path) -> Offered:
    """Returns a function that makes the fetch of a new offer."""
    store, neighbours = opened(tmp_path / "holder"), Neighbours()
    store.put(SHA, len(DATA), [DATA])

    def offer(secret: bytes = b"") -> Fetch:
        known = os.urandom(32)
        answer = neighbours.offer(store, {"sha256": SHA, "secret": known.hex(), "peer": "127.0.0.1"})
        assert (answer["address"], answer["size"]) == ("127.0.0.1", len(DATA))
        port = answer["port"]
        assert isinstance(port, int)
        return Fetch(SHA, len(DATA), "127.0.0.1", port, secret or known)

    return offer


def bytes_of(fetch: Fetch, offset: int = 0) -> Iterator[bytes]:
    return fetched(fetch, offset, lambda: None)


def test_a_blob_travels_once_for_each_secret_and_goes_on_after_a_cut(offered: Offered, tmp_path: Path) -> None:
    store, fetch = opened(tmp_path / "other"), offered()

    def cut() -> Iterator[bytes]:
        yield from islice(bytes_of(fetch), 2)
        raise AgentError("cut", "no-neighbour")

    with pytest.raises(AgentError, match="cut"):
        receive(store, SHA, len(DATA), cut())
    begun = part_of(store, SHA).size
    assert begun == 2 << 16
    with pytest.raises(AgentError, match="closed the connection too early"):
        receive(store, SHA, len(DATA), bytes_of(fetch, begun), begun)  # its secret was used
    assert part_of(store, SHA).size == begun
    receive(store, SHA, len(DATA), bytes_of(offered(), begun), begun)
    assert Path(store.blob(SHA)).read_bytes() == DATA


def test_a_wrong_secret_gets_nothing_and_the_right_one_still_does(offered: Offered) -> None:
    right = offered()
    with pytest.raises(AgentError, match="closed the connection too early"):
        list(bytes_of(right._replace(secret=os.urandom(32))))
    assert b"".join(bytes_of(right)) == DATA


def test_a_closed_port_and_other_bytes_are_sentences(offered: Offered, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = offered()._replace(port=closed.getsockname()[1])
        with pytest.raises(AgentError, match=r"127\.0\.0\.1 port \d+ did not give the file: .*refused"):
            list(bytes_of(nobody))
    store, other = opened(tmp_path / "other"), "0" * 64
    with pytest.raises(StoreError, match="expected the bytes of 000000000000"):
        receive(store, other, len(DATA), bytes_of(offered()))
    assert part_of(store, other).size == 0, "wrong bytes stayed"


def test_the_network_sees_no_byte_of_the_file(offered: Offered) -> None:
    seen = []
    fetch = offered()
    with socket.socket() as listener:  # Python 3.7 has no create_server
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        between = fetch._replace(port=listener.getsockname()[1])
        received = bytes_of(between)

        def relay() -> None:
            inside, outside = listener.accept()[0], socket.create_connection(("127.0.0.1", fetch.port))
            with inside, outside:
                inside.sendall(outside.recv(32))
                outside.sendall(inside.recv(56))
                for data in iter(lambda: outside.recv(1 << 16), b""):
                    seen.append(data)
                    inside.sendall(data)

        thread = Thread(target=relay)
        thread.start()
        assert b"".join(received) == DATA
        thread.join()
    carried = b"".join(seen)
    assert len(carried) == len(DATA)
    assert b"weights" not in carried
    assert len(set(carried[i : i + 8] for i in range(0, len(carried), 8))) == len(DATA) // 8, "a stream repeats"


@pytest.mark.parametrize("field", ["sha256", "secret", "peer"])
def test_what_is_no_offer_is_rejected(tmp_path: Path, field: str) -> None:
    header = {"sha256": SHA, "secret": "00" * 32, "peer": "127.0.0.1", field: 1}
    with pytest.raises(AgentError):
        Neighbours().offer(opened(tmp_path), header)
