"""`litefleet doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..project import Files
from .common import (
    STDOUT,
    ContactOptions,
    JsonOption,
    SarifOption,
    check_files,
    colored,
    command,
    only_one_document,
    progress_for,
    show,
    terminal_width,
    write_out,
)

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        help="A .nb file, a model folder, a wheel, a runtime folder, a lite.so or a log; several are also checked in pairs."
    ),
]


@command
def doctor(
    options: ContactOptions,
    files: FilesArgument = None,
    for_arch: Annotated[
        list[str] | None,
        typer.Option("--for", help="Also check for this architecture, as `uname -m` prints it (may be repeated)."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", help="Output of a program that crashed; - reads standard input (may be repeated)."),
    ] = None,
    as_json: JsonOption = False,
    sarif: SarifOption = None,
) -> None:
    """Check this machine, files, devices (--limit) or a crash log: what works, what will fail, and what to do."""
    from ..doctor.diagnosis import exit_code_of
    from ..doctor.examine import Question, examine_all
    from ..doctor.text import to_text

    only_one_document(as_json, sarif)
    if options.limit:
        check_files(options, Files.KEYS, store=False)
    question = Question(options, tuple(files or ()), tuple(for_arch or ()), tuple(log or ()), bool(options.limit))
    diagnoses = examine_all(question, progress_for(as_json))
    code = exit_code_of(diagnoses)
    if as_json:
        show(json.dumps({"schema": 1, "exit_code": code, "diagnoses": [d.to_dict() for d in diagnoses]}, indent=2))
    elif sarif != STDOUT:
        show(to_text(diagnoses, terminal_width(), colored()))
    if sarif is not None:
        from ..doctor.sarif import to_sarif

        write_out(sarif, to_sarif(diagnoses, code))
    raise typer.Exit(code)
