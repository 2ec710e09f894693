"""The native engine on a stand-in library with Paddle-Lite's C++ interface: what the real one cannot be made to do at will."""

from __future__ import annotations

import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.formats.npz import Array

from tests.agent.verification.native.driving import Driven, Toy, compile_standin, drive, toy

Library = Callable  # -> Path; Python 3.7 takes no subscript here
X = Array("float32", (2, 3), struct.pack("<6f", 0.5, -1, 2, 3e38, -0.0, 1e-45))
LONG = "a_name_of_more_than_fifteen_characters/so_that_it_lies_on_the_heap.tmp_0"
VALUES = {
    "float32": X,
    "float64": Array("float64", (1, 2), struct.pack("<2d", 1 / 3, -1e300)),
    "int8": Array("int8", (4,), b"\x80\xff\x00\x7f"),
    "uint8": Array("uint8", (2, 2), b"\x00\x80\xff\x01"),
    "int16": Array("int16", (1, 3), struct.pack("<3h", -32768, 7, 32767)),
    "int32": Array("int32", (3,), struct.pack("<3i", -(2**31), 5, 2**31 - 1)),
    "int64": Array("int64", (1, 1, 2), struct.pack("<2q", -(2**63), 2**40 + 1)),
    "bool": Array("bool", (5,), b"\x01\x00\x00\x01\x01"),
}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Return a compiler of the stand-in; each set of flags is compiled once."""
    made: dict = {}
    folder = tmp_path_factory.mktemp("standin")

    def get(*flags: str) -> Path:
        if flags not in made:
            made[flags] = compile_standin(folder / str(len(made)) / "libpaddle_light_api_shared.so", *flags)
        return made[flags]

    return get


def run(library: Path, model: Toy, **job: object) -> Driven:
    declared = [[t.name, t.dtype, t.dims] for t in model.declared]
    return drive([sys.executable, "-I"], library, model.path, [model.case], model.names, declared=declared, **job)


def simple(folder: Path, *more: str, version: str = "v2.13") -> Toy:
    return toy(folder, {"x": X}, {"y": "twice 0"}, *more, version=version)


def died(result: Driven, by: int) -> bool:
    return result.code == -by and not result.report


@pytest.mark.parametrize("layout", [210, 212, 213])
@pytest.mark.parametrize("arm", [False, True])
def test_every_known_layout_is_found_at_run_time(library: Library, tmp_path: Path, layout: int, arm: bool) -> None:
    flags = [f"-DSTANDIN_LAYOUT={layout}"] + ["-DSTANDIN_ARM"] * arm
    result = run(library(*flags), simple(tmp_path))
    assert result.error == ("", "")
    assert struct.unpack("<6f", result.outputs()[0].data)[:4] == (1, -2, 4, float("inf"))
    assert result.report["version"] == "v2.13"
    assert result.report["base_size"] % 2 == (layout == 210)  # that one ends with a flag, in the middle of a word


def test_values_of_each_type_come_out_as_they_went_in(library: Library, tmp_path: Path) -> None:
    outputs = {f"out_{name}": f"copy {i}" for i, name in enumerate(VALUES)}
    result = run(library(), toy(tmp_path, VALUES, outputs))
    assert result.error == ("", "")
    assert result.outputs() == list(VALUES.values())


def test_short_and_long_names_and_many_of_them(library: Library, tmp_path: Path) -> None:
    names = ["x", "fifteen_letters", "sixteen_letters_", LONG, *(f"n{i}" * 40 for i in range(20))]
    values = {
        name: Array("int32", (1, i + 1), struct.pack(f"<{i + 1}i", *range(i + 1))) for i, name in enumerate(names)
    }
    outputs = {f"{LONG}_{i}" if i % 2 else f"y{i}": f"copy {len(names) - 1 - i}" for i in range(len(names))}
    result = run(library(), toy(tmp_path, values, outputs, version="v2.13-and-a-text-that-is-long"), runs=3)
    assert result.report["output_names"] == list(outputs)
    assert result.report["version"] == "v2.13-and-a-text-that-is-long"
    assert result.outputs() == list(reversed(list(values.values())))


def test_a_path_may_be_long_and_not_ascii(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / ("模型 " * 30) / "x"
    folder.mkdir(parents=True)
    assert run(library(), simple(folder)).error == ("", "")


def test_a_lod_goes_in_and_comes_out(library: Library, tmp_path: Path) -> None:
    value = Array("int64", (5, 1), struct.pack("<5q", *range(5)))
    model = toy(tmp_path, {"words": value}, {"same": "copy 0"})
    levels = [[0, 2, 2], [0, 1, 3, 5]]
    assert run(library(), model, lod={"words": levels}).report["lods"] == [[levels]]
    assert run(library(), model).report["lods"] == [[[]]]
    for wrong in ([[1, 5]], [[0, 3, 2]], [[]]):
        assert run(library(), model, lod={"words": wrong}).error[0] == "inputs"


@pytest.mark.parametrize("place", ["load", "run", "input", "names"])
@pytest.mark.parametrize(
    ("what", "by"), [("throw", signal.SIGABRT), ("abort", signal.SIGABRT), ("segv", signal.SIGSEGV)]
)
def test_exceptions_and_crashes_end_the_process_and_never_become_an_answer(
    library: Library, tmp_path: Path, place: str, what: str, by: int
) -> None:
    result = run(library(), simple(tmp_path, f"on {place} {what}"))
    assert died(result, by)
    assert "stage: loading the model" in result.stdout
    if what != "segv":
        assert f"told to {what} at {place}" in result.stderr


def test_a_file_that_is_not_there_ends_it_with_the_library_s_own_words(library: Library, tmp_path: Path) -> None:
    model = simple(tmp_path)
    model.path.unlink()
    result = run(library(), model)
    assert died(result, signal.SIGABRT)
    assert "what():  standin: no model at " in result.stderr


# --- what a library may lack


def test_the_old_string_abi_is_named(library: Library, tmp_path: Path) -> None:
    kind, text = run(library("-D_GLIBCXX_USE_CXX11_ABI=0"), simple(tmp_path)).error
    assert kind == "native"
    assert "was built with the old string ABI (_GLIBCXX_USE_CXX11_ABI=0)" in text


def test_a_missing_function_is_named(library: Library, tmp_path: Path) -> None:
    kind, text = run(library("-DSTANDIN_WITHOUT_PRECISION"), simple(tmp_path)).error
    assert kind == "native"
    assert "lacks functions of Paddle-Lite's C++ interface: _ZNK6paddle8lite_api6Tensor9precisionEv." in text


def test_another_library_is_none_of_paddle_lite(tmp_path: Path) -> None:
    other = next(Path("/usr/lib").glob("**/libz.so.1"), None) or next(Path("/lib").glob("**/libm.so.6"))
    kind, text = run(other, simple(tmp_path)).error
    assert kind == "native"
    assert "exports none of Paddle-Lite's C++ functions" in text


def test_a_type_that_the_build_lacks_is_said_when_it_is_needed(library: Library, tmp_path: Path) -> None:
    few = library("-DSTANDIN_FEW_TYPES")
    assert run(few, simple(tmp_path)).error == ("", "")
    model = toy(tmp_path, {"flag": VALUES["bool"]}, {"y": "copy 0"})
    assert run(few, model).error == ("inputs", "the library has no inputs of type bool (the input flag)")


def test_what_the_loader_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    broken = tmp_path / "libpaddle_light_api_shared.so"
    broken.write_bytes(b"\x7fELF" + bytes(200))
    kind, text = run(broken, simple(tmp_path)).error
    assert kind == "import"
    assert str(broken) in text
    kind, text = run(tmp_path / "nowhere", simple(tmp_path)).error
    assert (kind, text.split(" (")[0]) == (
        "import",
        f"{tmp_path}/nowhere holds neither paddlelite/lite.so nor libpaddle_light_api_shared.so nor libpaddle_full_api_shared.so",
    )


# --- what is laid out otherwise


def test_a_configuration_with_another_kind_of_file_name_is_refused(library: Library, tmp_path: Path) -> None:
    kind, text = run(library("-DSTANDIN_LAYOUT=300"), simple(tmp_path)).error
    assert kind == "native"
    assert "laid out in a way that is unknown here: set_model_from_file changed 2 words" in text


@pytest.mark.parametrize("flags", [(), ("-fvisibility=default",)], ids=["names hidden", "names exported"])
def test_virtual_functions_at_other_positions_give_no_answer(library: Library, tmp_path: Path, flags: tuple) -> None:
    result = run(library("-DSTANDIN_SHIFTED", *flags), simple(tmp_path))
    assert result.report.get("outputs", []) == []
    if flags:
        kind, text = result.error
        assert kind == "native"
        assert "the predictor's function 0 should be GetInput: it is NewInThisVersion" in text
    else:
        assert result.code < 0 or result.error[0] == "native"


@pytest.mark.parametrize(
    "flags",
    [("-static-libstdc++", "-static-libgcc"), ("-flto", "-O3", "-DSTANDIN_ARM"), ("-fno-rtti", "-Wl,-z,now")],
    ids=str,
)
def test_other_ways_to_build_the_same_interface_are_driven(library: Library, tmp_path: Path, flags: tuple) -> None:
    assert run(library(*flags), simple(tmp_path)).error == ("", "")


def test_exported_names_of_the_virtual_functions_are_accepted_where_they_are_right(
    library: Library, tmp_path: Path
) -> None:
    assert run(library("-fvisibility=default"), simple(tmp_path)).error == ("", "")


def test_no_predictor_is_said(library: Library, tmp_path: Path) -> None:
    kind, text = run(library("-DSTANDIN_NO_PREDICTOR"), simple(tmp_path)).error
    assert (kind, text) == ("native", "the library gave no predictor for the model")


def test_an_input_that_reads_back_otherwise_is_caught(library: Library, tmp_path: Path) -> None:
    garbles = library("-DSTANDIN_GARBLES")
    kind, text = run(garbles, simple(tmp_path)).error
    assert (kind, text) == ("round-trip", "x was set as float32 [2, 3] and reads back as other items")
    assert run(garbles, simple(tmp_path), check=False).error == ("", "")  # only the check sees it


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        ("none", "no-data", "the output y holds no data: no kernel wrote it"),
        ("strange", "outputs", "the output y has a type that cannot be read (PrecisionType 77)"),
        ("huge", "outputs", "the output y has the shape [1048576, 1048576, 1048576]; at most"),
        ("negative", "outputs", "the output y has the shape [2, -3]; at most"),
    ],
)
def test_outputs_that_cannot_be_are_not_read(
    library: Library, tmp_path: Path, output: str, kind: str, words: str
) -> None:
    error = run(library(), toy(tmp_path, {"x": X}, {"y": output})).error
    assert error[0] == kind
    assert error[1].startswith(words)


def test_other_names_than_the_file_declares_are_refused(library: Library, tmp_path: Path) -> None:
    model = simple(tmp_path)
    report = drive([sys.executable, "-I"], library(), model.path, [model.case], (["x"], ["z"]))
    assert report.error == ("inputs", "the loaded model has the outputs y")
    report = drive([sys.executable, "-I"], library(), model.path, [model.case], (["x", "x2"], ["y"]))
    assert report.error[0] == "native"
    assert "it gives 1 inputs, and the file declares 2" in report.error[1]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (["x", "int64", [-1, 3]], "the input x is float32, the model takes int64"),
        (["x", "float32", [-1, 4]], "the input x has shape [2, 3], the model takes [-1, 4]"),
        (["x", "float32", [-1]], "the input x has shape [2, 3], the model takes [-1]"),
    ],
)
def test_inputs_are_checked_against_the_file(library: Library, tmp_path: Path, declared: list, words: str) -> None:
    model = simple(tmp_path)
    report = drive([sys.executable, "-I"], library(), model.path, [model.case], model.names, declared=[declared])
    assert report.error == ("inputs", words)


# --- versions, settings, memory


@pytest.mark.parametrize(
    ("version", "known", "shrinks"),
    [
        ("v2.13-rc", True, True),
        ("v2.8", True, False),
        ("v3.0", False, False),
        ("", False, False),
        ("0a1b2c3", False, False),
    ],
)
def test_an_unknown_version_runs_by_its_checks_but_is_not_called_known(
    library: Library, tmp_path: Path, version: str, known: bool, shrinks: bool
) -> None:
    report = run(library(), simple(tmp_path, version=version)).report
    assert (report["version"], report["known"], report["can_shrink"]) == (version, known, shrinks)
    assert len(report["outputs"]) == 1


def test_shrink_memory_is_called_where_it_is(library: Library, tmp_path: Path) -> None:
    assert run(library(), simple(tmp_path), shrink=True).report["shrunk"] is True
    assert run(library(), simple(tmp_path, version="v2.8"), shrink=True).report["shrunk"] is False
    exported = library("-fvisibility=default")  # the name tells, whatever the version says
    assert run(exported, simple(tmp_path, version="none"), shrink=True).report["shrunk"] is True


@pytest.mark.parametrize(
    ("flags", "threads", "mode", "report", "config"),
    [
        ((), 3, "", ("set_x86_math_num_threads", 3, ""), "threads 1 mode 3"),
        ((), 0, "LITE_POWER_HIGH", ("", 0, ""), "threads 1 mode 3"),
        (("-DSTANDIN_ARM",), 0, "", ("", 0, ""), "threads 1 mode 3"),
        (("-DSTANDIN_ARM",), 2, "LITE_POWER_HIGH", ("set_threads", 2, "LITE_POWER_HIGH"), "threads 2 mode 0"),
        (("-DSTANDIN_ARM",), 5, "", ("set_threads", 2, ""), "threads 2 mode 3"),  # it has two cores
        (("-DSTANDIN_ARM",), 1, "LITE_POWER_LOW", ("set_threads", 1, "LITE_POWER_HIGH"), "threads 1 mode 0"),
    ],
)
def test_settings_are_reported_as_they_were_taken(
    library: Library, tmp_path: Path, flags: tuple, threads: int, mode: str, report: tuple, config: str
) -> None:
    result = run(library(*flags), simple(tmp_path), threads=threads, power_mode=mode)
    assert (result.report["threads_set_by"], result.report["threads_taken"], result.report["power_mode"]) == report
    assert f"standin: {config}\n" in result.stderr


BOTH = ("-DSTANDIN_ARM", "-DSTANDIN_OPENCL", "-DSTANDIN_NNADAPTER")
ACCELERATED = {
    "threads": 2,
    "power_mode": "LITE_POWER_LOW",
    "opencl": {"tune": "CL_TUNE_NORMAL", "precision": "CL_PRECISION_FP16", "cache": True},
    "nnadapter": {"devices": ["rockchip_npu"], "context_properties": "A=1;" * 50, "cache": True},
}


def states(result: Driven) -> dict:
    return {one["name"]: (one["state"], one["why"]) for one in result.report["settings"]}


def check_accelerators(result: Driven) -> None:
    """Check the run of a library that has both: OpenCL says that it works, NNAdapter gives its values back."""
    assert result.error == ("", "")
    assert result.report["held"] == [["rockchip_npu"], "A=1;" * 50]
    untried = "never run on such hardware by litefleet's authors"
    works = "it says that OpenCL works here, and not what it uses; " + untried
    assert states(result) == {
        "threads": ("taken", ""),
        "power mode": ("not-taken", "Paddle-Lite chose it: the mode that was asked for does not fit the cores"),
        **dict.fromkeys(("OpenCL cache", "OpenCL tuning", "OpenCL precision"), ("passed", works)),
        **dict.fromkeys(("NNAdapter devices", "NNAdapter properties", "NNAdapter cache"), ("taken", untried)),
    }
    assert "standin: OpenCL kernels in /the/cache as opencl_kernels.bin\n" in result.stderr
    assert "standin: OpenCL tuning 2 in '/the/cache' as 'opencl_tuned.bin', 4 repeats\n" in result.stderr
    assert "standin: OpenCL precision 2\n" in result.stderr


def test_settings_of_accelerators_reach_the_library(library: Library, tmp_path: Path) -> None:
    check_accelerators(run(library(*BOTH), simple(tmp_path), engine=ACCELERATED, cache="/the/cache"))


def test_settings_that_the_library_cannot_take_are_said(library: Library, tmp_path: Path) -> None:
    asked = {**ACCELERATED, "nnadapter": {"devices": ["amlogic_npu"], "cache": True}}
    said = states(run(library("-DSTANDIN_ARM"), simple(tmp_path), engine=asked))
    assert said["OpenCL cache"] == ("not-taken", "the folder for it could not be made under the agent's root")
    assert said["OpenCL tuning"] == ("not-taken", "Paddle-Lite says that OpenCL does not work here")
    # The real header has this setter inline: release archives export none.
    assert said["NNAdapter devices"] == ("not-taken", "this library does not export set_nnadapter_device_names")
    result = run(library(*BOTH), simple(tmp_path), engine=asked)
    assert states(result)["NNAdapter devices"] == (
        "not-taken",
        "Paddle-Lite says that it has no device amlogic_npu here",
    )


def test_a_power_mode_that_does_not_exist_is_said(library: Library, tmp_path: Path) -> None:
    kind, text = run(library(), simple(tmp_path), power_mode="LITE_POWER_TURBO").error
    assert kind == "native"
    assert text.startswith("LITE_POWER_TURBO is no power mode of Paddle-Lite; there are LITE_POWER_HIGH,")


def test_a_model_is_destroyed_when_another_takes_its_place(library: Library, tmp_path: Path) -> None:
    first = simple(tmp_path)
    (tmp_path / "b").mkdir()
    second = toy(tmp_path / "b", {"x": Array("float32", (1, 4), bytes(16))}, {"y": "twice 0"})
    cases = [first.case, second.case, first.case]
    result = drive([sys.executable, "-I"], library(), first.path, cases, first.names, release=True)
    assert result.report["loads"] == 3
    assert result.stderr.count("standin: predictor destroyed") == 3
    assert result.outputs(0) == result.outputs(2)


def test_a_python_without_ctypes_is_a_sentence(library: Library, tmp_path: Path) -> None:
    kind, text = run(library(), simple(tmp_path), without=["_ctypes"]).error
    assert kind == "native"
    assert text.startswith("this Python has no ctypes, which drives the C++ library (")
