"""`litefleet inspect`: what .nb files hold and whether they will work, for people, for programs and for code scanning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..inspecting import FailOn, Inspected, inspect_all
from .common import JsonOption, app, say, show, write_file

__all__ = ["inspect"]

STDOUT = Path("-")


@app.command()
def inspect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="The .nb files; with --recursive, folders too.")
    ],
    for_arch: Annotated[
        list[str] | None,
        typer.Option("--for", help="An architecture as `uname -m` says it: x86_64, aarch64, armv7l. May be repeated."),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="All .nb files below each folder.")] = False,
    as_json: JsonOption = False,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", help="Also write the findings as SARIF 2.1.0; - for stdout alone.")
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="From which severity on a finding makes the exit code 1.")
    ] = FailOn.ERROR,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only files that have findings.")] = False,
) -> None:
    """Say what .nb files hold and, with --for, whether they will work there."""
    if as_json and sarif == STDOUT:
        raise UsageError("--json and --sarif - both want stdout; give --sarif a file's name")
    done = inspect_all(files, for_arch or (), recursive, fail_on)
    if sarif != STDOUT:
        text = json.dumps(done.to_dict(), indent=2) if as_json else done.to_text(quiet)
        if text:
            show(text)
    for _, problem in done.unread:
        say(f"litefleet: {problem}")
    if sarif is not None:
        _write_sarif(sarif, done)
    raise typer.Exit(done.exit_code)


def _write_sarif(path: Path, done: Inspected) -> None:
    from ..doctor.nbfiles import diagnosis_of
    from ..doctor.sarif import to_sarif

    diagnoses = [diagnosis_of(one) for one in done.inspections]
    text = to_sarif(diagnoses, done.exit_code, [problem for _, problem in done.unread])
    if path == STDOUT:
        show(text)
    else:
        write_file(path, text)
