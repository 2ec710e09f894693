"""The client of the service, its commands, and the example in C, against the real callers."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.cli import main
from litefleet_agent.client import Client, ServiceError, find_socket
from litefleet_agent.formats.npz import Array, npz_bytes, read_npz
from litefleet_agent.protocol import encode

from tests.agent.support.echo_process import EchoService, answer, ask
from tests.conftest import lacking

DOCS = Path(__file__).parents[2] / "docs"
X = Array("float32", (2, 2), np.arange(4, dtype="<f4").tobytes())


@pytest.fixture
def service(tmp_path):
    with EchoService(tmp_path, idle_limit_s=1) as running:
        yield running


@pytest.fixture
def client(service):
    with Client(service.path) as client:
        yield client


def test_arrays_come_back_as_they_went(client):
    result = client.infer("echo", {"x": X, "y": Array("int64", (1,), b"\1" + b"\0" * 7)})
    assert result.outputs == {"x": X, "y": Array("int64", (1,), b"\1" + b"\0" * 7)}
    assert (result.model, result.release, result.batch) == ("echo", "f" * 64, 1)
    assert (result.wait_ms, result.run_ms) == (0.5, 1.5)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(12, dtype=np.int64).reshape(3, 4).T,
        np.arange(6, dtype=">i4")[::2],
        np.array(7, dtype=np.uint8),
        np.zeros((0, 3), dtype=np.float16),
    ],
)
def test_numpy_goes_in_and_comes_out(client, value):
    out = client.infer("echo", {"x": value}).outputs["x"]
    assert isinstance(out, np.ndarray)
    assert out.dtype == value.dtype.newbyteorder("<")
    np.testing.assert_array_equal(out, value)
    out[...] = 0  # it is the application's own


@pytest.mark.parametrize("value", [[1, 2], None, np.array(["a"]), np.array([1 + 2j])])
def test_what_is_no_tensor_is_a_sentence(client, value):
    with pytest.raises(ServiceError, match="input 'x' is") as error:
        client.infer("echo", {"x": value})
    assert error.value.code == "bad-input"


WORDS = np.arange(8, dtype=np.int64).reshape(8, 1)
ONE, TWO = ((0, 5, 8),), ((0, 1, 2), (0, 5, 8))


@pytest.mark.parametrize("lod", [ONE, TWO])
def test_sequences_go_in_and_come_out(client, lod):
    words = Array("int64", (8, 1), WORDS.tobytes(), lod)
    answered = client.infer("echo", {"words": words, "x": X})
    assert (answered.outputs, answered.lods) == ({"words": words, "x": X}, {"words": lod})
    beside = {f"words@lod{level}": np.array(offsets) for level, offsets in enumerate(lod)}
    answered = client.infer("echo", {"x": X, **beside, "words": WORDS})
    assert (list(answered.outputs), answered.lods) == (["x", "words"], {"words": lod})
    assert isinstance(answered.outputs["words"], np.ndarray)
    assert client.infer("echo", {"words": WORDS}).lods == {}


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (
            {"words@lod0": np.array([0, 5, 9])},
            "input 'words': the sequences (LoD) must be offsets that rise from 0 to 8",
        ),
        (
            {"words@lod0": np.array([0, 8], np.int32)},
            "'words@lod0' holds offsets of sequences (LoD): it must be a row of",
        ),
        ({"words@lod1": np.array([0, 8])}, "'words@lod1' comes without the level of sequences (LoD) before it"),
        (
            {"words@lod0": np.array([0] * 4096 + [8])},
            "the inputs have 4097 offsets of sequences (LoD), and one request",
        ),
    ],
)
def test_sequences_that_do_not_fit_are_a_sentence(client, beside, said):
    with pytest.raises(ServiceError, match=re.escape(said)) as raised:
        client.infer("echo", {"words": WORDS, **beside})
    assert raised.value.code == "bad-input"


def test_an_older_service_gets_no_sequences_which_it_would_drop(service, client):
    (service.folder / "older").touch()
    with pytest.raises(ServiceError, match="takes no sequences") as raised:
        client.infer("echo", {"words": WORDS, "words@lod0": np.array([0, 8])})
    assert raised.value.code == "no-lod"
    assert service.status()["served"] == 2  # `models`, and this
    (service.folder / "older").unlink()
    client.close()  # what a service takes is asked once for each connection
    assert client.infer("echo", {"words": WORDS, "words@lod0": np.array([0, 8])}).lods == {"words": ((0, 8),)}


def test_the_other_questions(client):
    assert client.health() == {"health": "ok"}
    assert client.models() == [{"name": "echo"}]
    assert client.metrics() == "up 1\n"
    assert client.status()["callers"] == 1


def test_a_refusal_has_its_code_and_the_connection_stays(client):
    with pytest.raises(ServiceError) as error:
        client.infer("unwanted", {"x": X})
    assert (error.value.code, str(error.value)) == ("bad-input", "nobody wants 16 bytes")
    assert client.infer("echo", {"x": X}).outputs == {"x": X}
    assert client.status()["gone"] == 0


def test_an_answer_that_does_not_come_is_told_in_time_and_the_next_is_not_mixed_up(service):
    with Client(service.path, timeout_s=0.3) as client:
        with pytest.raises(ServiceError) as error:
            client.infer("never", {"x": X})
        assert error.value.code == "timed-out"
        assert client.health() == {"health": "ok"}


def test_threads_may_share_a_client(client):
    wrong = []

    def ask(number):
        for _ in range(20):
            x = Array("uint8", (1000,), bytes([number]) * 1000)
            if client.infer("echo", {"x": x}).outputs != {"x": x}:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not wrong
    assert client.status()["served"] == 81


def test_a_service_that_restarted_between_requests_is_asked_again(tmp_path):
    with EchoService(tmp_path) as first:
        client = Client(first.path)
        assert client.infer("echo", {"x": X}).outputs == {"x": X}
    with EchoService(tmp_path), client:
        assert client.infer("echo", {"x": X}).outputs == {"x": X}
        assert client.status()["served"] == 2  # nothing was sent twice


@pytest.mark.parametrize("times", [1, 3])
def test_a_request_that_a_stopping_service_did_not_take_is_sent_again(service, client, times):
    (service.folder / "stopping").write_text("-" * times)
    assert client.infer("echo", {"x": X}).outputs == {"x": X}
    assert client.status()["gone"] == times  # each time on a new connection


def test_a_service_that_only_ever_stops_is_told(service, client):
    (service.folder / "stopping").write_text("-" * 100)
    with pytest.raises(ServiceError, match="stopping") as error:
        client.infer("echo", {"x": X})
    assert error.value.code == "stopping"


def test_a_request_that_was_never_read_is_sent_once_more(tmp_path):
    path = str(tmp_path / "s.sock")
    served = []

    def serve(listening):
        for turn in range(2):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                if turn == 0:
                    connection.recv(10)  # a part; the close says that the rest was not read
                    continue
                header, body = answer(connection)
                served.append(header["id"])
                result = {
                    "release": "",
                    "outputs": header["inputs"],
                    "ms": {"wait": 0, "run": 0},
                }
                connection.sendall(encode({"re": header["id"], "result": result}, len(body)) + body)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen(5)
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with Client(path) as client:
            big = Array("uint8", (4 << 20,), bytes(4 << 20))
            assert client.infer("echo", {"x": big}).outputs == {"x": big}
        thread.join(10)
    assert len(served) == 1


@pytest.mark.parametrize("model", ["bye", "cut"])
def test_a_request_that_may_have_been_run_is_not_sent_again(client, model):
    with pytest.raises(ServiceError, match="the service closed it without an answer") as error:
        client.infer(model, {"x": X})
    assert error.value.code == "gone"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        encode({"re": 99, "result": {}}),
        encode({"result": {}}),
        encode({"re": 1, "result": {"outputs": []}}),
        encode({"re": 1, "result": {"outputs": [{"name": "y", "dtype": "float99", "dims": []}], "release": ""}}),
        encode({"re": 1, "result": {"outputs": [{"name": "y", "dtype": "int8", "dims": [9]}], "release": ""}}, 2)
        + b"ab",
    ],
)
def test_an_answer_that_makes_no_sense_is_a_sentence(tmp_path, said):
    path = str(tmp_path / "s.sock")

    def serve(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(said)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen(5)
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with Client(path) as client, pytest.raises(ServiceError) as error:
            client.infer("echo", {"x": X})
        thread.join(10)
    assert error.value.code == "protocol"


def test_no_service_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(ServiceError, match="no service answers on") as error:
        Client(str(tmp_path / "none.sock")).status()
    assert error.value.code == "not-running"
    monkeypatch.setenv("LITEFLEET_SOCKET", "/some/where.sock")
    assert find_socket() == "/some/where.sock"


def test_a_full_house_is_told(tmp_path):
    with EchoService(tmp_path, connections=1) as service:
        crowd = [service.connect() for _ in range(5)]
        try:
            for connection in crowd:
                connection.sendall(ask(1, "never"))
            with Client(service.path) as client, pytest.raises(ServiceError, match="clients are connected") as error:
                client.status()
            assert error.value.code == "busy"
        finally:
            for connection in crowd:
                connection.close()


# --- the commands


def command(service, *args):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*args, "--socket", service.path])
    return code, out.getvalue()


def test_call_runs_a_file_and_writes_the_outputs(service, tmp_path):
    (tmp_path / "x.npz").write_bytes(npz_bytes({"x": X}))
    given, wanted = str(tmp_path / "x.npz"), tmp_path / "y.npz"
    code, out = command(service, "call", "echo", "--input", given, "--output", str(wanted), "--deadline-ms", "500")
    assert code == 0
    assert json.loads(out)["outputs"] == [{"name": "x", "dtype": "float32", "dims": [2, 2]}]
    assert read_npz(wanted) == {"x": X}
    words = Array("int64", (8, 1), WORDS.tobytes(), ONE)
    (tmp_path / "x.npz").write_bytes(npz_bytes({"words": words}))
    assert command(service, "call", "echo", "--input", given, "--output", str(wanted))[0] == 0
    assert read_npz(wanted) == {"words": words}


def test_the_commands_that_ask(service):
    assert command(service, "health") == (0, '{\n  "health": "ok"\n}\n')
    assert command(service, "metrics") == (0, "up 1\n")
    assert json.loads(command(service, "models")[1]) == [{"name": "echo"}]
    assert json.loads(command(service, "status")[1])["callers"] == 1


def test_what_fails_is_a_sentence_and_1(service, tmp_path, capsys):
    assert command(service, "call", "echo", "--input", str(tmp_path / "none.npz"))[0] == 1
    assert "none.npz cannot be read" in capsys.readouterr().err
    (tmp_path / "x.npz").write_bytes(npz_bytes({"x": X}))
    assert command(service, "call", "unwanted", "--input", str(tmp_path / "x.npz"))[0] == 1
    assert capsys.readouterr().err == "litefleet-agent: nobody wants 16 bytes (bad-input)\n"
    service.end()
    assert command(service, "health")[0] == 1
    assert "no service answers on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["call"],
        ["call", "a", "b", "--input", "x"],
        ["status", "x"],
        ["health", "--wrong"],
        ["metrics", "--timeout-s", "soon"],
        ["call", "--input", "x", "--deadline-ms", "-1"],
        ["call", "--inp", "x"],
        ["call", "--input", "x", "--deadline-ms", "1e9"],
    ],
)
def test_wrong_usage_is_2(args, capsys):
    assert main(args) == 2
    assert capsys.readouterr().err.startswith(f"usage: litefleet-agent {args[0]} ")


# --- what the documentation says


def test_the_worked_example_is_true(service):
    for name in ("service.md", "service.zh.md"):
        blocks = (DOCS / name).read_text(encoding="utf-8").split("```hex\n")[1:]
        request, wanted = [bytes.fromhex(hex_of(block)) for block in blocks[:2]]
        with service.connect() as connection:
            connection.sendall(request)
            header, body = answer(connection)
        assert (
            encode({"id": 1, "op": "infer", "model": "cls", "inputs": header["result"]["outputs"]}, 8) + body == request
        )
        header["result"].update(model="cls", release="5f0c")
        assert encode(header, len(body)) + body == wanted


def hex_of(block):
    """Return the hex digits of a dump whose lines are `digits  | text`."""
    return "".join(line.split("|")[0] for line in block.split("```")[0].splitlines()).replace(" ", "")


def test_the_example_in_c_compiles_and_works(service, tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        lacking("a C compiler, for docs/examples/client.c")
    program = tmp_path / "client"
    source = DOCS / "examples" / "client.c"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]
    subprocess.run([compiler, *flags, "-o", str(program), str(source)], check=True, timeout=60)
    data = X.data

    def run(model, dims, given=data):
        words = [str(program), service.path, model, "x", "float32", dims]
        return subprocess.run(words, input=given, capture_output=True, timeout=20)

    done = run("echo", "2,2")
    assert (done.returncode, done.stdout) == (0, data)
    assert b'"release"' in done.stderr
    large = bytes(range(256)) * (4 << 12)
    assert run("echo", "1024,1024", large).stdout == large
    refused = run("unwanted", "2,2")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"nobody wants 16 bytes" in refused.stderr
    assert run("echo", "2,3").returncode == 2  # not that many bytes
    service.end()
    assert run("echo", "2,2").returncode == 1
