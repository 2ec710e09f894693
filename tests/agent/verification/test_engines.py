"""One wheel for x86_64 serves every interpreter: through its binding where that fits, natively everywhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict, decide
from litefleet_agent.verification.engines import binding_fits
from litefleet_agent.verification.verify import VerifyResult, VerifySpec, paddlelite_finding, verify

from tests.agent.verification.native.driving import interpreter
from tests.conftest import environment, lite_environment, paddle_goldens, raw_nb

toolchain = pytest.mark.toolchain
WHEEL = "paddlelite==2.13rc0"


def site_of(python: Path) -> Path:
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    return site


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel alone, without numpy, as a controller sends it."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in site_of(lite_environment()).glob("[Pp]addle*"):
        (folder / path.name).symlink_to(path)
    return folder


def run(model: str, python: Path, folder: Path, **more: object) -> VerifyResult:
    golden = [str(path) for path in paddle_goldens(model)]
    spec = VerifySpec.from_dict({"nb": str(raw_nb(model, "x86")), "golden": golden, **more})
    return verify(spec, str(folder), python=str(python))


@toolchain
@pytest.mark.parametrize("model", ["cls", "det", "rec"])
@pytest.mark.parametrize(("version", "numpy"), [("3.7", ""), ("3.11", ""), ("3.13", ""), ("3.13", "2")])
def test_interpreters_that_the_wheel_is_not_for_verify(
    model: str, version: str, numpy: str, wheel: Path, tmp_path: Path
) -> None:
    result = run(model, interpreter(version, numpy), tmp_path / "work", runtime=str(wheel))
    assert result.findings == []
    assert result.measurements is not None
    figures = result.measurements.to_dict()
    assert (figures["engine"], figures["runtime_version"], figures["numpy_version"]) == ("native", "v2.13-rc", "")
    assert result.sandbox is not None


@toolchain
def test_numpy_2_no_longer_matters(tmp_path: Path) -> None:
    python = environment("lite-2.13rc0-numpy2", "3.10", WHEEL, "numpy>=2")
    result = run("cls", python, tmp_path / "work")
    assert decide(result.findings) is Verdict.VERIFIED
    assert result.measurements is not None
    assert result.measurements.engine == "native"
    assert not binding_fits(str(site_of(python)), "cp310")


@toolchain
def test_the_binding_is_used_where_it_fits(tmp_path: Path) -> None:
    python = lite_environment()
    site = str(site_of(python))
    assert binding_fits(site, "cp310")
    assert not binding_fits(site, "cp311")
    result = run("cls", python, tmp_path / "work")
    assert result.measurements is not None
    assert result.measurements.engine == "binding"


def test_nothing_installed_is_still_a_sentence(tmp_path: Path) -> None:
    assert not binding_fits(str(tmp_path), "cp311")


@pytest.mark.parametrize(("kind", "code"), [("native", "LF315"), ("no-data", "LF405"), ("outputs", "LF407")])
def test_each_failure_of_the_native_engine_has_its_finding(kind: str, code: str) -> None:
    found = paddlelite_finding(kind, "y holds no data: no kernel wrote it", "running case 1")
    assert (found.code, found.observed) == (code, "y holds no data: no kernel wrote it")


def test_a_read_back_that_differs_is_quoted() -> None:
    found = paddlelite_finding("round-trip", "x was set as float32 [1] and reads back as other bytes", "loading")
    assert found.code == "LF305"
    assert found.observed.endswith("from what was set: x was set as float32 [1] and reads back as other bytes.")
    assert "numpy 1.26.4" in paddlelite_finding("round-trip", "1.26.4", "loading").observed


def test_a_namespace_folder_named_numpy_is_no_numpy(tmp_path: Path) -> None:
    (tmp_path / "numpy" / "core").mkdir(parents=True)  # what an uninstalled numpy leaves
    (tmp_path / "paddlelite").mkdir()
    for name in ("__init__.py", "lite.py"):
        (tmp_path / "paddlelite" / name).touch()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.verification.paddlelite import PaddleLite\n"
    )
    code += "engine = PaddleLite(sys.argv[2], '', [], []); engine.import_runtime(); print(engine.numpy, [engine.numpy_version])"
    agent = Path(__file__).parents[3] / "agent"
    argv = [sys.executable, "-I", "-S", "-c", code, str(agent), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "['']"]
