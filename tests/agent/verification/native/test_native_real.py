"""The native engine on the real Paddle-Lite of the published wheels: right on every interpreter, else contained."""

from __future__ import annotations

import os
import signal
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.findings import Finding
from litefleet_agent.formats.nb import read_nb
from litefleet_agent.formats.npz import Array, npz_bytes, read_npz
from litefleet_agent.verification.golden_cases import check_outputs, fits_inputs

from tests.agent.verification.native.driving import Driven, drive, interpreter
from tests.conftest import lite_environment, published_wheel, source_models

pytestmark = [pytest.mark.toolchain, pytest.mark.any_python]  # each test names its interpreter
Nb = Callable  # -> Path; Python 3.7 takes no subscript here
Goldens = dict
NEWEST = "2.13rc0"
TYPES = {"float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"}

BINDING = """
import sys
sys.path.insert(0, sys.argv[1])
from litefleet_agent.verification.paddlelite import PaddleLite
from litefleet_agent.formats.nb import read_nb
from litefleet_agent.formats.npz import npz_bytes, read_npz
model = read_nb(open(sys.argv[2], "rb").read())
names = [t.name for t in model.inputs], [t.name for t in model.outputs]
engine = PaddleLite("", sys.argv[2], *names)
engine.import_runtime()
engine.load()
held = read_npz(sys.argv[3])
engine.set_inputs({name: held[name] for name in names[0]}, check=True)
engine.run()
open(sys.argv[4], "wb").write(npz_bytes(dict(zip(names[1], engine.outputs()))))
"""


def runtime(version: str = NEWEST) -> Path:
    """Return the folder that holds a wheel's paddlelite package."""
    (site,) = lite_environment(version).parent.parent.glob("lib/python*/site-packages")
    return site


def python(version: str, numpy: str = "") -> list[object]:
    return [interpreter(version, numpy), "-I"]


def run(argv: list[object], folder: Path, nb: Path, cases: list[Path], **job: object) -> Driven:
    model = read_nb(nb.read_bytes())
    names = [t.name for t in model.inputs], [t.name for t in model.outputs]
    declared = [list(t) for t in model.inputs]
    return drive(argv, folder, nb, cases, names, **{"declared": declared, **job})


def findings(nb: Path, cases: list[Path], result: Driven) -> list[Finding]:
    """Judge a run as verify does, by the goldens."""
    assert result.error == ("", "")
    model = read_nb(nb.read_bytes())
    goldens = [golden for golden, _ in (fits_inputs(model, read_npz(path), path.name) for path in cases) if golden]
    assert len(goldens) == len(cases)
    return check_outputs(model, goldens, [(result.outputs(i), []) for i in range(len(cases))]).findings


@pytest.mark.parametrize("version", ["3.7", "3.8", "3.11", "3.13"])
def test_no_interpreter_needs_numpy(version: str, nb_files: Nb, goldens: Goldens) -> None:
    """All models on all interpreters: test_engines.py."""
    nb = nb_files("cls", "x86")
    result = run(python(version), runtime(), nb, goldens["cls"], without=["numpy"])
    assert findings(nb, goldens["cls"], result) == []
    assert (result.report["version"], result.report["known"]) == ("v2.13-rc", True)
    assert result.report["python"] == [int(part) for part in version.split(".")]
    assert result.report["numpy"] == ""


@pytest.mark.parametrize(("version", "numpy"), [("3.7", "1"), ("3.11", "1"), ("3.11", "2"), ("3.13", "2")])
def test_numpy_1_and_2_beside_it_change_nothing(version: str, numpy: str, nb_files: Nb, goldens: Goldens) -> None:
    nb = nb_files("cls", "x86")
    result = run(python(version, numpy), runtime(), nb, goldens["cls"], first=["numpy"])
    assert findings(nb, goldens["cls"], result) == []
    assert result.report["numpy"].startswith(numpy + ".")


