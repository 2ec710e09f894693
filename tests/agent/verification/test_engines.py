"""One wheel for x86_64 serves every interpreter: natively, or through its binding where an earlier proof or a failure says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict, decide
from litefleet_agent.verification.engines import binding_fits
from litefleet_agent.verification.verify import VerifyResult, VerifySpec, paddlelite_finding, verify

from tests.agent.support.real_paddlelite import archive_of
from tests.agent.verification.native.driving import compile_standin, interpreter
from tests.conftest import environment, lite_environment, paddle_goldens, raw_nb

toolchain = pytest.mark.toolchain
pytestmark = pytest.mark.any_python  # each test names its interpreters
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


# numpy 1 has no build for 3.13, numpy 2 none for 3.7 and 3.8.
INTERPRETERS = {"3.7": ("", "1"), "3.8": ("", "1"), "3.11": ("", "1", "2"), "3.13": ("", "2")}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive_of(lite_environment(), tmp_path_factory.mktemp("archive"))


def _combinations() -> list[object]:
    """Each interpreter with the smallest model, the oldest and the newest with every one; the others are long."""
    every = [(v, numpy) for v, each in INTERPRETERS.items() for numpy in each]
    short = {(*how, "cls") for how in every} | {
        (*how, model) for how in (every[0], every[-1]) for model in ("det", "rec")
    }
    combinations = [(*how, model) for how in every for model in ("cls", "det", "rec")]
    return [c if c in short else pytest.param(*c, marks=pytest.mark.long) for c in combinations]


@toolchain
@pytest.mark.parametrize(("version", "numpy", "model"), _combinations())
def test_every_interpreter_and_numpy_verifies_every_model_with_a_release_archive(
    version: str, numpy: str, model: str, archive: Path, wheel: Path, tmp_path: Path
) -> None:
    runtime = wheel if (version, numpy) == ("3.11", "2") else archive  # a wheel's package for another interpreter, too
    result = run(model, interpreter(version, numpy), tmp_path / "work", runtime=str(runtime))
    assert result.findings == []
    assert decide(result.findings) is Verdict.VERIFIED
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
def test_a_new_proof_is_native_and_an_earlier_one_keeps_its_engine_with_the_same_bytes(tmp_path: Path) -> None:
    """The bytes of all models: test_native_real.py."""
    python = lite_environment()
    site = str(site_of(python))
    assert binding_fits(site, "cp310")
    assert not binding_fits(site, "cp311")
    answers = {}
    for earlier, engine in (("", "native"), ("native", "native"), ("binding", "binding")):
        result = run("cls", python, tmp_path / "work", wanted=earlier, threads=1)
        assert result.findings == []
        assert result.measurements is not None
        assert (result.measurements.engine, result.measurements.threads) == (engine, 1)
        answers[earlier] = (tmp_path / "work" / "outputs.bin").read_bytes()
    assert len(set(answers.values())) == 1


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Return a maker of runtimes: a stand-in as lite.so, which the native engine drives, and the wheel's real binding."""
    (extension,) = (site_of(lite_environment()) / "paddlelite").glob("lite*.so")
    loader = (
        "import importlib.machinery as machinery, importlib.util as util, sys\n"
        f"spec = util.spec_from_file_location('lite', {str(extension)!r})\n"
        "real = util.module_from_spec(spec)\n"
        "spec.loader.exec_module(real)\n"
        "globals().update({name: getattr(real, name) for name in dir(real) if not name.startswith('__')})\n"
    )

    def make(*flags: str) -> Path:
        runtime = tmp_path_factory.mktemp("runtime")
        package = runtime / "paddlelite"
        (package / "lite").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "lite" / "__init__.py").write_text(loader)
        compile_standin(package / "lite.so", *flags)
        return runtime

    return make


@toolchain
def test_a_library_that_fails_the_native_engine_s_checks_is_run_by_the_binding(
    driven: Callable, tmp_path: Path
) -> None:
    runtime = driven()  # it knows nothing of the model's inputs
    result = run("cls", lite_environment(), tmp_path / "work", runtime=str(runtime))
    assert [f.code for f in result.findings] == ["LF328"]
    assert decide(result.findings) is Verdict.VERIFIED
    assert "laid out in a way that is unknown here" in result.findings[0].observed
    assert result.measurements is not None
    assert result.measurements.engine == "binding"
    assert result.measurements.numpy_version.startswith("1.")
    bare = environment("lite-2.13rc0-bare", "3.10", WHEEL)  # no numpy: its binding does not fit
    result = run("cls", bare, tmp_path / "bare", runtime=str(runtime))
    assert [f.code for f in result.findings] == ["LF315"]


@toolchain
def test_a_crash_of_the_native_engine_alone_does_not_fail_the_proof(driven: Callable, tmp_path: Path) -> None:
    crash = tmp_path / "crash.h"
    crash.write_text("#include <csignal>\nstruct Crash { Crash() { std::raise(SIGSEGV); } };\nstatic Crash crash;\n")
    runtime = driven("-include", str(crash))
    result = run("cls", lite_environment(), tmp_path / "work", runtime=str(runtime))
    assert [f.code for f in result.findings] == ["LF328"]
    assert "while importing Paddle-Lite, died with SIGSEGV" in result.findings[0].observed
    assert result.measurements is not None
    assert result.measurements.engine == "binding"
    # What was proven natively is served natively: its proof has no other engine.
    result = run("cls", lite_environment(), tmp_path / "work", runtime=str(runtime), wanted="native")
    assert [f.code for f in result.findings] == ["LF401"]


@toolchain
def test_a_library_that_exports_no_functions_is_run_by_the_binding_at_once(driven: Callable, tmp_path: Path) -> None:
    runtime = driven()
    (runtime / "paddlelite" / "lite.so").write_bytes(b"\x7fELF of an old string ABI")
    result = run("cls", lite_environment(), tmp_path / "work", runtime=str(runtime))
    assert [f.code for f in result.findings] == ["LF328"]
    assert "not the native engine: it exports none of Paddle-Lite's C++ functions" in result.findings[0].observed


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
