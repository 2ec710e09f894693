"""What the controller brings where a device has a bare Python: the wheels for it, with its numpy or without."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from tests.conftest import CACHE, lite_environment, paddle_goldens
from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import litefleet

Projects = Callable[..., Project]
WHEELS = {"x86_64": {"paddlelite": "2.13rc0", "numpy": "<2"}, "numpy-2": {"paddlelite": "2.13rc0", "numpy": ">=2"}}


def bare(tmp_path: Path, python: Path | str, **settings: object) -> EmbeddedFleet:
    """A fleet of one device, `a`: no packages of ours in its interpreter, and a numpy on PYTHONPATH that is none."""
    stray = tmp_path / "stray" / "numpy"
    stray.mkdir(parents=True)
    (stray / "__init__.py").write_text("raise ImportError('this numpy is not to be imported')\n")
    spec = DeviceSpec("a", python=str(python), settings=settings, env={"PYTHONPATH": str(stray.parent)})
    return EmbeddedFleet(tmp_path / "devices", [spec])


def with_runtimes(job: Project, runtimes: dict[str, object]) -> Project:
    """Change `runtimes:` in the project's litefleet.yaml; none of them: the published wheels."""
    path = job.folder / "litefleet.yaml"
    config = {k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "runtimes"}
    path.write_text(yaml.safe_dump({**config, **({"runtimes": runtimes} if runtimes else {})}))
    return job


def packages(python: Path | str) -> dict[str, int]:
    """Every file under the interpreter's site-packages with its time of change, byte code aside."""
    call = "import site; print(*site.getsitepackages(), site.getusersitepackages(), sep='\\n')"
    folders = subprocess.run([python, "-c", call], capture_output=True, text=True, check=True).stdout.split("\n")
    files = [p for folder in folders if folder for p in Path(folder).rglob("*") if "__pycache__" not in p.parts]
    return {str(p): p.stat().st_mtime_ns for p in files if p.is_file()}


async def test_a_bare_interpreter_gets_its_runtime_and_keeps_its_own_packages(
    tmp_path: Path, project: Projects, lite_python: Path
) -> None:
    python = lite_python.resolve()  # the interpreter itself: the environment's packages are not in it
    before = packages(python)
    async with bare(tmp_path, python) as devices:
        job = with_runtimes(project(devices), WHEELS)
        first = (await job.run()).outcomes[0]
        assert first.verdict is Verdict.VERIFIED, first.to_dict()
        assert first.sent_bytes > 20_000_000
        (runtime,) = (p for p in (devices.devices["a"].root / "runtimes").iterdir() if p.is_dir())
        assert (runtime / "paddlelite" / "lite.so").exists()
        assert (runtime / "numpy" / "__init__.py").exists()
        second = (await job.run("verify")).outcomes[0]
    assert second.verdict is Verdict.VERIFIED
    assert second.sent_bytes < 6_000
    assert packages(python) == before


def release_archive() -> Path:
    """The wheel's library laid out as a release archive for x86_64; made once, as what is read of it is kept by its path."""
    package = next(lite_environment().parent.parent.glob("lib/python*/site-packages")) / "paddlelite"
    path = CACHE / "inference_lite_lib.x86.linux.tar"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as made, tarfile.open(fileobj=made, mode="w") as tar:
            top = "inference_lite_lib.x86.linux"
            tar.add(package / "lite.so", f"{top}/cxx/lib/libpaddle_light_api_shared.so")
            tar.add(package / "libs", f"{top}/third_party/mklml/lib")
            tar.add(package / "__init__.py", f"{top}/cxx/include/paddle_api.h")
        Path(made.name).rename(path)
    return path


async def test_a_release_archive_is_all_that_a_device_needs(tmp_path: Path, project: Projects) -> None:
    python = Path(sys.executable).resolve()
    async with bare(tmp_path, python) as devices:
        job = with_runtimes(project(devices), {"x86_64": {"archive": str(release_archive())}})
        first = (await job.run()).outcomes[0]
        (runtime,) = (p for p in (devices.devices["a"].root / "runtimes").iterdir() if p.is_dir())
        names = {str(path.relative_to(runtime)) for path in runtime.rglob("*") if path.is_file()}
        inferred = await litefleet(job, "infer", "-m", "cls", str(paddle_goldens("cls")[0]), "--json")
        planned = await litefleet(job, "plan", "--json")
    assert first.verdict is Verdict.VERIFIED, first.to_dict()
    assert names == {"libpaddle_light_api_shared.so", "libs/libiomp5.so", "libs/libmklml_intel.so"}
    assert (first.measurements["engine"], first.measurements["numpy_version"]) == ("native", "")
    assert inferred.returncode == 0, inferred.stderr
    assert "v2.13-rc of inference_lite_lib.x86.linux.tar" in planned.stdout


@pytest.mark.parametrize("runtimes", [{}, WHEELS])
async def test_a_newer_interpreter_drives_the_library_and_numpy_does_not_matter(
    tmp_path: Path, project: Projects, runtimes: dict[str, object]
) -> None:
    python = Path(sys.executable).resolve()  # 3.11 or later: no wheel is published for it
    named = {"runtime": "numpy-2"} if runtimes else {}
    async with bare(tmp_path, python, **named) as devices:
        job = with_runtimes(project(devices), runtimes)
        first, second = (await job.run()).outcomes[0], (await job.run("verify")).outcomes[0]
        (runtime,) = (p for p in (devices.devices["a"].root / "runtimes").iterdir() if p.is_dir())
        numpy = runtime / "numpy" / "__init__.py"
        assert numpy.exists() is bool(runtimes)
    assert (first.verdict, second.verdict) == (Verdict.VERIFIED, Verdict.VERIFIED), (first.to_dict(), second.to_dict())
    assert second.sent_bytes < 6_000
