"""A session's `infer`, with real Paddle-Lite: by a worker of its own, or by the service that has the release loaded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.formats.npz import read_npz
from litefleet_agent.protocol import PREFIX_SIZE, decode_header, decode_prefix, encode

from tests.agent.session.test_server import AGENT, Peer

pytestmark = pytest.mark.toolchain


class Device(Peer):
    """A session on a device with Paddle-Lite."""

    def __init__(self, root: Path, python: Path) -> None:
        super().__init__(root, str(python))
        self.root = root
        self.body = b""
        self.identity = ""

    def answer(self) -> dict:
        header, body = decode_prefix(self.exactly(PREFIX_SIZE))
        told = decode_header(self.exactly(header))
        self.body = self.exactly(body)
        return told

    def put(self, path: Path) -> str:
        data = path.read_bytes()
        sha = hashlib.sha256(data).hexdigest()
        assert "result" in self.ask("put", data, sha256=sha)
        return sha

    def release(self, nb: Path, goldens: list[Path], name: str = "cls") -> str:
        manifest = {
            "schema": 1,
            "model": {"name": name, "nb": self.put(nb), "opt_version": "v2.13-rc", "variant": {}},
            "golden": [self.put(path) for path in goldens],
            "runtime": "system",
            "verify": {"runs": 2, "warmup": 0, "time_limit_s": 100},
        }
        return self.ask("release", manifest=manifest)["result"]["release"]

    def proven(self, identity: str) -> str:
        """Write down a proof that was never made."""
        (self.root / "verified").mkdir(exist_ok=True)
        (self.root / "verified" / f"{identity}.json").write_text(json.dumps({"fingerprint": "f", "at": 1}))
        return identity

    def current(self, nb: Path, goldens: list[Path], name: str = "cls") -> str:
        identity = self.release(nb, goldens, name)
        proof = self.ask("verify", release=identity)["result"]
        assert proof["verified"], proof
        assert self.ask("activate", release=identity, lease_s=0)["result"]["changed"]
        return identity

    def infer(self, *inputs: np.ndarray, **more: object) -> dict:
        """Ask for these inputs of `x`, one request each; return the whole answer."""
        told = [{"inputs": [{"name": "x", "dtype": x.dtype.name, "dims": list(x.shape)}]} for x in inputs]
        data = b"".join(x.tobytes() for x in inputs)
        return self.ask("infer", data, **{"model": "cls", "requests": told, **more})

    def outputs(self, answer: dict) -> list[np.ndarray]:
        """Return each request's one output out of the body."""
        at, found = 0, []
        for request in answer["result"]["requests"]:
            (tensor,) = request["outputs"]
            size = 4 * int(np.prod(tensor["dims"]))
            found.append(np.frombuffer(self.body[at : at + size], "<f4").reshape(tensor["dims"]))
            at += size
        assert at == len(self.body)
        return found


def array(path: Path, name: str = "x") -> np.ndarray:
    value = read_npz(path)[name]
    return np.frombuffer(value.data, value.dtype).reshape(value.shape)


def expected(path: Path) -> np.ndarray:
    return array(path, next(name for name in read_npz(path) if name != "x"))


@pytest.fixture
def device(tmp_path, lite_python, nb_files, goldens):
    with Device(tmp_path / "root", lite_python) as made:
        made.identity = made.current(nb_files("cls", "x86"), goldens["cls"])
        yield made


def test_inputs_of_several_sizes_come_back_as_the_reference_has_them(device, goldens):
    first, second = goldens["cls"]
    pair = np.concatenate([array(second), array(first)])
    answer = device.infer(array(first), pair, array(second))
    result = answer["result"]
    assert (result["by"], result["precision"], result["findings"]) == ("one-shot", "fp32", [])
    assert (result["model"], result["release"]) == ("cls", device.identity)
    assert all(request["ms"] > 0 for request in result["requests"])
    one, two, three = device.outputs(answer)
    np.testing.assert_allclose(one, expected(first), atol=1e-5)
    np.testing.assert_allclose(two, np.concatenate([expected(second), expected(first)]), atol=1e-5)
    np.testing.assert_allclose(three, expected(second), atol=1e-5)


def test_what_does_not_fit_is_refused_whole_and_the_session_goes_on(device, goldens):
    good = array(goldens["cls"][0])
    bad = good.copy()
    bad[0, 1, 2, 3] = np.nan
    refusals = [
        (device.infer(good, good[:, :1]), "bad-input", "request 2 of 2: cls: x is ? x 3 x ? x ?, and 1 x 1 x 48 x 192"),
        (device.infer(good.astype("float64")), "bad-input", "x is float32, and float64 was sent: convert it first"),
        (device.infer(bad), "bad-input", "request 1 of 1: 'x' holds NaN or Inf"),
        (device.infer(), "bad-request", "`requests` must be a list of 1 to 256"),
        (device.infer(*[good[:, :, :1, :1]] * 257), "bad-request", "`requests` must be a list of 1 to 256"),
        (device.infer(good, limit_s=0), "bad-request", "`limit_s` must be a number from 0.05 to 3600.0"),
        (device.infer(good, release=7), "bad-request", "a release is named by its id (8 digits of it are enough)"),
        (device.infer(good, release="previous"), "not-kept", "cls has no previous release on this device"),
        (device.infer(good, model="det"), "not-current", "no release of det is current on this device, which runs cls"),
        (device.infer(good, model="../x"), "bad-request", ""),
        (device.infer(good, release="f" * 64), "not-kept", "no release ffffffffffff was proven on this device"),
        (device.infer(good, model="rec", release=device.identity), "not-kept", "is a release of cls, not of rec"),
    ]
    for answer, code, words in refusals:
        assert answer["error"]["code"] == code, answer
        assert words in answer["error"]["message"]
    assert device.infer(good)["result"]["requests"][0]["ms"] > 0


