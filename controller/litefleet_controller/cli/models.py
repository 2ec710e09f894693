"""Commands on model files: convert, inspect, advise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.errors import UsageError
from ..inspection import FailOn
from .common import (
    DEFAULT_CONFIG,
    STDOUT,
    ConfigOption,
    FleetOptions,
    JsonOption,
    ModelOption,
    SarifOption,
    colored,
    command,
    is_terminal,
    only_one_document,
    progress_for,
    run_async,
    say,
    show,
    terminal_width,
    write_out,
)

if TYPE_CHECKING:
    from ..inspection.inspect import Inspected


@command
def convert(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Folders (or program files) of source models that belong to no project; default: the models of litefleet.yaml.",
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="Architecture to convert for (may be repeated); default: all in the inventory, else x86_64 and aarch64.",
        ),
    ] = None,
    targets: Annotated[
        str, typer.Option("--targets", help="x86, arm, or an accelerator with its CPU: opencl,arm.")
    ] = "",
    fp16: Annotated[bool, typer.Option("--fp16", help="Half-precision kernels (ARMv8.2 only).")] = False,
    quant: Annotated[str, typer.Option("--quant", help="Quantize weights: int8 or int16.")] = "",
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", help="Paddle-Lite version to try when the configured one fails (may be repeated)."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the files to this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert each model once per architecture, check the files, and keep them in the store.

    With FOLDER no project is needed: the files are written to --out, or here.
    """
    from ..project.convert_models import ConvertChoice, convert_folders, convert_models

    if sources and model:
        raise UsageError("--model names models of litefleet.yaml: leave it out beside a folder")
    choice = ConvertChoice(tuple(arch or ()), targets, fp16, quant, tuple(tries or ()))
    run = convert_folders(sources, choice, out) if sources else convert_models(config, tuple(model or ()), choice, out)
    rows = run_async(run)
    if as_json:
        show(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        for row in rows:
            show(row.to_text())
    raise typer.Exit(1 if any(row.failed for row in rows) else 0)


@command
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".nb files; with --recursive, folders too.")],
    for_arch: Annotated[
        list[str] | None,
        typer.Option("--for", help="Architecture as `uname -m` prints it: x86_64, aarch64, armv7l (may be repeated)."),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Inspect all .nb files below each folder.")] = False,
    as_json: JsonOption = False,
    sarif: SarifOption = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="The least severity of a finding that makes the exit code 1.")
    ] = FailOn.ERROR,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="List only files that have findings.")] = False,
) -> None:
    """Show what .nb files contain and, with --for, whether they will work on that architecture."""
    from ..catalogue.wrap import fitted
    from ..inspection.inspect import inspect_all

    only_one_document(as_json, sarif)
    done = inspect_all(files, for_arch or (), recursive, fail_on)
    if sarif != STDOUT:
        text = json.dumps(done.to_dict(), indent=2) if as_json else done.to_text(quiet)
        if text:
            show(fitted(text, terminal_width()) if is_terminal() and not as_json else text)
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


@command
def advise(
    options: FleetOptions,
    facts: Annotated[
        list[Path] | None,
        typer.Option(
            "--facts", help="A `probe --json` report to use instead of probing the devices (may be repeated)."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Convert and run each option on this machine, and compare with the golden."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the smallest set of files that serves the fleet, which device takes which, and what other options would change."""
    from ..advise.advise import AdviceRequest
    from ..advise.advise import advise as make_advice
    from ..devices.outcome import document
    from ..reports.advice_text import advice_text

    request = AdviceRequest(options, tuple(facts or ()), measure)
    advice = run_async(make_advice(request, progress_for(as_json)))
    show(document(advice.to_dict()) if as_json else advice_text(advice, terminal_width(), colored()))
    raise typer.Exit(advice.exit_code)
