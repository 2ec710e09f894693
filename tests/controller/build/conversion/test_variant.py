"""Targets, what must never be mixed, and the key that names a conversion."""

from __future__ import annotations

import dataclasses
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litefleet_agent.facts.arch import ARCHES
from litefleet_controller.build.conversion.variant import Variant, make_variant, parse_targets, target_arch
from litefleet_controller.build.toolchain import Toolchain, Toolchains
from litefleet_controller.common.errors import FindingError, UsageError
from litefleet_controller.config.choices import DEFAULT_PADDLELITE, PUBLISHED_PYTHONS, TARGETS, versions_with_target

from tests.conftest import CACHE

SHA = "a" * 64


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("x86", ("x86",)),
        (" ARM ", ("arm",)),
        ("opencl,arm", ("opencl", "arm")),
        ("arm, opencl", ("opencl", "arm")),  # first named wins in opt: a CPU in front would leave nothing to OpenCL
        ("opencl arm", ("opencl", "arm")),  # opt's own help says spaces, and opt aborts on them
        ("arm,arm", ("arm",)),
    ],
)
def test_targets_are_read(text: str, targets: tuple[str, ...]) -> None:
    assert parse_targets(text) == targets


@pytest.mark.parametrize("text", ["arm,x86", "x86,arm", "x86 arm", "opencl,arm,x86"])
def test_two_cpus_are_refused_with_the_reason(text: str) -> None:
    with pytest.raises(FindingError) as caught:
        parse_targets(text)
    (found,) = caught.value.findings
    assert found.code == "LF102"
    assert "ask for the kernels of two CPUs in one file" in found.observed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "No target is named"),
        (" , ", "No target is named"),
        ("opencll,arm", "Unknown target 'opencll'; did you mean 'opencl'?"),
        ("aarch64", "Unknown target 'aarch64'; for aarch64 the target is 'arm'."),
        ("amd64", "Unknown target 'amd64'; for amd64 the target is 'x86'."),
        ("zzz", "Unknown target 'zzz'; known are x86, arm, opencl"),
        ("npu,arm", "Unknown target 'npu'; did you mean 'xpu' or 'huawei_ascend_npu' or 'huawei_kirin_npu'"),
    ],
)
def test_unknown_targets_get_the_nearest_known_one(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets(text)
    assert says in str(caught.value)


@given(st.text(max_size=30))
def test_parse_targets_raises_only_its_own_errors(text: str) -> None:
    try:
        output = ",".join(parse_targets(text))
    except (UsageError, FindingError) as error:
        output = str(error)
    assert output


def test_the_key_changes_with_everything_that_changes_the_bytes() -> None:
    base = make_variant(SHA, "arm")
    others = [
        make_variant("b" * 64, "arm"),
        make_variant(SHA, "x86"),
        make_variant(SHA, "arm", fp16=True),
        make_variant(SHA, "arm", quant="int8"),
        make_variant(SHA, "arm", quant="int16"),
        make_variant(SHA, "arm", opt_version="2.12"),
    ]
    assert len({base.key, *(other.key for other in others)}) == 7
    assert make_variant(SHA, "arm,opencl").key == make_variant(SHA, "opencl arm").key
    assert len(base.key) == 64


def test_the_key_is_stable_between_releases() -> None:
    """A changed key would convert every cached model again: change this figure knowingly."""
    assert make_variant(SHA, "arm").key == "eebb54dd48c25ca962f641d24edb99d6a8aea15d536f34cf17ee305e80422767"


def test_options_that_can_not_be_together() -> None:
    with pytest.raises(FindingError, match="LF112"):
        make_variant(SHA, "arm", fp16=True, quant="int8")
    with pytest.raises(FindingError, match="LF104"):
        make_variant(SHA, "x86", fp16=True)
    with pytest.raises(UsageError, match="Unknown weight quantisation 'int4'; known are int8 and int16"):
        make_variant(SHA, "arm", quant="int4")


def test_every_architecture_has_its_target_and_back() -> None:
    for arch in ARCHES.values():
        back = target_arch(arch.target)
        assert back is not None
        assert back.isa == arch.isa
    assert target_arch("opencl") is None
    assert target_arch("opencl,arm") == ARCHES["aarch64"]


def test_a_variant_is_a_value() -> None:
    variant = make_variant(SHA, "opencl,arm", fp16=True)
    assert variant == Variant(SHA, "opencl,arm", True, "", "2.13rc0")
    assert variant.label == "opencl,arm fp16"
    with pytest.raises(dataclasses.FrozenInstanceError):
        variant.target = "x86"  # type: ignore[misc]


@pytest.mark.toolchain
@pytest.mark.parametrize("version", PUBLISHED_PYTHONS)
async def test_the_table_of_targets_is_the_converters_own(version: str) -> None:
    """Each real converter accepts the targets that the table gives it, and rejects the others."""
    toolchain = await Toolchains(CACHE / "toolchains").lite(version)
    others = ("npu", "nnadapter", "fpga", "apu", "cuda", "rknpu")
    accepted = {
        name for name in (*TARGETS, *others) if "Wrong target" not in _opt(toolchain, f"--valid_targets={name}")
    }
    assert accepted == {name for name in TARGETS if version in versions_with_target(name)}


@pytest.mark.toolchain
async def test_the_table_holds_every_target_that_the_default_converter_lists() -> None:
    toolchain = await Toolchains(CACHE / "toolchains").lite(DEFAULT_PADDLELITE)
    listed = re.search(r"valid_targets=\(([^)]*)\)", _opt(toolchain))
    assert listed is not None
    assert set(listed[1].split("|")) - {"host"} <= set(TARGETS)


def _opt(toolchain: Toolchain, *flags: str) -> str:
    """Return what the converter prints; with a target it lists that target's operators."""
    argv = [str(toolchain.python), "-I", str(toolchain.opt), *flags, *(["--print_supported_ops=true"] if flags else [])]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    return done.stdout + done.stderr