def test_inputs_that_are_kept_are_named_instead_of_sent(device, goldens):
    first, second = (array(path) for path in goldens["cls"])
    described = {"inputs": [{"name": "x", "dtype": "float32", "dims": list(first.shape)}]}
    shas = [hashlib.sha256(x.tobytes()).hexdigest() for x in (first, second)]

    def ask(data: bytes, *requests: dict) -> dict:
        return device.ask("infer", data, model="cls", requests=[dict(described, **more) for more in requests])

    nothing = ask(b"", {"kept": shas[0]})["result"]
    assert nothing["requests"][0]["error"]["code"] == "inputs-not-kept"
    assert "requests" in ask(first.tobytes(), {"keep": True})["result"]
    mixed = ask(second.tobytes(), {"kept": shas[0]}, {"kept": shas[1]}, {})
    one, lacking, two = mixed["result"]["requests"]
    assert lacking["error"]["code"] == "inputs-not-kept"
    mixed["result"]["requests"] = [one, two]
    answers = device.outputs(mixed)
    np.testing.assert_allclose(answers[0], expected(goldens["cls"][0]), atol=1e-5)
    np.testing.assert_allclose(answers[1], expected(goldens["cls"][1]), atol=1e-5)
    for odd in (7, None, "../" + shas[0], shas[0][:8]):
        assert ask(b"", {"kept": odd})["result"]["requests"][0]["error"]["code"] == "inputs-not-kept"
    smaller = dict(described, inputs=[dict(described["inputs"][0], dims=[1, 3, 48, 96])], kept=shas[0])
    refused = device.ask("infer", b"", model="cls", requests=[smaller])
    assert "its inputs take 55296 bytes in these dims, and 110592 were sent" in refused["error"]["message"]


def test_a_body_that_does_not_match_its_header_is_told(device, goldens):
    x = array(goldens["cls"][0])
    told = [{"inputs": [{"name": "x", "dtype": "float32", "dims": list(x.shape)}]}]
    longer = device.ask("infer", x.tobytes() + b"more", model="cls", requests=told)
    assert longer["error"]["message"] == "the requests take 110592 bytes, and 110596 were sent"
    shorter = device.ask("infer", x.tobytes()[:-4], model="cls", requests=told)
    assert "its inputs take 110592 bytes in these dims, and 110588 were sent" in shorter["error"]["message"]


def test_a_body_that_is_too_large_is_refused_and_read_past(device, goldens):
    size = (256 << 20) + 1
    device.send(encode({"id": 7, "op": "infer", "model": "cls", "requests": []}, size))
    for _ in range(256):
        device.send(bytes(1 << 20))
    device.send(b"\0")
    answer = device.answer()
    assert answer["error"]["code"] == "too-large"
    assert "at most 268435456 are taken" in answer["error"]["message"]
    assert device.infer(array(goldens["cls"][0]))["result"]["by"] == "one-shot"


def test_a_proof_of_long_ago_is_not_enough(device, nb_files, goldens, tmp_path):
    x = array(goldens["cls"][0])
    arm = device.release(nb_files("cls", "arm"), goldens["cls"])
    assert device.infer(x, release=arm)["error"]["code"] == "not-kept"
    device.proven(arm)
    answer = device.infer(x, release=arm[:8])["result"]
    assert (answer["requests"], answer["findings"][0]["code"]) == ([], "LF101")
    held = {name: array(goldens["cls"][0], name) for name in read_npz(goldens["cls"][0])}
    np.savez(tmp_path / "wrong.npz", **{k: v if k == "x" else 1 - v for k, v in held.items()})
    wrong = device.proven(device.release(nb_files("cls", "x86"), [tmp_path / "wrong.npz", goldens["cls"][1]]))
    answer = device.infer(x, release=wrong)["result"]
    assert (answer["requests"], answer["findings"][0]["code"]) == ([], "LF403")
    assert (answer["release"], device.body) == (wrong, b"")


def test_the_service_answers_where_it_has_the_release(device, lite_python, goldens, tmp_path):
    first, second = goldens["cls"]
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from litefleet_agent.cli import main; sys.exit(main())"
    argv = [str(lite_python), "-I", "-c", code, str(AGENT), "serve", "--root", str(tmp_path / "root")]
    service = subprocess.Popen(argv, stderr=subprocess.DEVNULL, env=dict(os.environ, RUNTIME_DIRECTORY=""))
    try:
        by, end = "", time.monotonic() + 60
        while by != "service" and time.monotonic() < end:
            answer = device.infer(array(first), array(second))
            by = answer["result"]["by"]
        assert by == "service"
        for got, path in zip(device.outputs(answer), goldens["cls"]):  # noqa: B905 - 3.7
            np.testing.assert_allclose(got, expected(path), atol=1e-5)
    finally:
        service.kill()
        service.wait()
    assert device.infer(array(first))["result"]["by"] == "one-shot"  # a socket that nobody answers on


def test_without_a_runtime_nothing_is_run(tmp_path, nb_files, goldens):
    with Device(tmp_path / "root", Path(sys.executable)) as bare:
        identity = bare.proven(bare.release(nb_files("cls", "x86"), goldens["cls"]))
        answer = bare.infer(array(goldens["cls"][0]), release=identity)["result"]
    assert answer["requests"] == []
    assert answer["findings"][0]["code"] in ("LF302", "LF315")
