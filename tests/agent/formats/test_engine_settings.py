"""What a release asks of the engine: read within bounds, written without what is left to Paddle-Lite."""

from __future__ import annotations

import pytest
from litefleet_agent.formats.engine_settings import (
    NOTHING_ASKED,
    EngineSettings,
    NNAdapterSettings,
    OpenCLSettings,
    SettingReport,
    parse_reports,
)

EVERYTHING = {
    "threads": 2,
    "power_mode": "LITE_POWER_RAND_LOW",
    "opencl": {"tune": "CL_TUNE_RAPID", "precision": "CL_PRECISION_FP32", "cache": True},
    "nnadapter": {"devices": ["rockchip_npu"], "context_properties": "A=1;", "cache": True},
}


def test_what_is_written_reads_back() -> None:
    settings = EngineSettings.parse(EVERYTHING)
    assert settings == EngineSettings(
        2,
        "LITE_POWER_RAND_LOW",
        OpenCLSettings("CL_TUNE_RAPID", "CL_PRECISION_FP32", True),
        NNAdapterSettings(("rockchip_npu",), "A=1;", True),
    )
    assert settings.to_dict() == EVERYTHING
    assert (settings.accelerated, settings.cached) == (True, True)
    assert settings.words.startswith("threads 2, power mode LITE_POWER_RAND_LOW, OpenCL tuning CL_TUNE_RAPID, ")


def test_nothing_asked_is_nothing_written() -> None:
    assert EngineSettings.parse(None) == EngineSettings.parse({"opencl": {}}) == NOTHING_ASKED
    assert NOTHING_ASKED.to_dict() == {}
    assert (NOTHING_ASKED.words, NOTHING_ASKED.accelerated, NOTHING_ASKED.cached) == ("", False, False)
    assert not EngineSettings(threads=4, power_mode="LITE_POWER_HIGH").accelerated


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "engine must be an object"),
        ({"turbo": 1}, "engine has no field turbo"),
        ({"opencl": {"cache_dir": "/etc"}}, "engine.opencl has no field cache_dir"),
        ({"threads": 257}, "engine.threads must be a whole number from 0 to 256, not 257"),
        ({"threads": True}, "engine.threads must be a whole number"),
        ({"power_mode": "HIGH"}, "engine.power_mode must be LITE_POWER_ and one of HIGH, LOW,"),
        ({"opencl": {"tune": "normal"}}, "engine.opencl.tune must be CL_TUNE_ and one of NONE,"),
        ({"opencl": {"cache": "/var"}}, "engine.opencl.cache must be true or false, not '/var'"),
        ({"nnadapter": {"devices": ["../x"]}}, "engine.nnadapter.devices is not well formed: '../x'"),
        ({"nnadapter": {"devices": ["a"] * 9}}, "engine.nnadapter.devices must be a list of 0 to 8 items"),
        ({"nnadapter": {"context_properties": "A=\n"}}, "engine.nnadapter.context_properties is not well formed"),
        ({"nnadapter": {"context_properties": "x" * 2001}}, "engine.nnadapter.context_properties is not well formed"),
    ],
)
def test_what_is_not_well_formed_is_named(given: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        EngineSettings.parse(given)
    assert str(caught.value).startswith(words)


def test_reports_read_back_and_are_sentences() -> None:
    reports = (
        SettingReport("threads", "2", "taken", "2"),
        SettingReport("power mode", "LITE_POWER_LOW", "not-taken", "LITE_POWER_HIGH", "there are no small cores"),
        SettingReport("OpenCL cache", "on", "passed", "", "it does not say"),
    )
    assert parse_reports([one.to_dict() for one in reports]) == reports
    assert [one.words for one in reports] == [
        "threads 2: taken",
        "power mode LITE_POWER_LOW: not taken, it is LITE_POWER_HIGH (there are no small cores)",
        "OpenCL cache on: passed to Paddle-Lite (it does not say)",
    ]
    assert parse_reports(None) == ()


@pytest.mark.parametrize("given", ["x", [1], [{"state": "great"}], [{"state": "taken"}], [{}] * 17])
def test_reports_of_a_process_that_is_not_trusted_are_checked(given: object) -> None:
    with pytest.raises(ValueError):
        parse_reports(given)
