"""A release whose files are missing or changed does not count as verified, and what is missing is to be sent again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from litefleet_agent.facts import gather
from litefleet_agent.releases.activation import activate
from litefleet_agent.releases.intact import Intact, intact_releases, stamps_of
from litefleet_agent.releases.store import Store, VerificationRecord
from litefleet_agent.session.hello import hello

from tests.agent.support.release_fixtures import kept


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    return opened


@pytest.fixture
def current(store: Store) -> str:
    """A current release that was verified by this agent."""
    identity = kept(store, "one")
    store.record_verification(identity, "f", {"p50": 1}, at=5, files=stamps_of(store, identity))
    activate(store, identity)
    return identity


def answer(store: Store) -> dict:
    """What a controller is told, as JSON."""
    return json.loads(json.dumps(hello(store, gather(store.root), "v").to_dict()))


def blob(store: Store, identity: str) -> Path:
    return Path(store.blob(store.release(identity).nb))


def test_a_whole_release_is_verified_and_nothing_of_it_is_read(
    store: Store, current: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "check_blob", lambda sha: pytest.fail("read"))
    assert intact_releases(store, [current]) == Intact({current: store.verified(current)}, set())
    told = answer(store)
    assert told["verified"] == {current: {"fingerprint": "f", "at": 5, "measurements": {"p50": 1}}}
    assert set(told["blobs"]) == set(store.release(current).blobs)


def test_a_deleted_blob_is_sent_again(store: Store, current: str) -> None:
    path = blob(store, current)
    path.unlink()
    told = answer(store)
    assert told["verified"] == {}
    assert told["current"] == {"cls": current}
    assert path.name not in told["blobs"]


def test_a_damaged_blob_is_sent_again_and_then_verified_anew(store: Store, current: str) -> None:
    path, data = blob(store, current), blob(store, current).read_bytes()
    before = path.stat()
    path.write_bytes(bytes(len(data)))  # of the same size, and the time is set back
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    told = answer(store)
    assert told["verified"] == {}
    assert path.name not in told["blobs"]
    store.put(path.name, len(data), [data])
    assert list(answer(store)["verified"]) == [current]  # its bytes are right again


def test_a_manifest_that_is_gone_or_damaged_is_sent_again(store: Store, current: str) -> None:
    path = Path(store.path("releases", current + ".json"))
    document = json.loads(path.read_text())
    path.write_text("{}")
    assert answer(store)["verified"] == {}
    path.unlink()
    assert answer(store)["verified"] == {}
    assert store.write_release(document) == current
    assert list(answer(store)["verified"]) == [current]


def test_a_runtime_that_is_gone_is_noticed(store: Store) -> None:
    os.mkdir(store.path("runtimes", "r1"))
    document = dict(store.release(kept(store, "one")).document, runtime="r1")
    identity = store.write_release(document)
    store.record_verification(identity, "f", files=stamps_of(store, identity))
    assert list(intact_releases(store, [identity]).verified) == [identity]
    shutil.rmtree(store.path("runtimes", "r1"))
    assert intact_releases(store, [identity]) == Intact({}, set())


def test_the_records_of_older_agents_have_no_stamps_and_their_files_are_read(store: Store, current: str) -> None:
    store.record_verification(current, "f", at=5)
    assert list(answer(store)["verified"]) == [current]
    blob(store, current).write_bytes(b"other")
    assert answer(store)["verified"] == {}


@pytest.mark.parametrize("files", [7, [], {"a": 7}, {"a": [1, 2, 3]}, {"a": [1, 2, 3, "4"]}, {"a": [True, 2, 3, 4]}])
def test_stamps_that_are_not_well_formed_count_as_none(files: object) -> None:
    assert VerificationRecord.parse({"fingerprint": "f", "at": 1, "files": files}).files == {}


def test_the_record_keeps_its_form_on_the_disk(store: Store, current: str) -> None:
    data = json.loads(Path(store.path("verified", current + ".json")).read_text())
    assert (data["fingerprint"], data["at"], data["measurements"]) == ("f", 5, {"p50": 1})
    assert VerificationRecord.parse(data) == store.verified(current)
