"""Records terminal pictures for the documentation: real commands on the fleet of `litefleet demo`, as SVG in docs/pictures.

`make pictures` runs it; it takes one to two minutes and a package index, as the demo does.  Each picture is below 60 KB.
"""

from __future__ import annotations

import argparse
import html
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 100  # columns
_MOST_BYTES = 60_000
_START_LIMIT_S = 600
_READY = "The fleet runs until"
_FONT = re.compile(r"@font-face\s*\{[^}]*\}", re.DOTALL)  # rich's template loads one from a CDN
_LENGTH = re.compile(r'textLength="([\d.]+)"([^>]*)>([^<]*)</text>')


class Session(NamedTuple):
    """One picture: a file name, and what is typed."""

    name: str
    typed: str


SESSIONS = (
    Session("inspect", "litefleet inspect wrong/cls-arm-x86.nb --for x86_64"),
    Session("verify", "litefleet verify --quiet --limit 'cam-01,cam-02,cam-arm-x86-file'"),
)


def main() -> None:
    """Start the demo's fleet, or use the one that runs in --project, and record every session in both languages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, help="the folder of a demo that runs (`litefleet demo --keep-running`)")
    options = parser.parse_args()
    if options.project is not None:
        record(options.project)
        return
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "litefleet_controller", "demo", "demo", "--keep-running"]
        with subprocess.Popen(call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
            try:
                _wait_for(demo)
                record(Path(folder) / "demo")
            finally:
                demo.send_signal(signal.SIGINT)
                demo.communicate(timeout=60)


def _wait_for(demo: subprocess.Popen[str]) -> None:
    """Wait until the demo's fleet runs.  Raises: SystemExit with what it said, when it ends or takes too long."""
    said, end = [], time.monotonic() + _START_LIMIT_S
    for line in demo.stdout or ():
        said.append(line)
        if _READY in line:
            return
        if time.monotonic() > end:
            break
    raise SystemExit("the demo's fleet did not start; it said:\n" + "".join(said[-20:]))


def record(project: Path) -> None:
    """Write all pictures from a running project."""
    pictures = ROOT / "docs" / "pictures"
    for lang in ("en", "zh"):
        for session in SESSIONS:
            path = pictures / f"{session.name}{'' if lang == 'en' else '-zh'}.svg"
            path.write_text(svg(session, _said(session.typed, project, lang)), encoding="utf-8")
            if path.stat().st_size > _MOST_BYTES:
                raise SystemExit(f"{path.name} has {path.stat().st_size} bytes; at most {_MOST_BYTES} are wanted")


def _said(typed: str, project: Path, lang: str) -> str:
    """Return what a command writes to a terminal, with its colours."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "LITEFLEET_LANG": lang}
    ours, theirs = pty.openpty()
    with subprocess.Popen(["sh", "-c", typed], cwd=project, env=env, stdout=theirs, stderr=theirs):
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # the terminal's other end is closed
            pass
    os.close(ours)
    text = b"".join(parts).decode("utf-8").replace("\r\n", "\n")
    text = text.replace(f"{project}/", "").replace(str(Path.home()), "~")
    return re.sub(r"(?:\.{0,2}/)?(?:[\w.-]+/)+bin/litefleet\b", "litefleet", text).rstrip()


def svg(session: Session, said: str) -> str:
    """Return a session as a picture that loads nothing."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, record=True, width=WIDTH, force_terminal=True, legacy_windows=False)
        console.print(Text.from_ansi(f"\x1b[1m$ {session.typed}\x1b[0m\n{said}"))
        picture = console.export_svg(title="", unique_id=session.name)
    picture = _FONT.sub("", picture).replace("Fira Code", "ui-monospace")
    return _LENGTH.sub(_as_wide_as_shown, picture)


def _as_wide_as_shown(element: re.Match[str]) -> str:
    """Return a text whose length counts two columns for each Chinese character: rich counts one, and squeezes them."""
    said = html.unescape(element[3])
    length = float(element[1]) * cell_len(said) / max(len(said), 1)
    return f'textLength="{length:.1f}"{element[2]}>{element[3]}</text>'


if __name__ == "__main__":
    main()
