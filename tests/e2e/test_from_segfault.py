"""docs/from-segfault.md is run as it stands: every block in its order, in an empty folder, with a real SSH server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CACHE, find_python, lacking

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE, CHINESE = DOCS / "from-segfault.md", DOCS / "from-segfault.zh.md"
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def plain(text: str) -> str:
    """Return a text with spaces made one: where a line breaks depends on the terminal."""
    return " ".join(text.split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def surroundings(folder: Path) -> dict[str, str]:
    """Return the environment of somebody who has litefleet and Python 3.10 on PATH."""
    tools = folder / "tools"
    tools.mkdir()
    python = find_python("3.10")
    if not Path(python).exists():
        lacking("no CPython 3.10 on this machine")
    (tools / "python3.10").symlink_to(python)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {
        k: v
        for k, v in os.environ.items()
        if k in ("HOME", "LANG", "PIP_CACHE_DIR", "PIP_INDEX_URL", "PIP_CONFIG_FILE")
    }
    return {**kept, "PATH": path, "LITEFLEET_CACHE": str(CACHE / "litefleet"), "COLUMNS": "120"}


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    if not Path("/usr/sbin/sshd").exists():
        lacking("no OpenSSH server on this machine")
    env, port = surroundings(tmp_path), str(free_port())
    work = tmp_path / "work"
    work.mkdir()
    said = ""
    try:
        for kind, text in blocks(PAGE):
            if kind == "sh":
                script = "set -e\n" + text.replace("2222", port)
                argv = ["bash", "-c", script]
                done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, timeout=280, check=False)
                said = done.stdout + done.stderr
                assert done.returncode == 0, f"{text}\n{said}"
                continue
            for line in text.splitlines():
                assert plain(line) in plain(said), f"{line!r} is not in:\n{said}"
    finally:
        pid = work / "sshd.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False)


def test_both_languages_have_the_same_blocks() -> None:
    assert blocks(PAGE) == blocks(CHINESE)
    assert len(blocks(PAGE)) >= 14


@pytest.mark.parametrize("page", [PAGE, CHINESE])
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target
