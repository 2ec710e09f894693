"""What all commands share: the app, the options, and how results are shown."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from ..common.errors import UsageError
from ..devices.outcome import Interrupted, RunReport, to_json
from ..reports.terminal import to_table, wants_color

__all__ = [
    "DEFAULT_CONFIG",
    "STDOUT",
    "AcceptOption",
    "ConfigOption",
    "HtmlOption",
    "InventoryOption",
    "JsonOption",
    "LimitOption",
    "ModelOption",
    "SarifOption",
    "SvgOption",
    "app",
    "colored",
    "only_one_document",
    "run_and_show",
    "say",
    "show",
    "width",
    "write_file",
    "write_out",
]

app = typer.Typer(
    help="Rolls Paddle-Lite models out to a fleet and proves, on each device, that the model computes what it should.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The project's litefleet.yaml.")]
InventoryOption = Annotated[
    Path | None, typer.Option("-i", "--inventory", help="Inventory file or folder; default: the one in litefleet.yaml.")
]
LimitOption = Annotated[
    str, typer.Option("--limit", help="Which devices: names, globs, ranges, groups, tag:NAME, !not.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
ModelOption = Annotated[list[str] | None, typer.Option("-m", "--model", help="Only this model (may be repeated).")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-new-host-keys", help="Pin host keys of devices that were never seen before.")
]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file.")]
SarifOption = Annotated[
    Path | None, typer.Option("--sarif", help="Also write the findings as SARIF 2.1.0; - for stdout alone.")
]
SvgOption = Annotated[Path | None, typer.Option("--svg", help="Also write the pictures of a bench as one SVG file.")]
DEFAULT_CONFIG = Path("litefleet.yaml")
STDOUT = Path("-")


def run_and_show(run: Coroutine[Any, Any, RunReport], as_json: bool, html: Path | None = None) -> None:
    """Run to the end, show the report, and exit with its code."""
    interrupted = False
    try:
        report = asyncio.run(run)
    except Interrupted as stopped:
        report, interrupted = stopped.report, True
    show(to_json(report) if as_json else to_table(report, width=width(), color=colored()))
    if html is not None:  # last: a page that can't be written must not cost the result
        from ..reports.html import to_html

        write_file(html, to_html(report))
    raise typer.Exit(4 if interrupted else report.exit_code)


def show(text: str) -> None:
    """Print a result on stdout."""
    typer.echo(text, nl=not text.endswith("\n"))


def say(text: str) -> None:
    """Tell a person something, on stderr."""
    typer.echo(text, err=True)


def width() -> int:
    """Return the terminal's columns, at least 80."""
    return max(80, shutil.get_terminal_size((120, 40)).columns)


def colored() -> bool:
    """Say whether stdout is to be coloured."""
    return wants_color(sys.stdout, os.environ)


def only_one_document(as_json: bool, sarif: Path | None) -> None:
    """Refuse a command line that wants two documents on stdout."""
    if as_json and sarif == STDOUT:
        raise UsageError("--json and --sarif - both want stdout; give --sarif a file's name")


def write_out(path: Path, text: str) -> None:
    """Write a text into a file, or onto stdout where `path` is "-"."""
    if path == STDOUT:
        show(text)
    else:
        write_file(path, text)


def write_file(path: Path, text: str) -> None:
    """Write a text; UsageError when it can't be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
