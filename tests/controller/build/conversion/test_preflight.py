"""The source preflight on the real models, and on what people hand in instead."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_controller.build.conversion.forms import forms_of
from litefleet_controller.build.conversion.params import ParamsError, read_params
from litefleet_controller.build.conversion.preflight import (
    TensorSpec,
    check_age,
    check_source,
    find_source,
    load_source,
)
from litefleet_controller.build.conversion.program import read_program
from litefleet_controller.build.conversion.protobuf import WireError
from litefleet_controller.common.errors import FindingError

PIR = json.dumps({"base_code": {"magic": "pir", "trainable": False, "version": 1}, "program": {}}).encode()


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field, written by hand."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tensor_desc(dtype: int, dims: list[int]) -> bytes:
    return field(1, dtype) + b"".join(field(2, dim) for dim in dims)


def var(name: str, dims: list[int], *, kind: int = 7, dtype: int = 5, persistable: bool = False) -> bytes:
    lod = field(3, field(1, tensor_desc(dtype, dims)))
    return field(3, field(1, name.encode()) + field(2, field(1, kind) + lod) + field(3, int(persistable)))


def op(kind: str, inputs: list[str], outputs: list[str], col: int = 0) -> bytes:
    body = b"".join(field(1, field(1, b"X") + field(2, n.encode())) for n in inputs)
    body += b"".join(field(2, field(1, b"Out") + field(2, n.encode())) for n in outputs)
    return field(4, body + field(3, kind.encode()) + field(4, field(1, b"col") + field(2, 0) + field(3, col)))


def program(*parts: bytes, version: int = 2003002) -> bytes:
    return field(1, field(1, 0) + field(2, -1) + b"".join(parts)) + field(4, field(1, version))


def saved(dims: list[int], dtype: int = 5, width: int = 4) -> bytes:
    count = 1
    for dim in dims:
        count *= dim
    desc = tensor_desc(dtype, dims)
    return struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + bytes(width * count)


SMALL = program(
    var("feed", [], kind=9, persistable=True),
    var("b", [-1, 4]),
    var("a", [-1, 3]),
    var("out", [-1, 2]),
    var("w2", [3, 2], persistable=True),
    var("w1", [4, 3], persistable=True),
    op("feed", ["feed"], ["b"], col=1),
    op("feed", ["feed"], ["a"], col=0),
    op("mul", ["a", "w2"], ["out"]),
    op("fetch", ["out"], ["fetch"]),
)
SMALL_PARAMS = saved([4, 3]) + saved([3, 2])


def refused(program_bytes: bytes, params: bytes) -> tuple[str, str]:
    with pytest.raises(FindingError) as caught:
        check_source(program_bytes, params)
    (found,) = caught.value.findings
    return found.code, found.observed


@pytest.mark.parametrize(
    ("model", "version", "inputs", "output", "parameters"),
    [
        ("cls", "2.3.2", (-1, 3, -1, -1), TensorSpec("softmax_0.tmp_0", "float32", (-1, 2)), 213),
        ("det", "2.4.1", (-1, 3, -1, -1), TensorSpec("sigmoid_0.tmp_0", "float32", (-1, 1, -1, -1)), 234),
        ("rec", "2.4.2", (-1, 3, 48, -1), TensorSpec("softmax_11.tmp_0", "float32", (-1, -1, 6625)), 234),
    ],
)
def test_real_models_say_what_they_are(
    models: dict[str, Path], model: str, version: str, inputs: tuple[int, ...], output: TensorSpec, parameters: int
) -> None:
    facts = load_source(models[model]).facts
    assert facts.paddle_version == version
    assert facts.inputs == (TensorSpec("x", "float32", inputs),)
    assert facts.outputs == (output,)
    assert facts.parameters == parameters
    assert facts.findings == ()


def test_inputs_come_in_feed_order_and_parameters_in_file_order() -> None:
    facts = check_source(SMALL, SMALL_PARAMS)
    assert [spec.name for spec in facts.inputs] == ["a", "b"]
    assert [spec.name for spec in read_program(SMALL).parameters] == ["w1", "w2"]
    assert facts.ops == {"feed": 2, "mul": 1, "fetch": 1}


@pytest.mark.toolchain
def test_models_fresh_from_paddlepaddle_pass(paddle_python: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "support" / "save_models.py"
    subprocess.run([paddle_python, script, tmp_path], check=True, capture_output=True)
    eager = load_source(tmp_path / "eager.pdmodel").facts
    assert eager.paddle_version == "2.6.2"
    assert eager.inputs == (TensorSpec("ids", "int64", (-1, -1)), TensorSpec("extra", "float32", (-1, 3)))
    assert [(spec.dtype, spec.dims) for spec in eager.outputs] == [("float32", (-1, 3)), ("int64", (3,))]
    assert eager.parameters == 18
    assert eager.ops["while"] == 1
    static = load_source(tmp_path / "static.pdmodel").facts
    assert static.inputs == (TensorSpec("img", "float32", (-1, 3, 8, 8)),)
    assert [spec.dims for spec in static.outputs] == [(-1, 2), (-1, 4, 6, 6)]
    with pytest.raises(FindingError, match="LF203"):
        load_source(tmp_path / "eager.pdmodel", tmp_path / "static.pdiparams")


def test_swapped_params_are_refused_with_the_first_tensor_that_differs(models: dict[str, Path]) -> None:
    rec = (models["rec"] / "inference.pdmodel").read_bytes()
    code, seen = refused(rec, (models["cls"] / "inference.pdiparams").read_bytes())
    assert code == "LF203"
    assert seen.startswith("Parameter ")
    assert "in the program; the parameters file has float32" in seen


@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        (b"", "LF201", "The model's parameters file is empty."),
        (SMALL_PARAMS + saved([5]), "LF203", "The program needs 2 parameters; the parameters file holds 3."),
        (saved([4, 3]), "LF203", "The program needs 2 parameters; the parameters file holds 1."),
        (SMALL_PARAMS[:-1], "LF203", "in the middle of a tensor that needs"),
        (SMALL_PARAMS + b"\0", "LF203", "it ends in the middle of a tensor's header"),
        (b"PK\x03\x04 a zip file, not parameters", "LF203", "after 0 tensors, no tensor begins at byte 0"),
        (saved([4, 3], dtype=6, width=8) + saved([3, 2]), "LF203", "'w1', is float32 [4, 3] in the program"),
        (saved([3, 4]) + saved([3, 2]), "LF203", "the parameters file has float32 [3, 4] there"),
    ],
)
def test_params_that_do_not_belong(params: bytes, code: str, says: str) -> None:
    found, seen = refused(SMALL, params)
    assert found == code
    assert says in seen


def test_dimensions_of_one_may_differ_between_paddle_versions() -> None:
    assert check_source(SMALL, saved([1, 4, 3]) + saved([3, 2])).parameters == 2


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "LF201", "empty"),
        (PIR, "LF202", "PIR"),
        (b'{"hello": 1}', "LF207", "not a PaddlePaddle program"),
        (b"\x7fELF\x02\x01\x01" + bytes(64), "LF207", "is a program or library (ELF)"),
        (SMALL[:-30], "LF207", "runs past the end"),
        (program(), "LF207", "no operators"),
        (program(var("w", [1], persistable=True), op("relu", ["w"], ["w"])), "LF207", "no inputs (feed)"),
        (program(op("feed", ["feed"], ["gone"]), op("fetch", [], [])), "LF207", "'gone' is not among the variables"),
    ],
)
def test_what_is_no_program(data: bytes, code: str, says: str) -> None:
    found, seen = refused(data, saved([1]))
    assert found == code
    assert says in seen


def test_every_truncation_of_real_params_is_noticed(models: dict[str, Path]) -> None:
    folder = models["cls"]
    program_bytes = (folder / "inference.pdmodel").read_bytes()
    params = (folder / "inference.pdiparams").read_bytes()
    for size in range(1, len(params), len(params) // 40):
        assert refused(program_bytes, params[:size])[0] == "LF203"


def test_leftovers_of_quantisation_training_are_a_warning() -> None:
    data = program(
        var("a", [1]),
        var("w", [2], persistable=True),
        op("feed", [], ["a"]),
        op("moving_average_abs_max_scale", ["a"], ["a"]),
        op("fetch", ["a"], []),
    )
    (found,) = check_source(data, saved([2])).findings
    assert found.code == "LF208"
    assert "1 x moving_average_abs_max_scale" in found.observed


_SAVE_TRAINING = """
import sys, paddle
paddle.enable_static()
x, y = paddle.static.data("x", [None, 4]), paddle.static.data("y", [None, 3])
loss = paddle.mean(paddle.nn.functional.square_error_cost(paddle.static.nn.fc(x, 3, activation="relu"), y))
paddle.optimizer.Momentum(0.1).minimize(loss)
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
paddle.static.save(paddle.static.default_main_program(), sys.argv[1] + "/inference")
"""


def quantised_program(kind: str = "dequantize_linear") -> bytes:
    body = field(1, field(1, b"X") + field(2, b"w")) + field(2, field(1, b"Out") + field(2, b"y"))
    ends = (op("feed", ["feed"], ["x"]), op("fetch", ["y"], ["fetch"]))
    weight = var("w", [4, 3], persistable=True)
    return program(var("x", [1, 4]), var("y", [4, 3]), weight, field(4, body + field(3, kind.encode())), *ends)


def test_weights_that_the_program_dequantises_may_be_integers() -> None:
    """As post-training quantisation with onnx_format=True saves them: int8 weights, declared as float32."""
    assert check_source(quantised_program(), saved([4, 3], dtype=21, width=1)).parameters == 1
    for params in (saved([4, 2], dtype=21, width=1), saved([4, 3], dtype=3, width=8)):
        assert refused(quantised_program(), params)[0] == "LF203"
    assert refused(quantised_program("mul"), saved([4, 3], dtype=21, width=1))[0] == "LF203"


def constant(shape: list[int], *inputs: str) -> bytes:
    """A fill_constant with this shape attribute; `inputs` are its slots that give a shape."""
    slots = b"".join(field(1, field(1, slot.encode()) + field(2, b"a")) for slot in inputs)
    attribute = field(4, field(1, b"shape") + field(2, 11) + b"".join(field(15, dim) for dim in shape))
    return field(4, slots + field(2, field(1, b"Out") + field(2, b"c")) + field(3, b"fill_constant") + attribute)


@pytest.mark.parametrize(
    ("operator", "aborts"),
    [(constant([]), True), (constant([1]), False), (constant([], "ShapeTensor"), False), (constant([2, 3]), False)],
)
def test_a_constant_without_dimensions_is_known_to_abort(operator: bytes, aborts: bool) -> None:
    ends = (op("feed", ["feed"], ["a"]), op("fetch", ["c"], ["fetch"]))
    weight = var("w", [1], persistable=True)
    found = check_source(program(var("a", [1, 4]), var("c", []), weight, operator, *ends), saved([1])).findings
    assert [f.code for f in found] == ["LF213"] * aborts
    assert all(f.observed.startswith("1 x fill_constant with shape []: every Paddle-Lite aborts at") for f in found)
    assert all("export with PaddlePaddle 2.4" in f.observed for f in found)


def test_a_float64_input_is_known_to_abort() -> None:
    ends = (op("feed", ["feed"], ["a"]), op("fetch", ["a"], ["fetch"]))
    body = program(var("a", [1], dtype=6), var("w", [1], persistable=True), *ends)
    (found,) = check_source(body, saved([1])).findings
    assert (found.code, "Export with a float32 input" in found.observed) == ("LF213", True)


@pytest.mark.toolchain
def test_what_paddlepaddle_saves_of_conditions_and_recurrent_layers_is_refused(
    paddle_python: Path, tmp_path: Path
) -> None:
    script = Path(__file__).parents[2] / "support" / "save_zero_d.py"
    done = subprocess.run([paddle_python, "-I", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {
        path.stem: [f.code for f in load_source(path).facts.findings] for path in sorted(tmp_path.glob("*.pdmodel"))
    }
    assert found == {"cond": ["LF213"], "lstm": ["LF213"], "double": ["LF213"], "single": []}


@pytest.mark.toolchain
def test_a_program_that_trains_is_refused_by_its_operators(paddle_python: Path, tmp_path: Path) -> None:
    subprocess.run([paddle_python, "-c", _SAVE_TRAINING, tmp_path], check=True, capture_output=True, timeout=120)
    (tmp_path / "inference.pdparams").rename(tmp_path / "inference.pdiparams")  # as people do who want to convert it
    with pytest.raises(FindingError) as caught:
        load_source(tmp_path)
    (found,) = caught.value.findings
    assert found.code == "LF212"
    assert found.observed.startswith("The program holds operators that train: elementwise_add_grad, ")
    assert "momentum" in found.observed


def test_a_newer_paddle_is_a_warning_and_a_development_build_is_not() -> None:
    newer = check_source(program_of_version(2006002), SMALL_PARAMS)
    assert [f.code for f in check_age(newer, "2.13rc0")] == ["LF204"]
    assert check_age(check_source(SMALL, SMALL_PARAMS), "2.13rc0") == []
    unknown = check_source(program_of_version(0), SMALL_PARAMS)
    assert unknown.paddle_version == ""
    assert check_age(unknown, "2.13rc0") == []


def program_of_version(version: int) -> bytes:
    return SMALL[: SMALL.rindex(field(4, field(1, 2003002)))] + field(4, field(1, version))


def repeated_slot(count: int) -> bytes:
    slots = b"".join(field(1, field(1, b"X") + field(2, b"a")) for _ in range(count))
    return program(var("a", [1]), field(4, slots + field(3, b"mul")), op("feed", ["feed"], ["a"]))


def packed_dims(count: int) -> bytes:
    desc = field(1, 5) + field(2, bytes([1]) * count)
    lod = field(3, field(1, desc))
    tensor = field(3, field(1, b"a") + field(2, field(1, 7) + lod))
    return program(tensor, op("feed", ["feed"], ["a"]))


def packed_column(count: int) -> bytes:
    attribute = field(4, field(1, b"col") + field(2, 3) + field(6, bytes([1]) * count))
    return program(var("a", [1]), field(4, field(3, b"feed") + attribute))


def many_bare_convolutions(count: int) -> bytes:
    """Convolutions with computed filters beside as many parameters: each pair was once compared."""
    conv = field(4, field(1, field(1, b"Filter") + field(2, b"f")) + field(3, b"conv2d"))
    parameters = b"".join(var(f"w{n}", [1], persistable=True) for n in range(count // 8))
    return program(var("f", [1, 1, 1, 1]), parameters, conv * (count // 8), op("feed", ["feed"], ["f"]))


@pytest.mark.parametrize("hostile", [repeated_slot, packed_dims, packed_column, many_bare_convolutions])
def test_the_time_for_a_program_grows_with_its_size(hostile: Callable[[int], bytes]) -> None:
    """Eight times the entries take about eight times as long, not sixty-four times."""

    def seconds(count: int) -> float:
        data = hostile(count)
        started = time.process_time()
        with contextlib.suppress(WireError):
            forms_of(read_program(data))
        return time.process_time() - started

    seconds(100)
    small = min(seconds(4_000) for _ in range(3))
    assert min(seconds(32_000) for _ in range(3)) < max(0.05, 30 * small)


def test_a_field_of_too_many_numbers_is_a_sentence() -> None:
    with pytest.raises(WireError, match="more than 33 numbers"):
        read_program(packed_dims(20_000_000))


def test_hostile_sizes_cost_nothing() -> None:
    desc = field(1, 5) + b"".join(field(2, 2**62) for _ in range(30))
    huge = struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc
    with pytest.raises(ParamsError, match="in the middle of a tensor"):
        list(read_params(huge))
    with pytest.raises(ParamsError, match="no tensor begins"):
        list(read_params(struct.pack("<IQ", 0, 2**60) + bytes(100)))


def outcome(read: Callable[[bytes], object], data: bytes) -> str:
    """ "read", or the sentence; any other exception goes through and fails the test."""
    try:
        read(data)
    except (WireError, ParamsError) as error:
        return str(error)
    return "read"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, len(SMALL)), st.binary(max_size=6))
def test_any_bytes_end_in_a_sentence(noise: bytes, at: int, patch: bytes) -> None:
    for data in (noise, SMALL[:at] + patch + SMALL[at + len(patch) :]):
        assert outcome(read_program, data)
    for data in (noise, SMALL_PARAMS[: at % len(SMALL_PARAMS)] + patch):
        assert outcome(lambda given: list(read_params(given)), data)


def found_error(path: Path) -> tuple[str, str]:
    with pytest.raises(FindingError) as caught:
        find_source(path)
    return caught.value.findings[0].code, caught.value.findings[0].observed


def test_files_are_found_in_folders_of_every_age(tmp_path: Path) -> None:
    for folder, names in {
        "new": ("inference.pdmodel", "inference.pdiparams"),
        "old": ("__model__", "__params__"),
        "own": ("cat.pdmodel", "cat.pdiparams"),
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"x")
        wanted = tuple(tmp_path / folder / name for name in names)
        assert find_source(tmp_path / folder) == wanted
        assert find_source(wanted[0]) == wanted


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert found_error(tmp_path / "nowhere") == ("LF201", f"{tmp_path / 'nowhere'} does not exist.")
    assert found_error(tmp_path) == ("LF201", f"{tmp_path} holds no PaddlePaddle model (inference.pdmodel).")
    (tmp_path / "inference.json").write_bytes(PIR)
    assert found_error(tmp_path)[0] == "LF202"
    assert found_error(tmp_path / "inference.json")[0] == "LF202"
    (tmp_path / "a.pdmodel").write_bytes(b"x")
    assert found_error(tmp_path) == ("LF201", f"The parameters file {tmp_path / 'a.pdiparams'} does not exist.")
    (tmp_path / "b.pdmodel").write_bytes(b"x")
    assert "several models (a.pdmodel, b.pdmodel)" in found_error(tmp_path)[1]


def test_a_pair_can_be_named_file_by_file(models: dict[str, Path]) -> None:
    folder = models["cls"]
    named = load_source(folder / "inference.pdmodel", folder / "inference.pdiparams")
    assert named.sha256 == load_source(folder).sha256
    with pytest.raises(FindingError, match="cannot be read: No such file"):
        load_source(folder / "inference.pdmodel", folder / "gone.pdiparams")


def test_a_model_that_has_not_changed_is_read_once(tmp_path: Path, models: dict[str, Path]) -> None:
    folder = tmp_path / "cls"
    shutil.copytree(models["cls"], folder)
    first = load_source(folder)
    assert load_source(folder).facts is first.facts
    weights = next(folder.glob("*.pdiparams"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FindingError, match="not whole"):
        load_source(folder)
