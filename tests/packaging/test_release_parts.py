"""What comes with a release beside the wheel: its list of parts, its container image, and the ways to install that docs print."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "integrations" / "container" / "Containerfile"
BIN = Path(sys.executable).parent


def run(*argv: object, cwd: Path | None = None, **env: str) -> str:
    surroundings = {**os.environ, **env}
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, env=surroundings, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(uv.find_uv_bin(), "build", "-q", "--wheel", "--python", sys.executable, "-o", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_uv_installs_and_runs_the_wheel_and_its_parts_are_listed(wheel: Path, tmp_path: Path) -> None:
    own = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin"), "LANG": "C.UTF-8"}
    run(uv.find_uv_bin(), "tool", "install", "-q", "--python", sys.executable, wheel, **own)
    assert run(tmp_path / "bin" / "litefleet", "--version") == version_of(wheel)

    parts = []
    for number in (1, 2):
        out = tmp_path / f"{number}.cdx.json"
        python = tmp_path / "tools" / "litefleet" / "bin" / "python"
        run(ROOT / "tools" / "sbom.sh", out, wheel, python, PATH=f"{BIN}:{os.environ['PATH']}")
        parts.append(out.read_text())
    assert parts[0] == parts[1]
    document: Any = json.loads(parts[0])
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "litefleet"
    names = {part["name"].lower(): part for part in document["components"]}
    assert {"asyncssh", "sqlalchemy", "pydantic", "numpy", "uv"} <= set(names)
    assert not {"pytest", "mypy", "ansible-core"} & set(names)
    assert all(
        part["version"] and part["purl"].startswith("pkg:pypi/") for name, part in names.items() if name != "litefleet"
    )
    assert str(tmp_path) not in parts[0]


def version_of(wheel: Path) -> str:
    return f"litefleet {wheel.name.split('-')[1]}\n"


def printed(start: str) -> list[str]:
    """Return the words of the command that both pages of docs/install print, which starts so."""
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("install.md", "install.zh.md")]
    found = {command for page in pages for command in re.findall(rf"`({re.escape(start)}[^`]*)`", page)}
    assert len(found) == 1, found
    return shlex.split(found.pop())


@pytest.fixture
def shelf(wheel: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which litefleet is found beside the packages of the index, and nothing of this checkout is."""
    path = f"{Path(uv.find_uv_bin()).parent}:{os.environ['PATH']}"
    own = {"PYTHONPATH": "", "LANG": "C.UTF-8", "UV_PYTHON": sys.executable, "PIPX_DEFAULT_PYTHON": sys.executable}
    own |= {
        "UV_FIND_LINKS": str(wheel.parent),
        "PIP_FIND_LINKS": f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}",
    }
    for name in ("HOME", "BIN_DIR", "MAN_DIR"):
        own[f"PIPX_{name}"] = str(tmp_path / f"pipx-{name}")
    (tmp_path / "empty").mkdir()
    return {**own, "PATH": path}


def check_dashboard(program: Path, here: dict[str, Any]) -> None:
    """Check that the server starts in an empty folder with a project, and renders its templates."""
    folder, models = here["cwd"], "{cls: {nb: {x86_64: model.nb}, golden: {engine: paddlelite}}}"
    (folder / "litefleet.yaml").write_text(f"{{fleet: lab, inventory: fleet.yaml, models: {models}}}")
    (folder / "fleet.yaml").write_text("devices: {cam: {host: 192.0.2.7}}")
    (folder / "model.nb").touch()
    token = run(program, "serve", "token", "ann", **here).split()[-1]
    argv, env = [program, "serve", "--no-link", "--port", "0"], {**os.environ, **here}
    env.pop("cwd")
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=folder, env=env) as server:
        try:
            assert server.stderr is not None
            url = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
            asked = urllib.request.Request(f"{url}devices/cam", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(asked, timeout=60) as response:
                assert ">cam<" in response.read().decode()
        finally:
            server.terminate()


@pytest.mark.parametrize("backend", ["uv", pytest.param("pip", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "way", ["pipx install 'litefleet[dashboard]'", pytest.param("pipx install litefleet", marks=pytest.mark.long)]
)
def test_pipx_installs_it_with_its_manual_page(
    backend: str, way: str, wheel: Path, shelf: dict[str, str], tmp_path: Path
) -> None:
    run("uvx", "-q", *printed(way), cwd=tmp_path / "empty", PIPX_DEFAULT_BACKEND=backend, **shelf)
    program = tmp_path / "pipx-BIN_DIR" / "litefleet"
    here: dict[str, Any] = {"cwd": tmp_path / "empty", **shelf}
    assert run(program, "--version", **here) == version_of(wheel)
    assert "LF101" in run(program, "explain", "LF101", **here)
    assert "pipx install" in run(program, "docs", "install", **here)
    if "dashboard" in way:
        check_dashboard(program, here)
    if shutil.which("man"):
        page = run("man", "-w", "litefleet", MANPATH=str(tmp_path / "pipx-MAN_DIR"), **here).strip()
        assert "\n.SH NAME\nlitefleet" in Path(page).read_text(encoding="utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", ["--version", pytest.param("", marks=pytest.mark.toolchain)])
def test_uvx_runs_the_demo_in_an_empty_folder(end: str, wheel: Path, shelf: dict[str, str], tmp_path: Path) -> None:
    command = printed("uvx litefleet")
    assert command == ["uvx", "litefleet", "demo"]
    said = run(*(command[:2] if end else command), *end.split(), cwd=tmp_path / "empty", **shelf)
    assert said == version_of(wheel) if end else "verified" in said


def test_the_containerfile_lints_and_says_what_it_must() -> None:
    assert run(BIN / "hadolint", "--no-color", CONTAINERFILE) == ""
    text = CONTAINERFILE.read_text(encoding="utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert "\nUSER 10001\n" in last
    assert "/healthz" in last
    assert "pip install" not in last
    assert "gcc" not in text
