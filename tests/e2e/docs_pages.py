"""Runs a page of the documentation as it stands: every `sh` block in an empty folder; every `text` block was said before it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.conftest import CACHE, find_python, lacking

__all__ = ["DOCS", "blocks", "run_page"]

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def run_page(page: Path, folder: Path) -> None:
    """Run the page in `folder`; port 2222 is replaced by a free one, and an sshd.pid that stays is ended."""
    if not Path("/usr/sbin/sshd").exists():
        lacking("no OpenSSH server on this machine")
    env, port = _surroundings(folder), str(_free_port())
    work = folder / "work"
    work.mkdir()
    output = ""
    try:
        for kind, text in blocks(page):
            if kind == "sh":
                output = _run(text.replace("2222", port), work, env)
                continue
            for line in text.splitlines():
                assert _plain(line) in _plain(output), f"{line!r} is not in:\n{output}"
    finally:
        pid = work / "sshd.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False)


def _run(script: str, work: Path, env: dict[str, str]) -> str:
    argv = ["bash", "-c", "set -e\n" + script]
    done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, timeout=280, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{script}\n{output}"
    return output


def _plain(text: str) -> str:
    """Return a text with spaces made one: where a line breaks depends on the terminal."""
    return " ".join(text.split())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _surroundings(folder: Path) -> dict[str, str]:
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
        if k in ("HOME", "LANG", "PIP_CACHE_DIR", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE")
    }
    own = {"LITEFLEET_CACHE": str(CACHE / "litefleet"), "LITEFLEET": str(ROOT), "COLUMNS": "120"}
    return {**kept, **own, "PATH": path}
