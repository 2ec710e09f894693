"""The mismatch, row by row: raw Paddle-Lite crashes or answers wrong in silence; litefleet says so, and before loading
wherever the file alone can tell.  Everything here runs on x86_64: raw Paddle-Lite through its Python binding, litefleet's
checks (`check`) through the native engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings import Severity, Verdict, decide
from litefleet_agent.findings.model_file import check_file
from litefleet_agent.formats.nb import NbError, read_nb
from litefleet_agent.verification.child_process import ChildResult, decode

from tests.agent.support.real_paddlelite import SHAPES, Verify, codes, opt, run_raw, verifier
from tests.conftest import environment

pytestmark = [pytest.mark.toolchain, pytest.mark.any_python]  # verdicts on the oldest Python: test_verify.py
Nb = Callable  # -> Path; Python 3.7 takes no subscript here
Goldens = dict
X86 = ARCHES["x86_64"]
REFERENCE = {"cls": 0.56828862, "rec": 0.85880745}  # the largest output


def static(nb: Path) -> list[str]:
    """The codes of the errors that the file's bytes give on x86_64, nothing loaded."""
    return [f.code for f in check_file(read_nb(nb.read_bytes()), X86) if f.severity is Severity.ERROR]


@pytest.fixture(scope="session")
def lite212() -> Path:
    return environment("lite-2.12", "3.7", "paddlelite==2.12", "numpy<2")


@pytest.fixture
def check(check: Verify) -> Verify:
    """Return `check` with the native engine and no other."""
    return lambda nb, golden, **more: check(nb, golden, **{"wanted": "native", **more})


@pytest.mark.parametrize("model", ["cls", "det", "rec"])
def test_x86_files_are_right(model: str, lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify) -> None:
    nb = nb_files(model, "x86")
    raw = run_raw(lite_python, nb, SHAPES[model])
    assert raw.code == 0
    assert raw.finite
    assert raw.max == pytest.approx(REFERENCE.get(model, raw.max), abs=1e-5)
    assert static(nb) == []
    result = check(nb, goldens[model])
    assert (result.findings, result.measurements.engine) == ([], "native")


@pytest.mark.parametrize("targets", ["arm", "arm,x86"])
@pytest.mark.parametrize("model", ["rec", "cls"])
def test_arm_files_segfault(
    model: str, targets: str, lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify
) -> None:
    nb = nb_files(model, targets)
    assert run_raw(lite_python, nb, SHAPES[model]).code == -11
    assert static(nb) == ["LF101"]
    result = check(nb, goldens[model])
    assert codes(result) == ["LF401"]
    assert "SIGSEGV" in result.findings[0].observed


@pytest.mark.parametrize(("model", "code"), [("cls", "LF401"), ("det", "LF405")])
def test_a_new_proof_of_an_arm_file_ends_the_same_way_whichever_engine_is_tried(
    model: str, code: str, nb_files: Nb, goldens: Goldens, check: Verify
) -> None:
    """The crash is tried again through the binding, and ends alike: then nothing is said of engines."""
    assert codes(check(nb_files(model, "arm"), goldens[model], wanted="")) == [code]


@pytest.mark.parametrize("targets", ["arm", "arm,x86"])
def test_the_arm_detector_answers_garbage_with_exit_code_0(
    targets: str, lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify
) -> None:
    nb = nb_files("det", targets)
    raw = run_raw(lite_python, nb, SHAPES["det"])
    assert raw.code == 0
    assert raw.sum != pytest.approx(3.42067e-4, rel=0.01)
    assert static(nb) == ["LF101"]
    result = check(nb, goldens["det"])
    assert decide(result.findings) is Verdict.WRONG


def test_arm_x86_is_an_arm_file(nb_files: Nb) -> None:
    both = read_nb(nb_files("cls", "arm,x86").read_bytes())
    assert both.kernels_by_target() == read_nb(nb_files("cls", "arm").read_bytes()).kernels_by_target()


def test_x86_arm_is_a_mixture_that_answers_nan(
    lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify
) -> None:
    nb = nb_files("cls", "x86,arm")
    raw = run_raw(lite_python, nb, SHAPES["cls"])
    assert (raw.code, raw.finite) == (0, False)
    assert static(nb) == ["LF102"]
    assert decide(check(nb, goldens["cls"]).findings) is Verdict.WRONG


