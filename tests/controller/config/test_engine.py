"""`engine:` of a model: what is asked for on each architecture, and the words for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from litefleet_agent.formats.engine_settings import NOTHING_ASKED
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.config import load_config
from litefleet_controller.config.engine import NNADAPTER_DEVICES, EngineConfig

BLOCK = """\
models:
  cls:
    source: models/cls
    engine: %s
"""
DEVICES = ", ".join(NNADAPTER_DEVICES)


def engine(tmp_path: Path, block: str) -> EngineConfig:
    path = tmp_path / "litefleet.yaml"
    path.write_text(BLOCK % block)
    return load_config(path).models["cls"].engine


def test_an_architecture_s_keys_replace_the_general_ones(tmp_path: Path) -> None:
    asked = engine(
        tmp_path,
        "{threads: 2, power_mode: high, opencl: {tune: normal, precision: fp16, binary_cache: true},"
        " x86_64: {opencl: null, power_mode: null}, armv7l: {threads: 1, opencl: {tune: rapid},"
        " nnadapter: {devices: [rockchip_npu], context_properties: 'A=1;B=x y;', model_cache: true}}}",
    )
    assert asked.asks
    assert asked.for_arch("x86_64").to_dict() == {"threads": 2}
    assert asked.for_arch("aarch64").to_dict() == {
        "threads": 2,
        "power_mode": "LITE_POWER_HIGH",
        "opencl": {"tune": "CL_TUNE_NORMAL", "precision": "CL_PRECISION_FP16", "cache": True},
    }
    assert asked.for_arch("armv7l").to_dict() == {
        "threads": 1,
        "power_mode": "LITE_POWER_HIGH",
        "opencl": {"tune": "CL_TUNE_RAPID"},
        "nnadapter": {"devices": ["rockchip_npu"], "context_properties": "A=1;B=x y;", "cache": True},
    }


@pytest.mark.parametrize("block", ["{}", "{opencl: {}}", "{threads: null}", "{x86_64: {nnadapter: {devices: []}}}"])
def test_nothing_asked_is_nothing(tmp_path: Path, block: str) -> None:
    asked = engine(tmp_path, block)
    assert not asked.asks
    assert asked.for_arch("x86_64") == NOTHING_ASKED


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("{threads: 0}", "threads: should be greater than or equal to 1 (it is 0)"),
        ("{threads: 999}", "threads: should be less than or equal to 256 (it is 999)"),
        (
            "{power_mode: turbo}",
            "power_mode: should be 'high', 'low', 'full', 'no_bind', 'rand_high' or 'rand_low' (it",
        ),
        (
            "{aarch64: {opencl: {tune: fast}}}",
            "aarch64.opencl.tune: should be 'none', 'rapid', 'normal' or 'exhaustive'",
        ),
        ("{opencl: {binary_cache: /tmp}}", "opencl.binary_cache: should be true or false (it is '/tmp')"),
        (
            "{nnadapter: {devices: [rockchip]}}",
            "nnadapter.devices: 'rockchip' is not a device of Paddle-Lite's NNAdapter",
        ),
        ("{nnadapter: {devices: [zzz]}}", f"NNAdapter; known are {DEVICES}"),
        (
            "{nnadapter: {devices: [opencl]}}",
            "nnadapter.devices: opencl is a backend of its own: 'opencl' is not a device",
        ),
        ("{nnadapter: {devices: [amlogic_npu, amlogic_npu]}}", "nnadapter.devices: a device is named twice"),
        ("{nnadapter: {model_cache: true}}", f"nnadapter: give `devices:` too, some of {DEVICES}"),
        (
            "{nnadapter: {devices: [amlogic_npu], context_properties: 'A=1;B'}}",
            "nnadapter.context_properties: 'B' is no KEY=VALUE: write pairs with `;` between them",
        ),
        ("{nnadapter: {devices: [amlogic_npu], context_properties: 'A=é'}}", "in ASCII on one line"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(tmp_path: Path, block: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        engine(tmp_path, block)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "block", ["{opencl: {cache_dir: /tmp}}", "{nnadapter: {model_cache_dir: /tmp}}", "{thread: 2}"]
)
def test_a_folder_outside_cannot_be_named(tmp_path: Path, block: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        engine(tmp_path, block)
