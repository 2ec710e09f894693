"""What comes with a release beside the wheel: its list of parts, its container image, and runs of the wheel by uv alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "integrations" / "container" / "Containerfile"
BIN = Path(sys.executable).parent


def run(*argv: object, **env: str) -> str:
    surroundings = {**os.environ, **env}
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, env=surroundings, check=False)
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
    version = f"litefleet {wheel.name.split('-')[1]}\n"
    assert run(tmp_path / "bin" / "litefleet", "--version") == version
    assert run(uv.find_uv_bin(), "tool", "run", "-q", "--from", wheel, "litefleet", "--version", **own) == version

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


def test_the_containerfile_lints_and_says_what_it_must() -> None:
    assert run(BIN / "hadolint", "--no-color", CONTAINERFILE) == ""
    text = CONTAINERFILE.read_text(encoding="utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert "\nUSER 10001\n" in last
    assert "/healthz" in last
    assert "pip install" not in last
    assert "gcc" not in text
