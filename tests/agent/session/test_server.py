"""One whole session as a device runs it: a child process on pipes, spoken to in bytes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from litefleet_agent.protocol import MAX_HEADER, PREFIX_SIZE, decode_header, decode_prefix, encode

from tests.agent.support import nb_builder
from tests.conftest import find_python, lacking

AGENT = Path(__file__).parents[3] / "agent"
SERVE = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from litefleet_agent.session import serve\n"
    "sys.exit(serve(sys.argv[2], 'v1', bytes.fromhex(sys.argv[3])))"
)
# The same, with a device whose own modules print while the agent works.
CHATTY = (
    "import sys, os; sys.path.insert(0, sys.argv[1])\n"
    "from litefleet_agent.session import server as session\n"
    "base = session.Session\n"
    "class Loud(base):\n"
    "    def _hello(self, header):\n"
    "        print('a module prints', flush=True); os.system('echo a program prints')\n"
    "        return base._hello(self, header)\n"
    "session.Session = Loud\n"
    "sys.exit(session.serve(sys.argv[2], 'v1'))"
)


P = TypeVar("P", bound="Peer")


class Peer:
    """The controller's end of a session."""

    def __init__(self, root: Path, python: str = sys.executable, code: str = SERVE, ahead: bytes = b"") -> None:
        argv = [python, "-I", "-c", code, str(AGENT), str(root), ahead.hex()]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                pipe.close()

    def send(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def exactly(self, size: int) -> bytes:
        data = self.process.stdout.read(size)
        assert len(data) == size, self.process.stderr.read().decode()
        return data

    def answer(self) -> dict:
        header, body = decode_prefix(self.exactly(PREFIX_SIZE))
        assert body == 0
        return decode_header(self.exactly(header))

    def ask(self, op: object, body: bytes = b"", **fields: object) -> dict:
        self.send(encode({"id": 7, "op": op, **fields}, len(body)) + body)
        answer = self.answer()
        while "event" in answer:
            answer = self.answer()
        assert answer["re"] == 7
        return answer

    def end(self) -> tuple[int, bytes, str]:
        """Close our end; return the exit code, the unread output and what was said on stderr."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err.decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(data: bytes, number: int = 1) -> bytes:
    return encode({"id": number, "op": "put", "sha256": sha(data)}, len(data)) + data


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and not p.name.endswith("lock"))


@pytest.mark.parametrize("version", ["", "3.7", "3.13"])
def test_hello_on_old_and_new_pythons(root: Path, version: str) -> None:
    python = find_python(version) if version else sys.executable
    if python == version:
        lacking(f"no Python {version} in pyenv's folder")
    with Peer(root, python) as peer:
        hello = peer.ask("hello")["result"]
        assert (hello["agent"], hello["root"], hello["blobs"], hello["current"]) == ("v1", str(root), {}, {})
        assert hello["facts"]["machine"] == os.uname().machine
        assert len(hello["fingerprint"]) > 8
        assert not root.exists()  # looking changes nothing
        assert peer.ask("put", b"x", sha256=sha(b"x")) == {"re": 7, "result": {"stored": 1}}
        assert peer.ask("hello")["result"]["blobs"] == {sha(b"x"): 1}
        assert peer.end() == (0, b"", "")


@pytest.mark.parametrize("op", ["reboot", "", None, 7, {"a": 1}, "__init__", "x" * 9000])
def test_unknown_requests_are_answered_and_the_session_goes_on(root: Path, op: object) -> None:
    with Peer(root) as peer:
        error = peer.ask(op, b"a body that has to be passed over")["error"]
        assert error["code"] == "bad-request"
        assert error["message"].startswith("unknown request ")
        assert len(error["message"]) < 100
        assert "result" in peer.ask("hello")


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("put", {}),
        ("put", {"sha256": None}),
        ("put", {"sha256": "../../etc/passwd"}),
        ("runtime", {"key": "a"}),
        ("runtime", {"key": ["a"], "sha256": 1}),
        ("release", {}),
        ("release", {"manifest": []}),
        ("release", {"manifest": {"model": {"name": "m", "nb": {}}}}),
        ("verify", {}),
        ("verify", {"release": "../x"}),
        ("activate", {"release": {}}),
    ],
)
def test_requests_that_do_not_fit_are_sentences(root: Path, op: str, fields: dict) -> None:
    with Peer(root) as peer:
        error = peer.ask(op, b"body", **fields)["error"]
        assert error["code"] == "bad-request"
        assert error["message"]
        assert "result" in peer.ask("hello")
        assert peer.end() == (0, b"", "")
    assert files(root) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "expected a frame, got the bytes b'GET / HTTP/1.1"),
        (struct.pack(">4sIQ", b"LFF1", 5, 0) + b"{nope", "a frame's header is not JSON"),
        (struct.pack(">4sIQ", b"LFF1", 2, 0) + b"[]", "is not a JSON object"),
        (struct.pack(">4sIQ", b"LFF1", 200000, 0) + b"[" * 200000, "is not JSON"),
        (struct.pack(">4sIQ", b"LFF1", MAX_HEADER + 1, 0), "too large"),
        (struct.pack(">4sIQ", b"LFF1", 2, 1 << 62), "too large"),
    ],
    ids=[
        "http",
        "not-json",
        "not-an-object",
        "too-deep",
        "header-too-large",
        "body-too-large",
    ],  # pytest puts ids in the environment
)
def test_a_peer_that_does_not_speak_the_protocol_ends_the_session(root: Path, data: bytes, words: str) -> None:
    with Peer(root) as peer:
        peer.send(data)
        code, out, err = peer.end()
    assert (code, out) == (1, b"")
    assert err.startswith("litefleet-agent: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("cut", [3, PREFIX_SIZE, PREFIX_SIZE + 10, -1])
def test_a_controller_that_leaves_in_the_middle_leaves_nothing(root: Path, cut: int) -> None:
    with Peer(root) as peer:
        peer.send(put(bytes(50000))[:cut])
        assert peer.end() == (0, b"", "")
    assert files(root) == []


def test_a_blob_that_was_cut_is_told_and_goes_on(root: Path) -> None:
    data = os.urandom(500_000)
    with Peer(root) as peer:
        peer.send(put(data)[:-200_000])
        assert peer.end() == (0, b"", "")
    with Peer(root) as peer:
        told = peer.ask("hello")["result"]
        assert (told["blobs"], told["parts"]) == ({}, {sha(data): 300_000})
        assert peer.ask("part", sha256=sha(data))["result"] == {"size": 300_000, "sha256": sha(data[:300_000])}
        assert peer.ask("part", sha256="0" * 64)["result"] == {"size": 0, "sha256": ""}
        assert peer.ask("put", data[300_000:], sha256=sha(data), offset=300_000)["result"] == {"stored": 500_000}
        told = peer.ask("hello")["result"]
        assert (told["blobs"], told["parts"]) == ({sha(data): 500_000}, {})


def test_requests_sent_ahead_are_answered_in_order(root: Path) -> None:
    blobs = [b"%d" % n * 1000 for n in range(20)]
    ahead = b"".join(put(data, n) for n, data in enumerate(blobs, 1)) + encode({"id": 21, "op": "hello"})
    with Peer(root, ahead=encode({"id": 99, "op": "nothing"}) + ahead[:7]) as peer:
        peer.send(ahead[7:])
        answers = [peer.answer() for _ in range(22)]
        assert [a["re"] for a in answers] == [99, *range(1, 22)]
        assert answers[-1]["result"]["blobs"] == {sha(data): len(data) for data in blobs}


def test_frames_may_come_byte_by_byte(root: Path) -> None:
    with Peer(root) as peer:
        for byte in put(b"slow"):
            peer.send(bytes([byte]))
        assert peer.answer() == {"re": 1, "result": {"stored": 4}}


def test_what_others_print_never_gets_between_the_frames(root: Path) -> None:
    with Peer(root, code=CHATTY) as peer:
        assert "result" in peer.ask("hello")
        assert peer.end() == (0, b"", "a module prints\na program prints\n")


def test_two_controllers_at_once(root: Path) -> None:
    with Peer(root) as first, Peer(root) as second:
        assert "result" in first.ask("put", b"a", sha256=sha(b"a"))
        error = second.ask("put", b"b", sha256=sha(b"b"))["error"]
        assert error["code"] == "busy"
        assert f"pid {first.process.pid}" in error["message"]
        assert second.ask("hello")["result"]["blobs"] == {sha(b"a"): 1}
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert "result" in second.ask("put", b"b", sha256=sha(b"b"))


def test_an_answer_too_large_to_send_is_a_sentence(root: Path) -> None:
    (root / "blobs").mkdir(parents=True)
    for number in range(16000):
        (root / "blobs" / sha(b"%d" % number)).touch()
    with Peer(root) as peer:
        error = peer.ask("hello")["error"]
        assert error["code"] == "too-large"
        assert "over the limit" in error["message"]
        assert "result" in peer.ask("put", b"x", sha256=sha(b"x"))


def test_everything_written_is_this_users_alone(root: Path) -> None:
    before = os.umask(0)
    try:
        peer = Peer(root)
    finally:
        os.umask(before)
    with peer:
        assert "result" in peer.ask("put", b"x", sha256=sha(b"x"))
    open_to_others = [str(p) for p in [root, *root.rglob("*")] if p.stat().st_mode & 0o077]
    assert open_to_others == []


@pytest.mark.toolchain
def test_a_child_ends_when_the_controller_goes_away(root: Path, lite_python: Path, nb_files, goldens) -> None:
    """The model would run for minutes; the controller is gone after the first sign of life."""
    nb, golden = nb_files("det", "x86").read_bytes(), goldens["det"][0].read_bytes()
    manifest = {"model": {"name": "det", "nb": sha(nb)}, "golden": [sha(golden)], "runtime": "system"}
    manifest["verify"] = {"runs": 10000}
    with Peer(root, str(lite_python)) as peer:
        for data in (nb, golden):
            peer.send(put(data))
            assert "result" in peer.answer()
        release = peer.ask("release", manifest=manifest)["result"]["release"]
        peer.send(encode({"id": 8, "op": "verify", "release": release}))
        answer = peer.answer()
        assert answer == {"event": "running"}, json.dumps(answer)
        pid = peer.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        code, _, err = hang_up(peer)
    assert (code, err) == (0, "")
    assert not Path(f"/proc/{child}").exists()
    assert os.listdir(str(root / "work")) == []
    assert os.listdir(str(root / "verified")) == []


def hang_up(peer: Peer) -> tuple[int, bytes, str]:
    """Close both pipes, as sshd does, and wait for the end."""
    peer.process.stdin.close()
    peer.process.stdout.close()
    begun = time.monotonic()
    code = peer.process.wait(timeout=20)
    assert time.monotonic() - begun < 5
    return code, b"", peer.process.stderr.read().decode()


def test_a_release_is_kept_proven_and_refused_without_a_device_in_sight(root: Path) -> None:
    nb, golden = nb_builder.small(), b"no golden at all"
    with Peer(root) as peer:
        for data in (nb, golden):
            peer.send(put(data))
            peer.answer()
        manifest = {"model": {"name": "m", "nb": sha(nb)}, "golden": [sha(golden)], "runtime": "system", "verify": {}}
        release = peer.ask("release", manifest=manifest)["result"]["release"]
        answer = peer.ask("verify", release=release)["result"]
        assert answer["verified"] is False
        assert answer["findings"]
        assert peer.ask("activate", release=release)["error"]["code"] == "not-verified"
