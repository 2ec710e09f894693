"""The .nb reader on files that the real converter made, and on small ones whose every byte is known."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.formats.nb import Kernel, NbError, Tensor, normalise, read_nb

from tests.agent.support import nb_builder as build

MakeNb = Callable  # -> Path; Python 3.7 takes no subscript here


@pytest.mark.toolchain
def test_cls_for_x86_is_described_exactly(nb_files: MakeNb) -> None:
    data = nb_files("cls", "x86").read_bytes()
    model = read_nb(data)
    assert (model.meta_version, model.opt_version, model.program_version) == (2, "v2.13-rc", 2003002)
    assert model.kernels_by_target() == {"x86": 83, "host": 14}
    assert model.kernels_by_precision() == {"fp32": 92, "any": 5}
    assert model.kernels_by_layout() == {"nchw": 93, "any": 4}
    assert sum(model.ops.values()) == len(model.kernels) == 97
    assert model.ops["conv2d"] == 41
    assert model.inputs == (Tensor("x", "float32", (-1, 3, -1, -1)),)
    assert model.outputs == (Tensor("softmax_0.tmp_0", "float32", (-1, 2)),)
    assert (model.parameter_count, model.parameter_bytes) == (106, 508592)
    assert model.weight_dtypes == {"float32": 106}
    assert model.complete
    assert model.damage == ""
    assert model.size == len(data)
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert model.normalised_sha256 == hashlib.sha256(normalise(data)).hexdigest()


@pytest.mark.toolchain
@pytest.mark.parametrize("targets", ["arm", "arm,x86"])
def test_the_target_named_first_wins(nb_files: MakeNb, targets: str) -> None:
    assert read_nb(nb_files("cls", targets).read_bytes()).kernels_by_target() == {"arm": 99, "host": 5}


@pytest.mark.toolchain
def test_quantised_weights_show_in_the_parameters(nb_files: MakeNb) -> None:
    flags = {"quant_model": "true", "quant_type": "QUANT_INT8"}
    model = read_nb(nb_files("cls", "x86", **flags).read_bytes())
    assert model.weight_dtypes == {"int8": 83, "float32": 23}
    assert model.quantised_weights == 83
    assert "int8" not in model.kernels_by_precision()


@pytest.mark.toolchain
def test_fp16_shows_in_the_kernels(nb_files: MakeNb) -> None:
    model = read_nb(nb_files("cls", "arm", enable_fp16="true").read_bytes())
    assert model.kernels_by_precision()["fp16"] == 100


@pytest.mark.toolchain
def test_an_output_behind_a_cast_has_its_dims(nb_files: MakeNb) -> None:
    model = read_nb(nb_files("cls", "opencl,arm").read_bytes())
    assert model.outputs == (Tensor("softmax_0.tmp_0/target_trans", "float32", (-1, 2)),)


@pytest.mark.toolchain
@pytest.mark.parametrize(("name", "parameters"), [("det", 224), ("rec", 216)])
def test_the_large_models_read_quickly(nb_files: MakeNb, name: str, parameters: int) -> None:
    data = nb_files(name, "x86").read_bytes()
    spent = []
    for _ in range(3):
        start = time.process_time()
        model = read_nb(data)
        spent.append(time.process_time() - start)
    assert model.complete
    assert model.parameter_count == parameters
    assert min(spent) < 0.5  # a loop over the bytes of 11 MB would take seconds


@pytest.mark.toolchain
def test_two_conversions_normalise_to_equal_bytes(
    nb_files: MakeNb, lite_python: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    first = nb_files("cls", "x86").read_bytes()
    again = tmp_path / "again"
    subprocess.run(
        [
            lite_python.parent / "paddle_lite_opt",
            f"--model_file={models['cls'] / 'inference.pdmodel'}",
            f"--param_file={models['cls'] / 'inference.pdiparams'}",
            "--valid_targets=x86",
            "--optimize_out_type=naive_buffer",
            f"--optimize_out={again}",
        ],
        check=True,
        capture_output=True,
    )
    second = again.with_suffix(".nb").read_bytes()
    assert normalise(first) == normalise(second)
    assert read_nb(first).normalised_sha256 == read_nb(second).normalised_sha256


@pytest.mark.toolchain
def test_the_runtime_reads_a_normalised_file_the_same(nb_files: MakeNb, lite_python: Path, tmp_path: Path) -> None:
    plain, clean = tmp_path / "plain.nb", tmp_path / "clean.nb"
    shutil.copy(nb_files("cls", "x86"), plain)
    clean.write_bytes(normalise(plain.read_bytes()))
    script = (
        "import sys, numpy, paddlelite.lite as lite\n"
        "for path in sys.argv[1:]:\n"
        "    config = lite.MobileConfig(); config.set_model_from_file(path)\n"
        "    predictor = lite.create_paddle_predictor(config)\n"
        "    x = numpy.random.RandomState(0).rand(1, 3, 48, 192).astype('float32')\n"
        "    predictor.get_input(0).from_numpy(x); predictor.run()\n"
        "    print(predictor.get_output(0).numpy().tobytes().hex())\n"
    )
    done = subprocess.run([lite_python, "-c", script, plain, clean], check=True, capture_output=True, text=True)
    one, two = done.stdout.split()[-2:]
    assert one == two


def test_a_small_file_is_described_exactly() -> None:
    model = read_nb(build.small())
    assert model.kernels == (
        Kernel("feed", "def", "host", "any", "any"),
        Kernel("fc", "def", "x86", "fp32", "nchw"),
        Kernel("fetch", "def", "host", "any", "any"),
    )
    assert model.inputs == (Tensor("x", "float32", (-1, 2)),)
    assert model.outputs == (Tensor("y", "float32", (-1, 3)),)
    assert (model.parameter_count, model.parameter_bytes, model.complete) == (1, 24, True)
    assert model.program_version == 2003002
    assert model.estimated_memory_bytes > model.size + model.parameter_bytes


def test_inputs_come_in_the_order_of_their_columns() -> None:
    ops = [
        build.op("feed", None, ["feed"], ["second"], col=1),
        build.op("feed", None, ["feed"], ["first"], col=0),
    ]
    data = build.nb(build.topology(ops, [build.var("first", [1], 3), build.var("second", [2], 20)]), build.params())
    assert read_nb(data).inputs == (Tensor("first", "int64", (1,)), Tensor("second", "uint8", (2,)))


def test_numbers_a_newer_paddle_lite_may_add_are_shown() -> None:
    model = read_nb(build.small(kernel="fc/def/77/1/1"))
    assert model.kernels_by_target() == {"host": 2, "number-77": 1}


def test_every_int8_weight_is_counted_as_four_bytes_of_memory() -> None:
    quantised, plain = read_nb(build.small(weights=21)), read_nb(build.small())
    assert quantised.parameter_bytes == 6
    assert quantised.estimated_memory_bytes - quantised.size == plain.estimated_memory_bytes - plain.size


def test_layout_version_1_is_described_without_its_parameters() -> None:
    whole = build.small()
    model = read_nb(b"\1\0" + whole[2:])
    assert model.meta_version == 1
    assert not model.parameters_walked
    assert model.complete
    assert model.parameter_count == 1
    assert model.kernels == read_nb(whole).kernels


def test_normalise_zeroes_only_what_follows_the_version() -> None:
    whole = build.small()
    dirty = whole[:11] + b"\xf0\x0d\xfe" + whole[14:]
    assert normalise(dirty) == whole
    assert normalise(whole) == whole
    assert read_nb(dirty).normalised_sha256 == read_nb(whole).sha256


def test_a_version_without_nul_is_kept() -> None:
    data = build.nb(build.small()[26:], b"", opt_version=b"0123456789abcdef")
    assert normalise(data) == data


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "LF106", "The file has 0 bytes: too few for any .nb."),
        (b"\x7fELF" + bytes(60), "LF106", "The file begins with an ELF binary's magic, which is no .nb header."),
        (b'{"base_code":{"magic":"pir"}}', "LF106", "which is no .nb header"),
        (bytes(64), "LF107", "The file has layout version 0; versions 1 and 2 are known."),
        (b"\3\0v3.0" + bytes(40), "LF107", "The file has layout version 3"),
        (b"\2\0v2.13-rc", "LF105", "The file ends after 10 bytes, in the middle of its header."),
        (b"\2\0v2.13-rc" + bytes(8) + b"\xff" * 8, "LF105", "a table of contents of 18446744073709551615"),
        (build.nb(b"", b""), "LF105", "the table of contents (0 bytes) is damaged"),
        (build.nb(build.topology([], []), b""), "LF105", "it has no operators"),
        (build.small(kernel="fc/def/x86/1/1"), "LF105", "a kernel has the name 'fc/def/x86/1/1'"),
    ],
)
def test_what_cannot_be_described_is_an_error_with_a_sentence(data: bytes, code: str, words: str) -> None:
    with pytest.raises(NbError) as caught:
        read_nb(data)
    assert caught.value.finding_code == code
    assert words in str(caught.value)


def _with_params(tail: bytes) -> bytes:
    ops = [build.op("fc", "fc/def/2/1/1", ["x", "w"], ["y"])]
    return build.nb(build.topology(ops, [build.var("w", [2, 3], persistable=True)]), tail)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (b"", "the file ends before its parameters begin"),
        (build.params(), "1 of the program's 1 parameters are absent, 'w' first"),
        (build.params(build.param("v", [2, 3], bytes(24))), "parameters are absent, 'w' first"),
        (build.params(build.param("w", [2, 3], bytes(24))) + b"\0", "1 bytes follow the last parameter"),
        (build.params(build.param("w", [2, 3], bytes(24)))[:-1], "ends 1 bytes short, in parameter 1 of 1"),
        (build.params(build.param("w", [2, 3], bytes(20))), "20 bytes for [2, 3] of float32"),
        (build.params(build.param("w", [-2, -3], bytes(24))), "24 bytes for [-2, -3] of float32"),
        (b"\1" + build.params(build.param("w", [2, 3], bytes(24)))[1:], "unknown header"),
    ],
)
def test_damaged_parameters_leave_the_rest_described(tail: bytes, words: str) -> None:
    model = read_nb(_with_params(tail))
    assert not model.complete
    assert words in model.damage
    assert model.kernels_by_target() == {"x86": 1}
