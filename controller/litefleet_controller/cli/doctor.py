"""`litefleet doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..project import Options
from ..reports.progress import make_progress
from .common import (
    DEFAULT_CONFIG,
    STDOUT,
    AcceptOption,
    ConfigOption,
    InventoryOption,
    JsonOption,
    LimitOption,
    SarifOption,
    app,
    colored,
    only_one_document,
    show,
    width,
    write_out,
)

__all__ = ["doctor"]

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="A .nb, a model's folder, a wheel, a runtime's folder, a lite.so, a log; several make pairs."),
]


@app.command()
def doctor(
    files: FilesArgument = None,
    for_arch: Annotated[
        list[str] | None, typer.Option("--for", help="Will it run there? As `uname -m` says it; may be repeated.")
    ] = None,
    limit: LimitOption = "",
    log: Annotated[
        list[str] | None, typer.Option("--log", help="What a program said before it died; - reads standard input.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    as_json: JsonOption = False,
    sarif: SarifOption = None,
    accept_new_host_keys: AcceptOption = False,
) -> None:
    """Say what works, what will break and what to do: of this machine, of files, of devices, of a crash's log."""
    from ..doctor import exit_code_of
    from ..doctor.examine import Question, examine_all
    from ..doctor.text import to_text

    only_one_document(as_json, sarif)
    options = Options(config, inventory, limit, (), accept_new_host_keys)
    question = Question(options, tuple(files or ()), tuple(for_arch or ()), tuple(log or ()), bool(limit))
    diagnoses = examine_all(question, lambda total: make_progress(total, quiet=as_json))
    code = exit_code_of(diagnoses)
    if as_json:
        show(json.dumps({"schema": 1, "exit_code": code, "diagnoses": [d.to_dict() for d in diagnoses]}, indent=2))
    elif sarif != STDOUT:
        show(to_text(diagnoses, width(), colored()))
    if sarif is not None:
        from ..doctor.sarif import to_sarif

        write_out(sarif, to_sarif(diagnoses, code))
    raise typer.Exit(code)
