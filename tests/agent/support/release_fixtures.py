"""What the tests of switching share: a clock that is set, and releases that count as proven."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from litefleet_agent.releases.activation import lock_and_recover
from litefleet_agent.releases.lease import Clock
from litefleet_agent.releases.store import Store, StoreError


class SetClock(Clock):
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.boot, self.up, self.epoch = 1, 100.0, 1.8e9

    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def boottime(self) -> float:
        return self.up

    def wall(self) -> float:
        return self.epoch

    def advance(self, seconds: float) -> None:
        self.up += seconds
        self.epoch += seconds

    def restart(self) -> None:
        self.boot += 1
        self.up = 5.0


def put(store: Store, data: bytes) -> str:
    sha = hashlib.sha256(data).hexdigest()
    if sha not in store.blobs():
        store.put(sha, len(data), [data])
    return sha


def kept(store: Store, note: str, model: str = "cls") -> str:
    """Store a release and return its id; nobody has proven it."""
    nb, golden = put(store, b"the model " + note.encode()), put(store, b"the golden")
    manifest = {"model": {"name": model, "nb": nb}, "golden": [golden], "runtime": "system", "verify": {}, "note": note}
    return store.write_release(manifest)


def proven(store: Store, note: str, model: str = "cls") -> str:
    """Store a release as if it had been proven, and return its id."""
    identity = kept(store, note, model)
    store.record_verification(identity, "f", at=1)
    return identity


def opened(root: object, clock: Clock) -> Store:
    store = Store(str(root), clock)
    lock_and_recover(store)
    return store


def links(store: Store, model: str = "cls") -> tuple:
    """Return what `current` and `previous` point to; "" for nothing."""
    return store.link(model, "current"), store.link(model, "previous")


def refused(code: str, call: Callable, *args: object) -> str:
    """Return the sentence of the StoreError that `call` must end with."""
    with pytest.raises(StoreError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    return str(caught.value)
