"""`litefleet-agent verify`: what it says and records about the releases that are switched on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.cli import main
from litefleet_agent.facts import fingerprint, gather
from litefleet_agent.findings import Verdict
from litefleet_agent.releases.activation import activate
from litefleet_agent.releases.store import Store, StoreError, VerificationRecord
from litefleet_agent.verification.release import ReleaseVerification, verify_current

from tests.agent.session.test_server import Peer
from tests.agent.support.bench_fixtures import opened, release
from tests.agent.support.release_fixtures import kept, proven
from tests.conftest import lite_environment, raw_nb

FACTS = gather("/")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose model `cls` is switched on, with a proof of another environment; nobody holds it."""
    opened = Store(str(tmp_path / "root"))
    opened.lock()
    activate(opened, proven(opened, "one"))
    opened.unlock()
    return opened


def verifier(verdict: str) -> Callable[..., ReleaseVerification]:
    """Let a proof come out like this: the proof itself has its own tests, with the real Paddle-Lite."""

    def prove(store: Store, identity: str, facts: Any, on_tick: Any) -> ReleaseVerification:
        assert store.locked
        return ReleaseVerification(Verdict(verdict), [], {"p50": 9}, ran=True)

    return prove


def test_a_file_that_is_no_model_takes_the_proof_away(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    identity = store.link("cls", "current")
    assert main(["verify", "--root", store.root, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["models"]["cls"]
    assert (told["release"], told["verdict"], told["findings"][0]["code"]) == (identity, "refused", "LF106")
    assert store.verified(identity) is None
    assert not store.locked


def test_a_model_file_that_is_gone_is_a_finding(store: Store) -> None:
    manifest = store.release(store.link("cls", "current"))
    Path(store.blob(manifest.nb)).unlink()
    _, result = verify_current(store, FACTS)["cls"]
    assert [f.code for f in result.findings] == ["LF602"]


def test_a_manifest_that_is_damaged_is_a_finding(store: Store) -> None:
    Path(store.path("releases", store.link("cls", "current") + ".json")).write_text("{}")
    _, result = verify_current(store, FACTS)["cls"]
    assert [f.code for f in result.findings] == ["LF601"]


@pytest.mark.parametrize("which", [0, 1], ids=["model", "golden"])
def test_a_changed_byte_is_found_even_where_the_model_would_still_pass(store: Store, which: int) -> None:
    identity = store.link("cls", "current")
    path = Path(store.blob(store.release(identity).blobs[which]))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    _, result = verify_current(store, FACTS, verifier=verifier("verified"))["cls"]
    assert [f.code for f in result.findings] == ["LF602"]
    assert path.name[:12] in result.findings[0].observed
    assert store.verified(identity) is None


def test_a_proof_is_recorded_for_the_environment_of_now(store: Store) -> None:
    verify_current(store, FACTS, verifier=verifier("verified"))
    record = store.verified(store.link("cls", "current"))
    assert record is not None
    assert (record.fingerprint, record.measurements) == (fingerprint(FACTS), {"p50": 9})
    store.record_verification(store.link("cls", "current"), record.fingerprint, {"p50": 4}, at=1)
    verify_current(store, FACTS, verifier=verifier("verified"))
    again = store.verified(store.link("cls", "current"))
    assert again is not None
    assert again.measurements == {"p50": 4}  # what idle priority measures is not what the model takes
    assert again.at > 1


def test_being_slow_beside_the_service_takes_no_proof_away(store: Store) -> None:
    assert verify_current(store, FACTS, verifier=verifier("slow"))["cls"][1].verdict is Verdict.SLOW
    assert store.verified(store.link("cls", "current")) == VerificationRecord("f", 1, {})


def test_only_what_is_switched_on_is_proven(store: Store) -> None:
    store.lock()
    kept(store, "another", "rec")
    store.unlock()
    assert list(verify_current(store, FACTS, verifier=verifier("verified"))) == ["cls"]


def test_a_session_at_work_is_waited_for_and_then_left_alone(store: Store) -> None:
    other = Store(store.root)
    other.lock()
    with pytest.raises(StoreError) as caught:
        verify_current(store, FACTS, timeout_s=0.05)
    other.unlock()
    assert caught.value.code == "busy"
    assert store.verified(store.link("cls", "current")) == VerificationRecord("f", 1, {})


def test_nothing_there_is_nothing_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--root", str(tmp_path / "none")]) == 0
    assert "nothing to verify" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("args", [["--root"], ["cls"], ["--jsn"]])
def test_wrong_use(args: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *args]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.toolchain
def test_a_current_release_keeps_the_engine_of_its_proof(tmp_path: Path, goldens: dict) -> None:
    store = opened(tmp_path / "device")
    files = tuple(path.read_bytes() for path in goldens["cls"])
    identity = release(store, raw_nb("cls", "x86").read_bytes(), files, "system", "cls")
    store.record_verification(identity, "f", {"latency_ms": {}})  # as agents did that had the binding alone
    other = release(store, raw_nb("cls", "x86").read_bytes(), files[:1], "system", "cls", current=False)
    store.unlock()
    with Peer(tmp_path / "device", str(lite_environment())) as peer:
        engines = [
            peer.ask("verify", release=one)["result"]["measurements"]["engine"] for one in (identity, other, other)
        ]
    assert engines == ["binding", "native", "native"]
    record = store.verified(identity)
    assert record is not None
    assert record.measurements["engine"] == "binding"
