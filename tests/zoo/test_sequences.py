"""A model of sequences (LoD) on a device: one-shot and resident, with both engines, against PaddlePaddle's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.client import Client, ServiceError
from litefleet_agent.formats.nb import read_nb
from litefleet_agent.formats.npz import Array, read_npz
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import convert
from litefleet_controller.build.conversion.variant import make_variant

from tests.agent.session.test_infer import Device as Session
from tests.agent.support.service_process import Device
from tests.conftest import environment, lite_environment
from tests.zoo.test_zoo import Toolchains
from tests.zoo.zoo import specimens

pytestmark = pytest.mark.toolchain


@dataclass(frozen=True)
class Sequences:
    """The model's file, and PaddlePaddle's goldens: the inputs `words` with their sequences, and the answer.

    `detector`, likewise, is a model whose output has sequences: the boxes of each picture.
    """

    nb: Path
    goldens: tuple[Path, ...]
    detector: tuple[Path, tuple[Path, ...]]

    def case(self, number: int) -> tuple[Array, np.ndarray]:
        held = read_npz(self.goldens[number])
        (answer,) = (value for name, value in held.items() if name != "words")
        return held["words"], np.frombuffer(answer.data, "<f4").reshape(answer.shape)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    folder = tmp_path_factory.mktemp("sequences")
    found, store = specimens(["sequence_lod", "detector"], folder), ArtifactStore(folder / "store")

    def converted(name: str) -> Path:
        source = found[name].source
        assert source is not None
        return asyncio.run(convert(source, make_variant(source.sha256, "x86"), Toolchains(), store)).path

    detector = converted("detector"), found["detector"].truth
    return Sequences(converted("sequence_lod"), found["sequence_lod"].truth, detector)


def bare() -> Path:
    """Return a Python with Paddle-Lite and no numpy: the native engine's."""
    return environment("lite-2.13rc0-bare", "3.10", "--no-deps", "paddlelite==2.13rc0")


def split(words: Array, *lengths: int) -> Array:
    """Return the same words in other sequences."""
    return Array(words.dtype, words.shape, words.data, (tuple(np.cumsum([0, *lengths]).tolist()),))


def sums(values: np.ndarray, *lengths: int) -> list[float]:
    """Return the sum of each sequence: the model ends with a softmax over each."""
    return [float(part.sum()) for part in np.split(values[:, 0], np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("engine", ["binding", "native"])
def test_a_worker_of_its_own_runs_sequences_and_returns_those_of_outputs(
    engine: str, sequences: Sequences, tmp_path: Path
) -> None:
    with Session(tmp_path / "root", lite_environment() if engine == "binding" else bare()) as device:
        identity = device.current(sequences.nb, list(sequences.goldens), "seq")
        (first, wanted), (second, wanted_2) = sequences.case(0), sequences.case(1)
        cases = [first, split(first, 8), second, split(first, 2, 2, 2, 2)]
        answer = ask(device, cases)
        assert (answer["release"], answer["by"], answer["findings"]) == (identity, "one-shot", [])
        outputs = device.outputs({"result": answer})
        np.testing.assert_allclose(outputs[0], wanted, atol=1e-6)
        np.testing.assert_allclose(outputs[2], wanted_2, atol=1e-6)
        assert sums(outputs[1], 8) == pytest.approx([1])
        assert sums(outputs[3], 2, 2, 2, 2) == pytest.approx([1] * 4)
        nested = Array("int64", (8, 1), first.data, ((0, 1, 2), (0, 5, 8)))
        refused = [
            request["error"] for request in ask(device, [Array("int64", (8, 1), first.data), nested])["requests"]
        ]
        assert [error["message"] for error in refused] == [
            "seq: words takes sequences (LoD) of 1 level, and the request has none",
            "seq: words takes sequences (LoD) of 1 level, and the request has 2 levels",
        ]
        assert {error["code"] for error in refused} == {"bad-input"}
        device.current(sequences.detector[0], list(sequences.detector[1]), "det")
        held = read_npz(sequences.detector[1][0])
        names = [tensor.name for tensor in read_nb(sequences.detector[0].read_bytes()).inputs]
        told = [{"name": n, "dtype": held[n].dtype, "dims": list(held[n].shape)} for n in names]
        data = b"".join(held[name].data for name in names)
        answer = device.ask("infer", data, model="det", requests=[{"inputs": told}])["result"]
        boxes, count = answer["requests"][0]["outputs"]
        assert boxes["lod"] == [[0, boxes["dims"][0]]]
        assert "lod" not in count


def ask(device: Session, cases: list[Array]) -> dict:
    told = [{"name": "words", "dtype": "int64", "dims": list(case.shape), "lod": case.lod} for case in cases]
    data = b"".join(case.data for case in cases)
    return device.ask("infer", data, model="seq", requests=[{"inputs": [one]} for one in told])["result"]


@pytest.fixture(scope="module")
def client(sequences: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    device = Device(tmp_path_factory.mktemp("service") / "root", lite_environment(), batch_wait_s=0.05)
    device.activate(device.release(sequences.nb, list(sequences.goldens), "seq"))
    with device.serve() as service:
        service.told("seq switched")
        service.ready(name="seq")
        with service.client() as client:
            yield client


def test_the_service_runs_sequences(client: Client, sequences: Sequences) -> None:
    for number in (0, 1, 0):
        words, wanted = sequences.case(number)
        answer = client.infer("seq", {"words": words})
        (output,) = answer.outputs.values()
        np.testing.assert_allclose(np.frombuffer(output.data, "<f4").reshape(output.shape), wanted, atol=1e-6)
    rows = np.frombuffer(words.data, "<i8").reshape(words.shape)
    answer = client.infer("seq", {"words": rows[:5], "words@lod0": np.array([0, 3, 5])})
    (values,) = answer.outputs.values()
    assert sums(values, 3, 2) == pytest.approx([1, 1])


@pytest.mark.parametrize("lod", [(), ((0, 1, 2), (0, 5, 8))])
def test_the_service_refuses_other_levels_before_they_end_its_worker(
    lod: tuple, client: Client, sequences: Sequences
) -> None:
    words, _ = sequences.case(0)
    with pytest.raises(ServiceError, match=r"seq: words takes sequences \(LoD\) of 1 level, and ") as raised:
        client.infer("seq", {"words": Array("int64", (8, 1), words.data, lod)})
    assert raised.value.code == "bad-input"
    assert client.health()["health"] == "ok"
    assert client.status()["models"]["seq"]["workers"][0]["state"] == "ready"
