"""The command line: parses, builds, makes one call, renders.  Exit codes: 0 well, 1 refused or failed, 2 usage, 4 interrupted."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from litefleet_agent.findings import CATALOGUE

from .errors import LitefleetError, UsageError
from .inspection import inspect_file
from .reports.as_json import to_json
from .reports.html import to_html
from .reports.progress import make_progress
from .reports.table import to_table, wants_color
from .run import ConvertChoice, Interrupted, Options, convert_models, read_report, run_fleet

__all__ = ["app", "main"]

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
DEFAULT_CONFIG = Path("litefleet.yaml")
# Newer typer releases bring a click of their own, so that the installed click's class would not catch their errors.
_WRONG_USE: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _fleet_command(command: str, options: Options, as_json: bool, html: Path | None) -> None:
    interrupted = False
    try:
        report = asyncio.run(run_fleet(command, options, lambda total: make_progress(total, quiet=as_json)))
    except Interrupted as stopped:
        report, interrupted = stopped.report, True
    if as_json:
        _print(to_json(report))
    else:
        _print(to_table(report, width=_width(), color=wants_color(sys.stdout, os.environ)))
    if html is not None:  # last: a page that can't be written must not cost the result
        _write(html, to_html(report))
    raise typer.Exit(4 if interrupted else report.exit_code)


def _print(text: str) -> None:
    typer.echo(text, nl=not text.endswith("\n"))


def _width() -> int:
    return max(80, shutil.get_terminal_size((120, 40)).columns)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .nb file.")],
    for_arch: Annotated[
        str | None, typer.Option("--for", help="An architecture as `uname -m` says it: x86_64, aarch64, armv7l.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a .nb file holds and, with --for, whether it will work there."""
    inspection = inspect_file(file, for_arch)
    typer.echo(json.dumps(inspection.to_dict(), indent=2) if as_json else inspection.to_text())
    raise typer.Exit(inspection.exit_code)


@app.command()
def probe(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
    html: HtmlOption = None,
) -> None:
    """Ask each device what it is; nothing on it changes but the agent's own file."""
    _fleet_command("probe", Options(config, inventory, limit, (), accept_new_host_keys), as_json, html)


@app.command()
def rollout(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
    html: HtmlOption = None,
) -> None:
    """Probe, convert, push the right file, prove it on each device, and switch on what was proven."""
    _fleet_command(
        "rollout", Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys), as_json, html
    )


@app.command()
def verify(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
    html: HtmlOption = None,
) -> None:
    """Run the proof again on each device, without switching anything on."""
    _fleet_command("verify", Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys), as_json, html)


@app.command()
def convert(
    config: ConfigOption = DEFAULT_CONFIG,
    model: ModelOption = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="Architectures to convert for; default: all that the inventory expects, else x86_64 and aarch64.",
        ),
    ] = None,
    targets: Annotated[
        str, typer.Option("--targets", help="x86, arm, or an accelerator with its CPU: opencl,arm.")
    ] = "",
    fp16: Annotated[bool, typer.Option("--fp16", help="Half-precision kernels (ARMv8.2 only).")] = False,
    quant: Annotated[str, typer.Option("--quant", help="Quantise weights: int8 or int16.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the files into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert each model once per architecture, with every check, into the store."""
    choice = ConvertChoice(tuple(arch or ()), targets, fp16, quant)
    rows = asyncio.run(convert_models(config, tuple(model or ()), choice, out))
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        for row in rows:
            typer.echo(row.to_text())
    raise typer.Exit(1 if any(row.failed for row in rows) else 0)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="What `--json` printed, or a report kept in the project's store.")],
    html: HtmlOption = None,
) -> None:
    """Show a kept report again, or turn it into HTML."""
    kept = read_report(file)
    if html is not None:
        _write(html, to_html(kept))
    else:
        _print(to_table(kept, width=_width(), color=wants_color(sys.stdout, os.environ)))


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A finding's code, such as LF101; `all` lists them.")]) -> None:
    """Say what a finding means: why it happens, what to do."""
    if code.lower() == "all":
        for entry in CATALOGUE.values():
            typer.echo(f"{entry.code}  {entry.severity.value:8} {entry.slug}")
        return
    wanted = code.upper() if code.upper().startswith("LF") else f"LF{code}"
    found = [e for e in CATALOGUE.values() if code.lower() == e.slug or wanted == e.code]
    if not found:
        raise UsageError(f"{code} is no finding; `litefleet explain all` lists them")
    entry = found[0]
    verdict = f", verdict {entry.verdict.value}" if entry.verdict else ""
    typer.echo(
        f"{entry.code} {entry.slug} ({entry.severity.value}{verdict})\n\nWhy: {entry.why}\n\nWhat to do: {entry.do}"
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the project folder is written.")] = Path("litefleet-demo"),
    as_json: JsonOption = False,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Leave the fleet running until Ctrl-C.")] = False,
) -> None:
    """Run the whole job on an embedded fleet with a real model: good devices and every way to go wrong."""
    from .demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(folder, as_json=as_json, keep_running=keep_running, say=_say)))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit; the only place where errors become exit codes."""
    logging.basicConfig(level=logging.WARNING, format="litefleet: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)  # its failures come back as findings
    code = _guarded(lambda: app(args=argv, prog_name="litefleet", standalone_mode=False))
    sys.exit(code)


def _guarded(call: Callable[[], Any]) -> int:
    try:
        result = call()
        return result if isinstance(result, int) else 0
    except LitefleetError as error:
        typer.echo(f"litefleet: {error}", err=True)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except _WRONG_USE as error:
        return _explain_wrong_use(error)
    except (KeyboardInterrupt, Interrupted, typer.Abort):
        typer.echo("litefleet: interrupted; run the same command again to go on", err=True)
        return 4
    except BrokenPipeError:
        return 1


def _explain_wrong_use(error: Any) -> int:
    """Say in one sentence what is wrong with the command line; without any command, the help is already there."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        command = error.ctx.command_path if getattr(error, "ctx", None) else "litefleet"
        typer.echo(f"litefleet: {error.format_message()}  (`{command} --help` says what there is)", err=True)
    return 2