def test_int8_on_x86_answers_nan(lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify) -> None:
    nb = nb_files("cls", "x86", quant_model="true", quant_type="QUANT_INT8")
    raw = run_raw(lite_python, nb, SHAPES["cls"])
    assert (raw.code, raw.finite) == (0, False)
    assert [f.code for f in check_file(read_nb(nb.read_bytes()), X86)] == ["LF111"]
    assert codes(check(nb, goldens["cls"]))[0] == "LF404"


def test_fp16_converts_for_both_and_is_told_by_its_kernels(
    lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify
) -> None:
    x86 = nb_files("cls", "x86", enable_fp16="true")
    assert run_raw(lite_python, x86, SHAPES["cls"]).code == 0
    assert check(x86, goldens["cls"]).findings == []
    arm = read_nb(nb_files("cls", "arm", enable_fp16="true").read_bytes())
    assert arm.kernels_by_precision()["fp16"] == 100
    assert {f.code for f in check_file(arm, X86)} == {"LF101", "LF104"}
    assert "LF104" in {f.code for f in check_file(arm, ARCHES["aarch64"], frozenset({"asimd"}))}
    assert check_file(arm, ARCHES["aarch64"], frozenset({"asimd", "asimdhp"})) == []


def test_another_paddle_lite_versions_file_is_right(
    lite_python: Path, lite212: Path, nb_files: Nb, models: dict[str, Path], goldens: Goldens, tmp_path: Path
) -> None:
    source = models["cls"] / "inference"
    old = {}
    for target in ("x86", "arm"):
        old[target] = tmp_path / f"{target}.nb"
        done = opt(
            lite212, model_file=f"{source}.pdmodel", param_file=f"{source}.pdiparams", valid_targets=target,
            optimize_out_type="naive_buffer", optimize_out=str(old[target])[:-3],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for python, nb in ((lite_python, old["x86"]), (lite212, nb_files("cls", "x86"))):
        work = tmp_path / python.parent.parent.name
        work.mkdir()
        assert run_raw(python, nb, SHAPES["cls"]).max == pytest.approx(REFERENCE["cls"], abs=1e-5)
        assert verifier(python, work)(nb, goldens["cls"]).findings == []
    assert run_raw(lite_python, old["arm"], SHAPES["cls"]).code == -11
    assert static(old["arm"]) == ["LF101"]


def golden_with(path: Path, to: Path, **arrays: np.ndarray) -> Path:
    np.savez(to, **{**dict(np.load(path)), **arrays})
    return to


def test_a_wrong_channel_count_answers_confidently(
    lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path
) -> None:
    nb = nb_files("cls", "x86")
    raw = run_raw(lite_python, nb, (1, 1, 48, 192))
    assert (raw.code, raw.finite, raw.shape) == (0, True, (1, 2))
    assert raw.max != pytest.approx(REFERENCE["cls"], abs=1e-3)
    bad = golden_with(goldens["cls"][0], tmp_path / "bad.npz", x=np.zeros((1, 1, 48, 192), "f4"))
    result = check(nb, [bad])
    assert codes(result) == ["LF412"]
    assert "[1, 1, 48, 192], the model takes [-1, 3, -1, -1]" in result.findings[0].observed


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_another_input_type_answers_nan(
    dtype: str, lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path
) -> None:
    nb = nb_files("cls", "x86")
    raw = run_raw(lite_python, nb, SHAPES["cls"], dtype)
    assert (raw.code, raw.finite) == (0, False)
    bad = golden_with(goldens["cls"][0], tmp_path / "bad.npz", x=np.zeros(SHAPES["cls"], dtype))
    assert codes(check(nb, [bad])) == ["LF412"]


def test_float16_input_aborts(lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path) -> None:
    nb = nb_files("cls", "x86")
    assert run_raw(lite_python, nb, SHAPES["cls"], "float16").code != 0
    bad = golden_with(goldens["cls"][0], tmp_path / "bad.npz", x=np.zeros(SHAPES["cls"], "f2"))
    assert codes(check(nb, [bad])) == ["LF412"]


def test_an_input_unset_or_of_the_wrong_rank_aborts(
    lite_python: Path, nb_files: Nb, goldens: Goldens, check: Verify, tmp_path: Path
) -> None:
    nb = nb_files("cls", "x86")
    for shape in ((), (3, 48, 192)):
        raw = run_raw(lite_python, nb, shape)
        assert raw.code == -6
        (found,) = decode(ChildResult(raw.code, "SIGABRT", b"", raw.stderr, 1.0))
        assert found.code == "LF402"
    y = np.load(goldens["cls"][0])["softmax_0.tmp_0"]
    np.savez(tmp_path / "unset.npz", **{"softmax_0.tmp_0": y})
    rank = golden_with(goldens["cls"][0], tmp_path / "rank.npz", x=np.zeros((3, 48, 192), "f4"))
    assert set(codes(check(nb, [tmp_path / "unset.npz"]))) == {"LF412"}
    assert codes(check(nb, [rank])) == ["LF412"]


def test_a_flipped_bit_in_the_weights_only_shows_in_the_hash(lite_python: Path, nb_files: Nb, tmp_path: Path) -> None:
    good = nb_files("cls", "x86").read_bytes()
    data = bytearray(good)
    data[-20002] ^= 0x40  # one bit of one weight
    flipped = tmp_path / "flipped.nb"
    flipped.write_bytes(data)
    raw = run_raw(lite_python, flipped, SHAPES["cls"])
    assert (raw.code, raw.finite) == (0, True)
    assert 1e-5 < abs(raw.max - REFERENCE["cls"]) < 1e-3  # within any useful tolerance
    assert static(flipped) == []
    assert read_nb(bytes(data)).sha256 != read_nb(good).sha256


@pytest.mark.parametrize("damage", ["truncated", "empty", "another file"])
def test_a_damaged_file_aborts_and_is_known_unloaded(
    damage: str,
    lite_python: Path,
    nb_files: Nb,
    goldens: Goldens,
    check: Verify,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    good = nb_files("cls", "x86").read_bytes()
    other = (models["cls"] / "inference.pdmodel").read_bytes()
    nb = tmp_path / "damaged.nb"
    nb.write_bytes({"truncated": good[: len(good) // 2], "empty": b"", "another file": other}[damage])
    raw = run_raw(lite_python, nb, SHAPES["cls"])
    assert raw.code == -6
    assert decide(decode(ChildResult(raw.code, "SIGABRT", b"", raw.stderr, 1.0))) is not Verdict.VERIFIED
    try:
        found = static(nb)
    except NbError as err:
        found = [err.finding_code]
    assert found in (["LF105"], ["LF106"])


@pytest.mark.parametrize(
    "flags",
    [
        {"valid_targets": "arm x86"},  # as opt's own help writes it
        {"valid_targets": "risc"},
        {"model_file": "/nonexistent/inference.pdmodel"},
        {"param_file": __file__},
        {"optimize_out": "/nonexistent/folder/out"},
    ],
)
def test_the_converter_aborts_and_the_abort_is_decoded(
    flags: dict[str, str], lite_python: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    source = models["cls"] / "inference"
    usual = {
        "model_file": f"{source}.pdmodel", "param_file": f"{source}.pdiparams", "valid_targets": "x86",
        "optimize_out_type": "naive_buffer", "optimize_out": str(tmp_path / "out"),
    }  # fmt: skip
    done = opt(lite_python, **{**usual, **flags})
    assert done.returncode in (-6, 134)
    assert not (tmp_path / "out.nb").exists()
    (found,) = decode(ChildResult(done.returncode, "SIGABRT", b"", done.stdout + done.stderr, 1.0), "opt")
    assert found.severity is Severity.ERROR
    assert found.observed.startswith("opt died with SIGABRT: ")


def test_opt_2_10_lacks_operators_and_its_runtime_lacks_names(
    nb_files: Nb, models: dict[str, Path], goldens: Goldens, tmp_path: Path
) -> None:
    lite210 = environment("lite-2.10", "3.9", "paddlelite==2.10", "numpy<2")
    source = models["rec"] / "inference"
    done = opt(
        lite210, model_file=f"{source}.pdmodel", param_file=f"{source}.pdiparams", valid_targets="x86",
        optimize_out_type="naive_buffer", optimize_out=str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode != 0
    assert "matmul_v2" in done.stdout + done.stderr
    (tmp_path / "newer").mkdir()
    result = verifier(lite210, tmp_path / "newer")(nb_files("cls", "x86"), goldens["cls"])
    assert codes(result) == ["LF402"]
    assert "while loading the model, died with SIGABRT" in result.findings[0].observed
    assert "kernel for 'matmul_v2' is not supported" in result.findings[0].observed
    det = models["det"] / "inference"
    done = opt(
        lite210, model_file=f"{det}.pdmodel", param_file=f"{det}.pdiparams", valid_targets="x86",
        optimize_out_type="naive_buffer", optimize_out=str(tmp_path / "det"),
    )  # fmt: skip
    result = verifier(lite210, tmp_path)(tmp_path / "det.nb", goldens["det"])
    assert (result.findings, result.measurements.runtime_version) == ([], "v2.10")
