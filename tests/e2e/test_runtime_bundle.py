"""What the controller brings where a device has a bare Python: the wheels for it, with its numpy or without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings import Verdict
from litefleet_controller.demo import DeviceSpec, EmbeddedFleet

from tests.e2e.conftest import Project

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
    assert second.sent_bytes < 5_000
    assert packages(python) == before


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
    assert second.sent_bytes < 5_000