@pytest.mark.parametrize("model", ["cls", "det", "rec"])
def test_the_answers_are_the_binding_s_byte_for_byte(
    model: str, nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    nb, case = nb_files(model, "x86"), goldens[model][0]
    agent = Path(__file__).parents[4] / "agent"
    argv = [lite_environment(), "-I", "-c", BINDING, agent, nb, case, tmp_path / "binding.npz"]
    subprocess.run([str(part) for part in argv], check=True, capture_output=True, timeout=120)
    result = run(python("3.13"), runtime(), nb, [case])
    assert result.outputs() == list(read_npz(tmp_path / "binding.npz").values())


@pytest.mark.parametrize(("version", "size"), [("2.10", 457), ("2.12", 480), (NEWEST, 528)])
def test_every_published_version_is_driven(
    version: str, size: int, nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    nb = nb_files("det", "x86")
    if version == "2.10":  # which cannot run what a later converter makes of it
        source = source_models()["det"]
        argv = [lite_environment(version).parent / "paddle_lite_opt", f"--optimize_out={tmp_path / 'det'}"]
        argv += [f"--model_file={source / 'inference.pdmodel'}", f"--param_file={source / 'inference.pdiparams'}"]
        argv += ["--valid_targets=x86", "--optimize_out_type=naive_buffer"]
        subprocess.run([str(part) for part in argv], check=True, capture_output=True, timeout=120)
        nb = tmp_path / "det.nb"
    result = run(python("3.11"), runtime(version), nb, goldens["det"], shrink=True)
    assert findings(nb, goldens["det"], result) == []
    assert result.report["version"] == "v" + version.replace("rc0", "-rc")
    assert result.report["base_size"] == size
    assert result.report["shrunk"] is True


def test_the_wheel_for_another_python_serves_as_well(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    with zipfile.ZipFile(published_wheel("paddlelite", NEWEST, "38")) as wheel:
        wheel.extractall(tmp_path)
    nb = nb_files("cls", "x86")
    (library,) = tmp_path.rglob("paddlelite/lite.so")
    result = run(python("3.13"), library.parent.parent, nb, goldens["cls"])
    assert findings(nb, goldens["cls"], result) == []


@pytest.mark.parametrize("given", ["", "cxx", "cxx/lib", "cxx/lib/libpaddle_full_api_shared.so", "..", "symlink"])
def test_the_library_is_found_in_a_release_archive(given: str, nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    package = runtime() / "paddlelite"
    top = tmp_path / "inference_lite_lib.x86.linux"
    folder = top / "cxx" / "lib"
    folder.mkdir(parents=True)
    os.symlink(package / "lite.so", folder / "libpaddle_full_api_shared.so")
    os.symlink(package / "libs", folder / "libs")
    os.symlink(top, tmp_path / "symlink")
    where = tmp_path / "symlink" if given == "symlink" else top / given
    result = run(python("3.11"), where, nb_files("cls", "x86"), goldens["cls"])
    assert findings(nb_files("cls", "x86"), goldens["cls"], result) == []


def test_each_type_is_written_and_read_back_bit_for_bit(nb_files: Nb, goldens: Goldens) -> None:
    result = run(python("3.11"), runtime(), nb_files("cls", "x86"), goldens["cls"][:1], types=True)
    assert {name for name, report in result.report["types"].items() if report is True} == TYPES
    for name, report in result.report["types"].items():
        assert report is True or report == f"the library has no inputs of type {name} (the input x)"


def test_threads_are_set_and_reported(nb_files: Nb, goldens: Goldens) -> None:
    nb = nb_files("cls", "x86")
    result = run(python("3.11"), runtime(), nb, goldens["cls"], threads=2, power_mode="LITE_POWER_HIGH")
    assert findings(nb, goldens["cls"], result) == []
    assert (result.report["threads_set_by"], result.report["threads_taken"]) == ("set_x86_math_num_threads", 2)
    assert result.report["power_mode"] == ""  # a build for x86 has none


def test_settings_of_accelerators_are_passed_to_a_library_that_has_none(nb_files: Nb, goldens: Goldens) -> None:
    """The wheel exports the setters and was built without OpenCL and NNAdapter: it takes the calls, says so, and stays right."""
    nb, properties = nb_files("cls", "x86"), "ROCKCHIP_NPU_X=1;" * 4
    asked = {
        "opencl": {"tune": "CL_TUNE_NORMAL", "precision": "CL_PRECISION_FP16", "cache": True},
        "nnadapter": {"devices": ["rockchip_npu", "verisilicon_timvx"], "context_properties": properties},
    }
    result = run(python("3.11"), runtime(), nb, goldens["cls"], engine=asked, cache="/nowhere")
    assert findings(nb, goldens["cls"], result) == []
    assert result.report["held"] == [["rockchip_npu", "verisilicon_timvx"], properties]
    said = {(one["name"].split()[0], one["state"], one["why"]) for one in result.report["settings"]}
    absent = "Paddle-Lite says that it has no device rockchip_npu, verisilicon_timvx here"
    assert said == {
        ("OpenCL", "not-taken", "Paddle-Lite says that OpenCL does not work here"),
        ("NNAdapter", "not-taken", absent),
    }


def test_another_size_is_run_by_a_model_of_its_own(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    nb, case = nb_files("cls", "x86"), goldens["cls"][0]
    x = read_npz(case)["x"]
    wide = Array(x.dtype, (1, 3, 48, 96), x.data[: len(x.data) // 2])
    (tmp_path / "wide.npz").write_bytes(npz_bytes({"x": wide}))
    alone = run(python("3.11"), runtime(), nb, [tmp_path / "wide.npz"])
    result = run(python("3.11"), runtime(), nb, [case, tmp_path / "wide.npz", case])
    assert result.report["loads"] == 3
    assert result.outputs(1) == alone.outputs()
    assert result.outputs(0) == result.outputs(2)


def test_memory_stays_while_it_runs_and_while_it_loads_again(nb_files: Nb, goldens: Goldens) -> None:
    nb = nb_files("cls", "x86")
    ran = run(python("3.11"), runtime(), nb, goldens["cls"][:1], soak=600)
    assert ran.report["same"]
    assert ran.report["rss"][-1] - ran.report["rss"][3] < 512 << 10
    loaded = run(python("3.11"), runtime(), nb, goldens["cls"][:1], soak=30, reload=True)
    assert loaded.report["loads"] == 31
    # A model that were not destroyed would cost its weights each time, more than a megabyte.
    assert loaded.report["rss"][-1] - loaded.report["rss"][3] < 4 << 20


def test_shrinking_gives_the_memory_of_runs_back_and_the_next_run_is_right(nb_files: Nb, goldens: Goldens) -> None:
    nb = nb_files("rec", "x86")
    result = run(python("3.11"), runtime(), nb, goldens["rec"], shrink=True)
    assert findings(nb, goldens["rec"], result) == []
    assert min(result.report["given_back"]) > 50 << 20


# --- what must not become an answer


def test_arm_kernels_end_the_process_or_leave_an_output_that_holds_no_data(nb_files: Nb, goldens: Goldens) -> None:
    died = run(python("3.11"), runtime(), nb_files("cls", "arm"), goldens["cls"])
    assert (died.code, died.report) == (-signal.SIGSEGV, {})
    # It "runs" in 0.03 ms; the binding gives zeros or whatever memory held.
    empty = run(python("3.11"), runtime(), nb_files("det", "arm"), goldens["det"])
    assert empty.error == ("no-data", "the output sigmoid_0.tmp_0 holds no data: no kernel wrote it")


def test_a_damaged_file_ends_the_process_with_words(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    whole = nb_files("cls", "x86").read_bytes()
    model = read_nb(whole)
    names = [t.name for t in model.inputs], [t.name for t in model.outputs]
    for number, data in enumerate((whole[: len(whole) // 2], b"", b"not a model at all" * 100)):
        path = tmp_path / f"{number}.nb"
        path.write_bytes(data)
        result = drive(python("3.11"), runtime(), path, goldens["cls"], names)
        assert result.code < 0
        assert result.report == {}
        assert result.stdout + result.stderr != ""


def test_the_inputs_that_paddle_lite_answers_wrongly_are_refused(
    nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    x = read_npz(goldens["cls"][0])["x"]
    cases = {
        "the input x has shape [1, 1, 48, 192], the model takes [-1, 3, -1, -1]": Array(
            "float32", (1, 1, 48, 192), x.data[: 48 * 192 * 4]
        ),
        "the input x is uint8, the model takes float32": Array("uint8", x.shape, x.data[: x.count]),
        "the input x is missing": None,
    }
    for number, (words, value) in enumerate(cases.items()):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(npz_bytes({"x" if value else "z": value or x}))
        assert run(python("3.11"), runtime(), nb_files("cls", "x86"), [path]).error == ("inputs", words)
