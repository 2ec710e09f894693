"""Bytes on wires: frames, the service's socket, a worker's answers, the service's answers to a client, a bootstrap's line."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.client import Client, ServiceError
from litefleet_agent.formats.nb import Tensor
from litefleet_agent.formats.npz import Array
from litefleet_agent.protocol import FrameDecoder, ProtocolError, encode
from litefleet_agent.service.framing import FrameReader
from litefleet_agent.service.messages import (
    Rejection,
    ServedModel,
    body_size,
    facts_of,
    findings_of,
    outcomes_of,
    results_of,
    tensors_of,
    validate_inputs,
)
from litefleet_controller.devices.bootstrap import parse_answer
from litefleet_controller.infer.outputs import read_answers, reported_findings

from tests.fuzz.harness import Reader, Values, fuzz

X, Y = Tensor("x", "float32", (1, 2)), Tensor("y", "float32", (1, 1))
MODEL = ServedModel("cls", "a" * 64, (X,), (Y,))
OUTPUT = {"name": "y", "dtype": "float32", "dims": [1, 1], "lod": [[0, 1]]}
INFER = {
    "id": 1,
    "op": "infer",
    "model": "cls",
    "inputs": [{"name": "x", "dtype": "float32", "dims": [1, 2], "lod": [[0, 1]]}],
}
FRAMES = encode(INFER, 8) + bytes(8) + encode({"id": 2, "op": "status"}) + encode({"id": 3, "op": "health", "x": "é"})
ANSWER = {"requests": [{"outputs": [OUTPUT], "ms": 3.5}, {"error": {"code": "bad-input", "message": "no"}}]}
WORDS = (b"LFF1", b"\xff" * 8, b"\0" * 8, b'{"id":', b"[" * 2000, b"1e999", b"9" * 5000, b"\\ud800")


def frames(data: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(data)
    while decoder.next_header() is not None:
        if decoder.body() is None:
            return


def requests(data: bytes) -> None:
    """Read frames as the service does: headers decide whether a body is kept."""

    def validate(header: dict[str, Any], size: int) -> None:
        if header.get("op") == "infer":
            validate_inputs(MODEL, tensors_of(header.get("inputs")), size)

    reader = FrameReader(validate=validate)
    for at in range(0, len(data), 97):
        reader.feed(data[at : at + 97])
        while reader.next_frame() is not None:
            pass


def test_frames() -> None:
    fuzz(Reader("frames", (FRAMES,), frames, (ProtocolError,), WORDS))
    fuzz(Reader("requests", (FRAMES,), requests, (ProtocolError, Rejection), WORDS))


def test_a_workers_answers() -> None:
    def read(result: Any) -> None:
        outcomes = outcomes_of({"result": result}, 2, MODEL)
        size = body_size(outcomes)
        assert size >= 0
        results_of(outcomes, bytes(min(size, 1 << 20)), "a" * 64, 3.5)

    fuzz(Values("worker's answer", (ANSWER,), read, (ProtocolError,)))
    ready = {"load_ms": 3, "runtime_version": "2", "numpy_version": "1", "batches": True, "golden": {"p50_ms": 1}}
    fuzz(Values("worker's facts", (ready,), lambda made: facts_of(made if isinstance(made, dict) else {}), ()))
    found = [{"code": "LF302", "severity": "error", "observed": "x", "certainty": "likely"}]
    fuzz(Values("worker's findings", (found,), findings_of, ()))


def test_answers_to_infer() -> None:
    body = bytes(4)

    def read(result: Any) -> None:
        reported_findings(result if isinstance(result, dict) else {})
        answers, _ = read_answers(result if isinstance(result, dict) else {}, body, ("a", "b"))
        assert len(answers) == 2

    fuzz(Values("answers to infer", (ANSWER,), read, (ProtocolError,)))


def test_the_bootstraps_line() -> None:
    nonce = "abc123"
    line = f"LFBOOT {nonce} nopython machine=armv7l bits=32 libc=musl os=alpine kernel=6.1".encode()

    def read(data: bytes) -> None:
        answer = parse_answer(data, nonce)
        assert answer is None or all(len(value) <= 80 for value in answer.facts.values())

    fuzz(
        Reader("bootstrap", (line, f"LFBOOT {nonce} have".encode()), read, (), (b"LFBOOT", b"=", b" ", b"\n", b"\xff"))
    )


class LyingService:
    """Answers each request on a Unix socket with the bytes in `answer`, and closes the connection."""

    def __init__(self, path: Path) -> None:
        self.path, self.answer = path, b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(self.answer)

    def close(self) -> None:
        """Stop."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LyingService]:
    made = LyingService(tmp_path / "s")
    yield made
    made.close()


def test_a_client_of_a_service_that_lies(service: LyingService) -> None:
    answer = {"re": 1, "result": {"release": "a" * 64, "ms": 3.5, "outputs": [OUTPUT], "models": [{}], "text": "x"}}
    good = encode(answer, 4) + bytes(4)
    asked: tuple[Callable[[Client], object], ...] = (
        lambda client: client.infer("cls", {"x": Array("float32", (1, 2), bytes(8))}),
        Client.status,
        Client.models,
        Client.metrics,
    )
    dice = random.Random(1)

    def read(data: bytes) -> None:
        service.answer = data
        with Client(str(service.path), timeout_s=2) as client:
            dice.choice(asked[1:] if data == good else asked)(client)

    fuzz(Reader("client", (good,), read, (ServiceError,), WORDS, limit_s=3, limit_bytes=80 << 20))

    def value(made: Any) -> None:
        with contextlib.suppress(ProtocolError):
            read(encode(made, 4) + bytes(4))

    fuzz(Values("client's values", (answer,), value, (ServiceError,), limit_s=3, limit_bytes=80 << 20))
