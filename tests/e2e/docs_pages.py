"""Runs pages of the documentation as they stand: each `sh` block in a folder; each `text` block was said before it.

A block that cannot run here has `<!-- not run: REASON -->` in the line before it: tests/controller/test_docs_blocks.py
sees to it that every block of the README, the tutorial, day 2 and the how-to pages is run by a test or has such a reason.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.conftest import CACHE, find_python, lacking

__all__ = ["DOCS", "ROOT", "Block", "blocks", "marked_blocks", "run_blocks", "run_page", "surroundings"]

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(sh|console|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Before = Mapping[str, Callable[[], Awaitable[object]]]


class Block(NamedTuple):
    """A block of a page; `reason` why it is not run, "" for one that is."""

    kind: str
    text: str
    reason: str


def marked_blocks(page: Path) -> list[Block]:
    """Return a page's blocks of commands and of what they say."""
    return [Block(kind, text, reason) for reason, kind, text in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return a page's `sh` and `text` blocks; both languages of a page have the same."""
    return [(block.kind, block.text) for block in marked_blocks(page) if block.kind != "console"]


def run_page(page: Path, folder: Path) -> None:
    """Run the page in `folder`; port 2222 is replaced by a free one, and an sshd.pid that stays is ended."""
    if not Path("/usr/sbin/sshd").exists():
        lacking("no OpenSSH server on this machine")
    env, port = surroundings(folder), str(_free_port())
    work = folder / "work"
    work.mkdir()
    output = ""
    try:
        for block in marked_blocks(page):
            if block.kind == "sh" and not block.reason:
                output = _run(block.text.replace("2222", port), work, env)
            elif block.kind == "text":
                _check_said(block.text, output)
    finally:
        pid = work / "sshd.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False)


async def run_blocks(
    page: Path, work: Path, env: dict[str, str], before: Before | None = None, replaced: Mapping[str, str] | None = None
) -> None:
    """Run a page's blocks in a folder that has the files that it speaks of.

    `before` has what happens in the world meanwhile: a function for a text that a block contains.  `replaced` has texts that a
    test must not run as the page has them, and those to run in their place.
    """
    output = ""
    for block in marked_blocks(page):
        if block.kind == "text":
            _check_said(block.text, output)
        elif not block.reason:
            for text, happens in (before or {}).items():
                if text in block.text:
                    await happens()
            script = block.text
            for text, other in (replaced or {}).items():
                script = script.replace(text, other)
            output = await asyncio.to_thread(_run, script, work, env)


def _check_said(text: str, output: str) -> None:
    for line in text.splitlines():
        assert _plain(line) in _plain(output), f"{line!r} is not in:\n{output}"


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
        if k in ("HOME", "LANG", "PIP_CACHE_DIR", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE")
    }
    own = {"LITEFLEET_CACHE": str(CACHE / "litefleet"), "LITEFLEET": str(ROOT), "COLUMNS": "120"}
    return {**kept, **own, "PATH": path}
