"""`litefleet inspect`: what .nb files hold and whether they will work, for people, for programs and for code scanning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..inspection.inspect import FailOn, Inspected, inspect_all
from .common import STDOUT, JsonOption, SarifOption, app, only_one_document, say, show, write_out

__all__ = ["inspect"]


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
    sarif: SarifOption = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="From which severity on a finding makes the exit code 1.")
    ] = FailOn.ERROR,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only files that have findings.")] = False,
) -> None:
    """Say what .nb files hold and, with --for, whether they will work there."""
    only_one_document(as_json, sarif)
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
    from ..doctor.models import diagnosis_of
    from ..doctor.sarif import to_sarif

    diagnoses = [diagnosis_of(one) for one in done.inspections]
    write_out(path, to_sarif(diagnoses, done.exit_code, [problem for _, problem in done.unread]))
