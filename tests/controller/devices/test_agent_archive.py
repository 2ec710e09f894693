"""The agent's archive: same sources, same bytes; standard library only; it runs on the oldest Python."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import litefleet_agent
import pytest
from litefleet_controller.devices.agent_archive import agent_archive, build_pyz

from tests.conftest import find_python, lacking

SOURCE = Path(litefleet_agent.__file__).parent


def test_the_same_sources_make_the_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / SOURCE.name
    shutil.copytree(SOURCE, copy)
    for number, path in enumerate(sorted(copy.rglob("*.py"))):
        os.utime(path, (number, number))
        path.chmod(0o755)
    assert build_pyz(copy) == build_pyz(SOURCE) == agent_archive().data
    (copy / "errors.py").write_text((copy / "errors.py").read_text() + "\n")
    assert build_pyz(copy) != build_pyz(SOURCE)


def test_it_goes_on_from_its_own_archive_whatever_its_link_names_by_now(tmp_path: Path) -> None:
    package = tmp_path / "litefleet_agent"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("import sys\ndef main():\n    print(sys.path[0], __file__)\n")
    archive, link = tmp_path / "a.pyz", tmp_path / "agent.pyz"
    archive.write_bytes(build_pyz(package))
    link.symlink_to("a.pyz")
    output = subprocess.run(
        [sys.executable, "-Es", str(link)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert output == [os.path.realpath(archive), os.path.join(os.path.realpath(archive), "litefleet_agent", "cli.py")]


def test_only_the_standard_library_is_imported() -> None:
    roots = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add(str(node.module).split(".")[0])
    # What a verifying child uses is the device's own runtime; _sha2 is CPython's from 3.12 on.
    assert roots - set(sys.stdlib_module_names) <= {"numpy", "paddlelite", "litefleet_agent", "_sha2"}


@pytest.mark.parametrize("version", ["3.7", "3.13"])
def test_it_tells_facts_on_a_bare_python(version: str, tmp_path: Path) -> None:
    python = find_python(version)
    if python == version:
        lacking(f"no Python {version} in pyenv's folder")
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_archive().data)
    done = subprocess.run([python, "-I", archive, "facts"], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["machine"] == os.uname().machine
    assert subprocess.run([python, "-I", archive], capture_output=True, check=False).returncode == 2


def test_it_is_kept_for_the_next_process_unless_others_could_have_changed_it(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    made = agent_archive.__wrapped__(folder)
    assert made == agent_archive()
    (kept,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"?" + whole[41:]):
        kept.write_bytes(damaged)
        assert agent_archive.__wrapped__(folder) == made
        assert kept.read_bytes() == whole, "what is damaged is made again"
    other = b"another agent"
    kept.write_bytes(hashlib.sha256(other).digest() + other)
    assert agent_archive.__wrapped__(folder).data == other, "it is read, not made"
    for path in (kept, folder):
        path.chmod(0o777)
        assert agent_archive.__wrapped__(folder) == made
        path.chmod(0o700)
        if path is kept:
            kept.write_bytes(hashlib.sha256(other).digest() + other)


def test_a_folder_that_cannot_be_used_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert agent_archive.__wrapped__(tmp_path / "file" / "agent") == agent_archive()
