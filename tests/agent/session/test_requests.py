"""The requests about trust, room, drift and reports, as a controller sends them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_agent.install import pending_reports as inbox
from litefleet_agent.releases.store import Store, release_id

from tests.agent.session.test_server import Peer, files, sha
from tests.agent.support import nb_builder
from tests.agent.support.ssh_signing import Key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def send_release(peer: Peer, **more: object) -> dict:
    parts = nb_builder.small(), b"golden"
    for data in parts:
        peer.ask("put", data, sha256=sha(data))
    return peer.ask("release", manifest=MANIFEST, **more)


MANIFEST = {
    "model": {"name": "m", "nb": sha(nb_builder.small())},
    "golden": [sha(b"golden")],
    "runtime": "system",
    "verify": {},
}


def test_signers_then_sealed_releases_only(root: Path, tmp_path: Path) -> None:
    key = Key(tmp_path, "ops")
    with Peer(root) as peer:
        assert peer.ask("hello")["result"]["trust"] == {"signers": "", "fleet": "", "latest": 0, "numbers": {}}
        assert peer.ask("trust", allowed_signers=key.line, signature="")["result"] == {"changed": True}
        assert peer.ask("trust", allowed_signers=key.line)["result"] == {"changed": False}
        assert peer.ask("trust", allowed_signers=Key(tmp_path, "foe").line)["error"]["code"] == "bad-signature"
        assert peer.ask("trust", allowed_signers="none")["error"]["code"] == "bad-request"
        assert send_release(peer)["error"]["code"] == "unsigned"
        identity = release_id(MANIFEST)
        seal = {
            "schema": 1,
            "release": identity,
            "model": "m",
            "fleet": "f",
            "number": 2,
            "issued": 1,
            "expires": 1 << 40,
        }
        assert send_release(peer, sealed=key.seal(seal))["result"] == {"release": identity, "findings": []}
        said = peer.ask("hello")["result"]["trust"]
        assert (said["signers"], said["fleet"], said["numbers"]) == (sha(key.line.encode()), "f", {"m": 2})
        assert send_release(peer, sealed=key.seal({**seal, "number": 1}))["error"]["code"] == "too-old"
        assert peer.end()[0] == 0


def test_room_is_made_over_the_wire(root: Path) -> None:
    with Peer(root) as peer:
        send_release(peer)
        peer.ask("put", b"stray", sha256=sha(b"stray"))
        made = peer.ask("room", bytes=0, keep=1, pinned=[], quota=None, wanted=[], runtime="")["result"]
        assert made["dropped"] == []
        assert made["freed"] > 0
        assert set(peer.ask("hello")["result"]["blobs"]) == {MANIFEST["model"]["nb"], sha(b"golden")}
        assert peer.ask("room", bytes=1 << 50, quota=1 << 20)["error"]["code"] == "over-quota"
        assert peer.ask("room", bytes=1 << 59)["error"]["code"] == "disk-full"
        for odd in ({"bytes": -1}, {"bytes": "all"}, {"keep": 1.5}, {"pinned": "x"}, {"wanted": [None]}):
            assert peer.ask("room", **odd)["error"]["code"] == "bad-request"
        dropped = peer.ask("room", bytes=0, keep=0)["result"]["dropped"]
        assert dropped == [release_id(MANIFEST)]
        assert files(root) == []


def test_a_check_and_the_reports_that_wait(root: Path) -> None:
    store = Store(str(root))
    store.lock()
    report = inbox.add_report(store, inbox.InstallReport(1, "b.zip", [])).to_dict()
    store.unlock()
    Path(store.path("models", "m")).mkdir()
    Path(store.path("models", "m", "current")).write_text("mine")
    with Peer(root) as peer:
        assert peer.ask("hello")["result"]["reports"] == [report]
        found = peer.ask("check", deep=True)["result"]["models"]
        assert [f["code"] for f in found["m"]["findings"]] == ["LF601"]
        assert peer.ask("collected", ids=[report["id"]])["result"] == {"removed": 1}
        assert peer.ask("hello")["result"]["reports"] == []
        assert peer.ask("collected")["error"]["code"] == "bad-request"
    assert json.dumps(report)
