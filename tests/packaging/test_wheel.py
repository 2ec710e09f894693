"""litefleet from its wheel alone: built twice it is the same file, and what an operator needs is in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import uv
from litefleet_controller.devices.agent_archive import agent_archive

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("agent", "controller", "inventory", "systemd", "integrations", "docs", "tools", "bench", "tests")
FILES = ("pyproject.toml", "README.md", "README.zh.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml")


def run(*argv: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    ended = subprocess.run(list(map(str, argv)), capture_output=True, text=True, cwd=cwd, env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(folder: Path, kind: str, mtime: int) -> Path:
    """Build from a copy of the tree whose files have another age and whose folder has another name."""
    tree = folder / "tree"
    for part in PARTS:
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, tree / name)
    for path in tree.rglob("*"):
        os.utime(path, (mtime, mtime))
    run(uv.find_uv_bin(), "build", "-q", f"--{kind}", "--python", sys.executable, "-o", folder / "dist", tree)
    (built,) = (folder / "dist").glob("litefleet-*")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("one"), "wheel", 1_600_000_000)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that has the wheel and its dependencies alone."""
    folder = tmp_path_factory.mktemp("installed")
    run(uv.find_uv_bin(), "venv", "-q", "-p", sys.executable, folder)
    run(uv.find_uv_bin(), "pip", "install", "-q", "-p", folder / "bin" / "python", wheel)
    return folder / "bin"


def test_two_builds_are_one_file(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path, "wheel", 1_700_000_000)
    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_the_source_archive_builds_tests_and_documents_itself(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path, "sdist", 1_600_000_000)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*FILES, "tools/setup.sh", "tests/packaging/test_wheel.py", "docs/day-2.zh.md"} <= names
    assert not [name for name in names if re.search(r"\.(nb|pdmodel|pdiparams|whl|pyc)$", name)]


def test_what_an_operator_needs_is_in_the_wheel(wheel: Path, installed: Path, tmp_path: Path) -> None:
    bare = {"PATH": f"{installed}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    version = run("litefleet", "--version", cwd=tmp_path, env=bare)
    assert version.strip() == f"litefleet {wheel.name.split('-')[1]}"
    assert run(installed / "python", "-m", "litefleet", "--version", cwd=tmp_path, env=bare) == version
    pages = [line.split()[0] for line in run("litefleet", "docs", cwd=tmp_path, env=bare).splitlines()]
    written = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("how-to/*.md")]
    names = (path.relative_to(ROOT / "docs").as_posix() for path in written if ".zh" not in path.name)
    assert sorted(pages) == sorted(name.removesuffix(".md") for name in names)
    for lang, words in (("en", "exit code"), ("zh", "退出码")):
        assert words in run("litefleet", "--lang", lang, "docs", "rollouts", cwd=tmp_path, env=bare).lower()
        assert "LF101" in run("litefleet", "--lang", lang, "explain", "LF101", cwd=tmp_path, env=bare)
    program = "from litefleet_controller.devices.agent_archive import agent_archive; print(agent_archive().sha256)"
    assert run(installed / "python", "-c", program, cwd=tmp_path, env=bare).strip() == agent_archive().sha256
    units = zipfile.ZipFile(wheel).namelist()
    assert [name for name in units if name.startswith("litefleet_controller/provision/units/") and ".service" in name]
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in units)
    data = f"{wheel.name.rpartition('-py3')[0]}.data/data/share/man"
    assert {f"{data}/man1/litefleet.1", f"{data}/zh_CN/man1/litefleet.1"} <= set(units)
    templates = (
        "serve/pages/templates/base.html.j2",
        "notify/templates/notice.zh.txt",
        "reports/templates/report.html.j2",
    )
    assert {"litefleet_inventory/schema.json", *(f"litefleet_controller/{name}" for name in templates)} <= set(units)
