"""What the binding's engine says of settings, on bindings that no wheel has: those of ARM, and of other versions."""

from __future__ import annotations

import enum

import pytest
from litefleet_agent.formats.engine_settings import EngineSettings, NNAdapterSettings, OpenCLSettings
from litefleet_agent.verification.paddlelite import PaddleLite


class PowerMode(enum.IntEnum):
    """As the binding has it."""

    LITE_POWER_HIGH = 0
    LITE_POWER_LOW = 1


class CLPrecisionType:
    """Takes a value, as enumerations of pybind11 do."""

    def __init__(self, value: int) -> None:
        self.value = value


class ArmConfig:
    """The configuration of a binding for ARM on a device with two cores, all of them large."""

    def __init__(self) -> None:
        self._threads, self._mode, self.precision = 1, PowerMode.LITE_POWER_HIGH, None

    def set_threads(self, count: int) -> None:
        self._threads = min(count, 2)

    def threads(self) -> int:
        return self._threads

    def set_power_mode(self, mode: PowerMode) -> None:
        del mode

    def power_mode(self) -> PowerMode:
        return self._mode

    def set_opencl_precision(self, precision: CLPrecisionType) -> None:
        self.precision = precision.value

    def set_opencl_tune(self, mode: int, repeats: int) -> None:
        """Take what 2.8 took: no file."""

    def set_nnadapter_device_names(self, names: list) -> None:
        self._names = names

    def check_nnadapter_device_name(self, name: str) -> bool:
        return name == "rockchip_npu"

    def nnadapter_device_names(self) -> list:
        return self._names


class Lite:
    """The module of that binding."""

    PowerMode, CLPrecisionType, CLTuneMode = PowerMode, CLPrecisionType, int


def reports(settings: EngineSettings, config: object, cache: str = "") -> list:
    engine = PaddleLite("", "/nb", ["x"], ["y"], settings, cache=cache)
    engine._lite = Lite
    engine._configure(config)
    return [(one.name, one.state, one.taken) for one in engine.setting_reports()]


@pytest.mark.parametrize(
    ("threads", "mode", "told"),
    [
        (2, "LITE_POWER_HIGH", [("threads", "taken", "2"), ("power mode", "taken", "LITE_POWER_HIGH")]),
        (4, "LITE_POWER_LOW", [("threads", "not-taken", "2"), ("power mode", "not-taken", "LITE_POWER_HIGH")]),
        (1, "", [("threads", "taken", "1")]),
        (0, "", []),
    ],
)
def test_threads_and_power_mode_are_read_back_where_the_binding_gives_them(threads: int, mode: str, told: list) -> None:
    assert reports(EngineSettings(threads, mode), ArmConfig()) == told


def test_functions_with_other_parameters_and_missing_ones_are_said() -> None:
    settings = EngineSettings(
        opencl=OpenCLSettings("CL_TUNE_RAPID", "CL_PRECISION_FP16", True),
        nnadapter=NNAdapterSettings(("rockchip_npu",), "A=1;", True),
    )
    config = ArmConfig()
    engine = PaddleLite("", "/nb", ["x"], ["y"], settings, cache="/cache")
    engine._lite = Lite
    engine._configure(config)
    said = {one.name: (one.state, one.why) for one in engine.setting_reports()}
    untried = "never run on such hardware by litefleet's authors"
    assert said["OpenCL cache"] == ("not-taken", "this binding has no set_opencl_binary_path_name")
    assert said["OpenCL tuning"][0] == "not-taken"
    assert said["OpenCL tuning"][1].startswith("set_opencl_tune of this binding takes other arguments (")
    passed = "it does not say whether OpenCL works here; " + untried
    assert said["OpenCL precision"] == ("passed", passed)
    assert config.precision == 2
    assert said["NNAdapter devices"] == ("taken", untried)
    assert said["NNAdapter properties"] == ("not-taken", "this binding has no set_nnadapter_context_properties")
    assert said["NNAdapter cache"] == ("not-taken", "this binding has no set_nnadapter_model_cache_dir")


def test_one_thread_is_what_a_build_without_the_function_runs_with() -> None:
    assert reports(EngineSettings(1), object()) == [("threads", "passed", "")]
    assert reports(EngineSettings(2), object()) == [("threads", "not-taken", "")]
