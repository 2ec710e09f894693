"""Which file fits which architecture, and the sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings.model_file import (
    accelerators,
    check_alone,
    check_file,
    cpu_features,
    deciding_kernels,
    verdict,
)
from litefleet_agent.formats.nb import Kernel, NbModel, read_nb

from tests.agent.support import nb_builder as build

X86, X86_32, ARM64, ARM32 = (ARCHES[name] for name in ("x86_64", "i686", "aarch64", "armv7l"))
BASE = read_nb(build.small())


def having(*kernels: tuple[str, str], **weights: int) -> NbModel:
    """Return a model with these (target, precision) kernels."""
    return replace(
        BASE,
        kernels=tuple(Kernel("conv2d", "def", target, precision, "nchw") for target, precision in kernels),
        weight_dtypes=weights or {"float32": 1},
        parameter_count=sum(weights.values()) or 1,
    )


def codes(model: NbModel, arch: str, features: frozenset[str] | None = None) -> list[str]:
    return [f.code for f in check_file(model, ARCHES[arch], features)]


HOST = ("host", "any")
FP32_ARM, FP32_X86, FP16_ARM = ("arm", "fp32"), ("x86", "fp32"), ("arm", "fp16")


@pytest.mark.parametrize(
    ("model", "good_for"),
    [
        (having(FP32_X86, HOST), {"x86_64", "i686"}),
        (having(FP32_ARM, HOST), {"aarch64", "armv7l"}),
        (having(("opencl", "fp16"), FP32_ARM, HOST), {"aarch64", "armv7l"}),
        (having(("opencl", "fp16"), FP32_X86, HOST), {"x86_64", "i686"}),
        (having(HOST), set(ARCHES)),
        (having(FP16_ARM, HOST), {"aarch64"}),
        (having(FP32_X86, FP32_ARM), set()),
        (having(FP32_ARM, int8=3), {"aarch64", "armv7l"}),
        (having(FP16_ARM, int8=3), set()),
        (having(), set()),
    ],
)
def test_which_files_fit_which_architectures(model: NbModel, good_for: set[str]) -> None:
    assert {name for name, arch in ARCHES.items() if verdict(check_file(model, arch)) == "good"} == good_for


def test_the_wrong_isa_is_counted_in_the_sentence() -> None:
    (found,) = check_file(having(FP32_ARM, FP32_ARM, HOST), X86)
    assert found.code == "LF101"
    assert found.observed == "2 of 3 kernels are for arm; this device is x86_64."


def test_two_isas_are_one_finding_not_two() -> None:
    (found,) = check_file(having(FP32_X86, FP32_X86, FP32_ARM), X86)
    assert found.code == "LF102"
    assert found.observed == "2 of its 3 kernels are for x86 and 1 for arm: no CPU runs both."


def test_fp16_is_decided_by_the_cpu_where_it_is_known() -> None:
    model = having(FP16_ARM, HOST)
    assert codes(model, "aarch64") == []
    assert codes(model, "aarch64", frozenset({"asimd", "asimdhp"})) == []
    (found,) = check_file(model, ARM64, frozenset({"asimd"}))
    assert found.code == "LF104"
    assert found.observed == "1 of 2 kernels is for fp16; this CPU lacks asimdhp."
    assert codes(model, "armv7l", frozenset({"asimdhp"})) == ["LF104"]
    assert codes(model, "x86_64") == ["LF101", "LF104"]


def test_fp16_on_a_gpu_is_ordinary() -> None:
    assert codes(having(("opencl", "fp16"), HOST), "armv7l", frozenset()) == []


def test_int8_warns_on_x86_only() -> None:
    (found,) = check_file(having(FP32_X86, int8=2, float32=1), X86)
    assert found.code == "LF111"
    assert found.observed == "It has int8 weights in 2 of 3 parameters; this device is x86_64."
    assert verdict([found]) == "good"
    assert codes(having(("x86", "int8")), "i686") == ["LF111"]
    assert codes(having(("arm", "int8"), int16=2), "aarch64") == []


def test_fp16_with_int8_is_refused_everywhere() -> None:
    (found,) = check_alone(having(FP16_ARM, int8=1))
    assert found.code == "LF112"
    assert found.observed == "It has 1 fp16 kernel and int8 weights in 1 of 1 parameters."


def test_a_file_that_is_not_whole_is_refused_with_its_reason() -> None:
    (found,) = check_file(read_nb(build.small()[:-3]), X86)
    assert found.code == "LF105"
    assert found.observed == "The file is not whole: the file ends 3 bytes short, in parameter 1 of 1."


def test_accelerators_are_named_not_judged() -> None:
    assert accelerators(having(FP32_ARM, ("opencl", "any"), ("nnadapter", "any"), HOST)) == {"opencl", "nnadapter"}
    assert accelerators(having(FP32_X86, HOST, ("any", "any"))) == frozenset()


def test_fp16_names_the_cpu_feature_it_needs() -> None:
    assert cpu_features(having(FP16_ARM, HOST)) == {"asimdhp"}
    assert cpu_features(having(FP32_ARM, ("opencl", "fp16"))) == frozenset()


def test_the_deciding_kernels_are_those_the_cpu_cannot_run() -> None:
    arm, half = Kernel("conv2d", "def", "arm", "fp32", "nchw"), Kernel("conv2d", "def", "arm", "fp16", "nchw")
    model = having(FP32_ARM, FP32_ARM, FP16_ARM, HOST)
    assert deciding_kernels(model, X86) == ((arm, 2), (half, 1))
    assert deciding_kernels(model, ARM32) == ((half, 1),)
    assert deciding_kernels(model, ARM64) == ()


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("targets", "flags", "arch", "expected"),
    [
        ("x86", {}, "x86_64", []),
        ("x86", {}, "aarch64", ["LF101"]),
        ("arm", {}, "x86_64", ["LF101"]),
        ("arm,x86", {}, "x86_64", ["LF101"]),
        ("arm,x86", {}, "armv7l", []),
        ("x86,arm", {}, "x86_64", ["LF102"]),
        ("x86,arm", {}, "aarch64", ["LF102"]),
        ("opencl,arm", {}, "aarch64", []),
        ("arm", {"enable_fp16": "true"}, "armv7l", ["LF104"]),
        ("x86", {"quant_model": "true", "quant_type": "QUANT_INT8"}, "x86_64", ["LF111"]),
        ("arm", {"quant_model": "true", "quant_type": "QUANT_INT16"}, "armv7l", []),
        ("arm", {"enable_fp16": "true", "quant_model": "true", "quant_type": "QUANT_INT8"}, "aarch64", ["LF112"]),
    ],
)
def test_files_the_real_converter_made(
    nb_files: Callable[..., Path], targets: str, flags: dict[str, str], arch: str, expected: list[str]
) -> None:
    assert codes(read_nb(nb_files("cls", targets, **flags).read_bytes()), arch) == expected
