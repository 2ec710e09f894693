"""Validated inference with the real Paddle-Lite: what passes, and each way of not passing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Verdict, decide
from litefleet_agent.formats.npz import read_npz
from litefleet_agent.verification.verify import VerifySpec, verify

from tests.agent.support.real_paddlelite import Verify, codes, verifier
from tests.conftest import environment

pytestmark = pytest.mark.toolchain
Nb = Callable  # -> Path; Python 3.7 takes no subscript here
Goldens = dict


def changed(path: Path, to: Path, **arrays: np.ndarray | None) -> Path:
    held = {**dict(np.load(path)), **arrays}
    np.savez(to, **{k: v for k, v in held.items() if v is not None})
    return to


@pytest.mark.parametrize("model", ["cls", "det", "rec"])
def test_a_good_model_is_verified_against_paddlepaddle(
    model: str, nb_files: Nb, goldens: Goldens, check: Verify
) -> None:
    result = check(nb_files(model, "x86"), goldens[model])
    assert result.findings == []
    figures = result.measurements.to_dict()
    assert [(o["case"], o["ok"]) for o in figures["outputs"]] == [(0, True), (1, True)]
    assert max(o["max_abs"] for o in figures["outputs"]) < 1e-5
    assert min(o["cosine"] for o in figures["outputs"]) > 0.999999
    times = figures["latency_ms"]
    assert times["runs"] == 6
    assert 0 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"]
    assert figures["load_ms"] > 0
    assert figures["peak_rss_bytes"] > 20 << 20
    assert figures["runtime_version"] == "v2.13-rc"
    assert (figures["engine"], figures["numpy_version"]) == ("native", "")


def test_without_numpy_the_library_is_driven_natively(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    python = environment("lite-2.13rc0-bare", "3.10", "paddlelite==2.13rc0")
    result = verifier(python, tmp_path)(nb_files("cls", "x86"), goldens["cls"])
    assert result.findings == []
    assert result.measurements.engine == "native"
    assert result.measurements.outputs[0].found.figures()["max_abs"] < 1e-5


def test_the_binding_with_numpy_2_is_caught_by_the_round_trip(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    """Its library is hidden behind a package without one, as for a build that the native engine cannot drive."""
    python = environment("lite-2.13rc0-numpy2", "3.10", "paddlelite==2.13rc0", "numpy>=2")
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    package = tmp_path / "runtime" / "paddlelite"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__path__.append({str(site / 'paddlelite')!r})\n")
    result = verifier(python, tmp_path)(nb_files("cls", "x86"), goldens["cls"], runtime=str(package.parent))
    assert codes(result) == ["LF304"]
    assert "numpy 2." in result.findings[0].observed


def test_a_runtime_folder_is_used_by_another_python(
    lite_python: Path, nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    (site,) = lite_python.parent.parent.glob("lib/python*/site-packages")
    base = subprocess.run(
        [lite_python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    result = verifier(Path(base) / "bin" / "python3.10", tmp_path)(
        nb_files("cls", "x86"), goldens["cls"], runtime=str(site), threads=1
    )
    assert result.findings == []
    assert (result.measurements.threads, result.measurements.threads_set_by) == (1, "set_x86_math_num_threads")


@pytest.mark.parametrize(
    ("wanted", "threads", "accelerators"),
    [("binding", "not-taken", "passed"), ("native", "taken", "not-taken")],  # the library says that it has none
)
def test_settings_of_the_engine_are_reported_as_asked_and_as_taken(
    nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path, wanted: str, threads: str, accelerators: str
) -> None:
    """The binding of the x86_64 wheel has OpenCL's and NNAdapter's setters, and none for threads and power mode."""
    cache = tmp_path / "cache"
    cache.mkdir()
    asked = {"threads": 2, "power_mode": "LITE_POWER_HIGH", "opencl": {"tune": "CL_TUNE_RAPID", "cache": True}}
    asked["nnadapter"] = {"devices": ["rockchip_npu"], "context_properties": "A=1;"}
    result = check(nb_files("cls", "x86"), goldens["cls"], engine=asked, cache=str(cache), wanted=wanted)
    assert codes(result) == ["LF433"]
    assert decide(result.findings) is Verdict.VERIFIED
    assert "power mode LITE_POWER_HIGH: not taken (this build does not take it: " in result.findings[0].observed
    figures = result.measurements.to_dict()
    assert (figures["threads"], figures["engine"]) == (2, wanted)
    assert [(one["name"], one["state"]) for one in figures["settings"]] == [
        ("threads", threads),
        ("power mode", "not-taken"),
        ("OpenCL cache", accelerators),
        ("OpenCL tuning", accelerators),
        ("NNAdapter devices", accelerators),
        ("NNAdapter properties", accelerators),
    ]
    assert result.sandbox.guarantees["writes"] in ("its work folder", "as its user may")


def test_no_paddlelite_is_a_sentence(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    result = verifier(Path(sys.executable), tmp_path)(nb_files("cls", "x86"), goldens["cls"])
    assert codes(result) == ["LF315"]
    assert "paddlelite" in result.findings[0].observed


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("libstdc++.so.6: cannot open shared object file: No such file or directory", "LF306"),
        ("/x/lite.so: undefined symbol: PyCMethod_New", "LF307"),
        ("/lib/libc.so.6: version `GLIBC_2.34' not found", "LF309"),
    ],
)
def test_import_errors_are_told_apart(text: str, code: str, nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    package = tmp_path / "runtime" / "paddlelite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "lite.py").write_text(f"raise ImportError({text!r})")
    result = verifier(Path(sys.executable), tmp_path)(
        nb_files("cls", "x86"), goldens["cls"], runtime=str(tmp_path / "runtime")
    )
    assert codes(result) == [code]
    assert result.findings[0].observed == text


def test_goldens_that_do_not_fit_are_refused_before_anything_is_loaded(
    nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    nb, good = nb_files("cls", "x86"), goldens["cls"][0]
    x = np.load(good)["x"]
    cases = {
        "it lacks the input x": {"x": None, "z": x},
        "input x is float64, the model takes float32": {"x": x.astype("f8")},
        "input x has shape [1, 1, 48, 192], the model takes [-1, 3, -1, -1]": {"x": x[:, :1]},
        "input x has shape [3, 48, 192]": {"x": x[0]},
        "the golden has softmax_0.tmp_0, extra": {"extra": x},
        "the golden has none": {"softmax_0.tmp_0": None},
        "holds NaN or Inf": {"softmax_0.tmp_0": np.full((1, 2), np.nan, "f4")},
    }
    for number, (words, arrays) in enumerate(cases.items()):
        path = changed(good, tmp_path / f"bad{number}.npz", **arrays)
        # An interpreter that isn't there: nothing may be started.
        found = verify(
            VerifySpec.from_dict({"nb": str(nb), "golden": [str(path)]}), str(tmp_path), python="/nonexistent"
        )
        assert set(codes(found)) == {"LF412"}
        assert any(words in f.observed for f in found.findings), found.findings


def test_an_output_under_another_name_is_matched_by_position(
    nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path
) -> None:
    y = np.load(goldens["cls"][0])["softmax_0.tmp_0"]
    path = changed(goldens["cls"][0], tmp_path / "renamed.npz", **{"softmax_0.tmp_0": None, "save/scale_0": y})
    assert check(nb_files("cls", "x86"), [path]).findings == []


def test_wrong_outputs_and_shapes_have_their_figures_in_the_sentence(
    nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path
) -> None:
    nb, good = nb_files("cls", "x86"), goldens["cls"][0]
    y = np.load(good)["softmax_0.tmp_0"]
    off = check(nb, [changed(good, tmp_path / "off.npz", **{"softmax_0.tmp_0": y[:, ::-1].copy()})])
    assert codes(off) == ["LF403"]
    assert off.findings[0].observed.startswith(
        "softmax_0.tmp_0, case 1: max abs error 0.137 (allowed 0.0001 + 0.001 of"
    )
    assert off.measurements.outputs[0].found.figures()["top1"] == 0.0
    shape = check(nb, [changed(good, tmp_path / "shape.npz", **{"softmax_0.tmp_0": y[0]})])
    assert codes(shape) == ["LF407"]
    lenient = check(nb, [tmp_path / "off.npz"], tolerance={"max_abs": 1, "cosine_min": 0, "mean_abs": 1})
    assert lenient.findings == []


def test_gates_and_limits(nb_files: Nb, goldens: Goldens, check: Verify) -> None:
    slow = check(
        nb_files("cls", "x86"), goldens["cls"], gates={"p50_ms": 0.001, "p90_ms": 0.001, "peak_rss_bytes": 1000}
    )
    assert codes(slow) == ["LF409", "LF409", "LF410"]
    assert decide(slow.findings) is Verdict.SLOW
    assert codes(check(nb_files("det", "x86"), goldens["det"], runs=10000, time_limit_s=2)) == ["LF408"]
    assert codes(check(nb_files("det", "x86"), goldens["det"], runs=500, memory_limit_bytes=40 << 20)) == ["LF411"]


@pytest.mark.parametrize("oldest", [False, True], ids=["3.10", "3.7"])
def test_the_child_starts_from_a_zip_too(
    oldest: bool, lite_python: Path, nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    source = Path(__file__).parents[3] / "agent"
    with zipfile.ZipFile(tmp_path / "agent.pyz", "w") as archive:
        for path in sorted(source.rglob("*.py")):
            archive.write(path, path.relative_to(source))
    (tmp_path / "work").mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.verification.verify import VerifySpec, verify\n"
        "spec = VerifySpec.from_dict({'nb': sys.argv[2], 'golden': sys.argv[4:]})\n"
        "print(verify(spec, sys.argv[3]).findings)"
    )
    python = environment("lite-2.12", "3.7", "paddlelite==2.12", "numpy<2") if oldest else lite_python
    argv = [python, "-I", "-c", code, tmp_path / "agent.pyz", nb_files("cls", "x86"), tmp_path / "work"]
    done = subprocess.run([*argv, *goldens["cls"]], capture_output=True, text=True, check=False, cwd="/")
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_what_the_child_keeps_is_readable_and_the_goldens_are_untouched(
    nb_files: Nb, goldens: Goldens, tmp_path: Path, lite_python: Path
) -> None:
    before = read_npz(goldens["cls"][0])
    spec = VerifySpec.from_dict({"nb": str(nb_files("cls", "x86")), "golden": [str(goldens["cls"][0])], "runs": 2})
    verify(spec, str(tmp_path), python=str(lite_python))
    y = np.frombuffer((tmp_path / "outputs.bin").read_bytes(), "<f4")
    assert y == pytest.approx([0.56828862, 0.43171138], abs=1e-5)
    assert read_npz(goldens["cls"][0]) == before
    assert sorted(os.listdir(tmp_path)) == ["engine", "outputs.bin", "result.json", "sandbox.json", "stage"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": 1}, "no field run"),
        ({"golden": []}, "at least one path"),
        ({"nb": 3}, "nb must be a text of 0 to 4096 characters, not 3"),
        ({"runs": 0}, "runs must be a whole number from 1 to 10000, not 0"),
        ({"runs": True}, "runs must be a whole number from 1 to 10000, not True"),
        ({"gates": {"p50": 1}}, "some of p50_ms, p90_ms, p99_ms, peak_rss_bytes"),
        ({"gates": {"p90_ms": -1}}, "above 0"),
        ({"tolerance": {"abs": 1}}, "tolerance must be an object"),
    ],
)
def test_a_specification_is_read_strictly(change: dict[str, object], words: str) -> None:
    with pytest.raises(AgentError, match=words):
        VerifySpec.from_dict({"nb": "a.nb", "golden": ["g.npz"], **change})


def test_an_old_result_is_never_taken_for_a_new_one(
    lite_python: Path, nb_files: Nb, goldens: Goldens, tmp_path: Path
) -> None:
    golden = [str(path) for path in goldens["cls"]]
    good = VerifySpec.from_dict({"nb": str(nb_files("cls", "x86")), "golden": golden})
    assert verify(good, str(tmp_path / "new" / "work"), python=str(lite_python)).findings == []
    bad = VerifySpec.from_dict({"nb": str(nb_files("cls", "arm")), "golden": golden})
    assert codes(verify(bad, str(tmp_path / "new" / "work"), python=str(lite_python))) == ["LF401"]


def test_files_and_folders_that_are_not_there_are_sentences(nb_files: Nb, goldens: Goldens, tmp_path: Path) -> None:
    golden = [str(path) for path in goldens["cls"]]
    missing = verify(VerifySpec.from_dict({"nb": "/nonexistent.nb", "golden": golden}), str(tmp_path))
    assert missing.findings[0].observed == "/nonexistent.nb cannot be read: No such file or directory"
    nb = str(nb_files("cls", "x86"))
    missing = verify(VerifySpec.from_dict({"nb": nb, "golden": ["/nonexistent.npz"]}), str(tmp_path))
    assert missing.findings[0].observed == "/nonexistent.npz cannot be read: No such file or directory"
    with pytest.raises(AgentError, match="the work folder /proc/nothing is unusable"):
        verify(VerifySpec.from_dict({"nb": nb, "golden": golden}), "/proc/nothing")


def test_cases_of_two_sizes_are_each_right_and_said(lite_python, nb_files, tmp_path):
    """One predictor would answer wrong for the second: Paddle-Lite keeps memory that was laid out for the first size."""
    nb = str(nb_files("cls", "x86"))
    references = []
    for number, width in enumerate((96, 192)):
        reference = str(tmp_path / f"{number}.npz")
        code = (
            "import numpy as np\nfrom paddlelite.lite import MobileConfig, create_paddle_predictor\n"
            f"c = MobileConfig(); c.set_model_from_file({nb!r}); p = create_paddle_predictor(c)\n"
            f"x = np.random.RandomState({number}).rand(1, 3, 48, {width}).astype('float32')\n"
            "p.get_input(0).from_numpy(x); p.run(); y = p.get_output(0).numpy().copy()\n"
            f"np.savez({reference!r}, x=x, y=y)\n"
        )
        subprocess.run([str(lite_python), "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        references.append(reference)
    done = verify(VerifySpec(nb, tuple(references)), str(tmp_path / "work"), python=str(lite_python))
    assert [f.code for f in done.findings] == ["LF420"]
    assert "3 x 48 x 96 and 3 x 48 x 192" in done.findings[0].observed
