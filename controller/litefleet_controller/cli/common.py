"""What all commands share: the app, the options, and the ways to show a result.

This module imports nothing slow: `litefleet --help` and shell completion load every module of this package, and a command
imports the parts that do its work when it runs.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from .. import __version__
from ..catalogue.language import Lang, choose, current_lang, writable_lang
from ..common.errors import UsageError
from ..common.typed_commands import DEFAULT_CONFIG as DEFAULT_CONFIG
from ..common.typed_commands import Invocation, commands_as_typed, use_config
from ..project import Files, Options
from .completion import device_patterns, model_names, rollout_ids
from .help import Command, SectionedHelp

if TYPE_CHECKING:
    from ..devices.outcome import RunReport
    from ..devices.progress import Progress

_Result = TypeVar("_Result")

app = typer.Typer(
    cls=SectionedHelp,
    help="Rolls Paddle-Lite models out to a fleet and verifies, on each device, that the model computes what it should.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The project's litefleet.yaml.")]
InventoryOption = Annotated[
    Path | None, typer.Option("-i", "--inventory", help="Inventory file or folder; default: the one in litefleet.yaml.")
]
LimitOption = Annotated[
    str,
    typer.Option(
        "--limit", help="Select devices: names, globs, ranges, groups, tag:NAME, !not.", autocompletion=device_patterns
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("-m", "--model", help="Only this model (may be repeated).", autocompletion=model_names),
]
AcceptOption = Annotated[
    bool, typer.Option("--accept-new-host-keys", help="Pin the host key of each device that has no pinned key yet.")
]
ClusterOption = Annotated[
    str,
    typer.Option("--cluster", help="Let the workers of this Dask scheduler hold the connections, as tls://HOST:PORT."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout and nothing else.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file.")]
SarifOption = Annotated[
    Path | None, typer.Option("--sarif", help="Also write the findings as SARIF 2.1.0; - for stdout alone.")
]
SvgOption = Annotated[Path | None, typer.Option("--svg", help="Also write the charts of a bench as one SVG file.")]
RolloutArgument = Annotated[
    str,
    typer.Argument(help="ID of a rollout, such as r-20261123-0001; default: the latest.", autocompletion=rollout_ids),
]
LangOption = Annotated[
    str | None, typer.Option("--lang", help="Language: en or zh; default: LITEFLEET_LANG, else the locale's.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show the result and errors only, and no progress.")]
STDOUT = Path("-")


def _print_version(wanted: bool) -> None:
    if wanted:
        show(f"litefleet {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print litefleet's version and exit."),
    ] = False,
    lang: LangOption = None,
) -> None:
    set_lang(_checked_lang(lang) or ctx.obj or "")  # `obj`: what the command's own --lang asks for, where `main` began


class _Group(NamedTuple):
    """The fields of `Options` that a command takes from the command line."""

    fields: tuple[str, ...]


_OPTIONS: dict[str, tuple[object, object]] = {  # field of Options: (option, default)
    "config": (ConfigOption, DEFAULT_CONFIG),
    "inventory": (InventoryOption, None),
    "limit": (LimitOption, ""),
    "models": (ModelOption, None),
    "accept_new_host_keys": (AcceptOption, False),
    "cluster": (ClusterOption, ""),
}
_EVERYWHERE: dict[str, tuple[object, object]] = {"lang": (LangOption, None), "quiet": (QuietOption, False)}
# What `command` expands: one parameter of a function, several options on the command line.
ProjectOptions = Annotated[Options, _Group(("config", "inventory"))]
DeviceOptions = Annotated[Options, _Group(("config", "inventory", "limit"))]
SelectionOptions = Annotated[Options, _Group(("config", "inventory", "limit", "models"))]
ContactOptions = Annotated[Options, _Group(("config", "inventory", "limit", "accept_new_host_keys"))]
FleetOptions = Annotated[Options, _Group(("config", "inventory", "limit", "models", "accept_new_host_keys"))]
# Of commands that carry a rollout on, which workers of a cluster may do.
RolloutOptions = Annotated[Options, _Group(tuple(_OPTIONS))]
OpenRolloutOptions = Annotated[Options, _Group(("config", "inventory", "cluster"))]
ReconcileOptions = Annotated[Options, _Group(("config", "inventory", "limit", "cluster"))]
RollbackOptions = Annotated[Options, _Group(("config", "inventory", "limit", "models", "cluster"))]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a function as the command of its name.

    A parameter that is annotated with `FleetOptions`, `DeviceOptions` … becomes several options; the function receives them
    as one `Options`.  All other parameters are typer's.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[str, ...]] = {}
    for parameter in signature.parameters.values():
        group = next((m for m in getattr(parameter.annotation, "__metadata__", ()) if isinstance(m, _Group)), None)
        if group is None:
            parameters.append(parameter)
            continue
        groups[parameter.name] = group.fields
        for field in group.fields:
            option, default = _OPTIONS[field]
            parameters.append(
                inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
            )

    own = {parameter.name for parameter in parameters}
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, (option, default) in _EVERYWHERE.items()
        if name not in own
    ]
    parameters += common

    @functools.wraps(function)
    def run(**values: Any) -> None:
        _set_output(**{parameter.name: values.pop(parameter.name) for parameter in common})
        use_config(values.get("config") or DEFAULT_CONFIG)
        for name, fields in groups.items():
            chosen = {field: values.pop(field) for field in fields}
            if "models" in chosen:
                chosen["models"] = tuple(chosen["models"] or ())
            values[name] = Options(**chosen)
        function(**values)

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    name = function.__name__.rstrip("_").replace("_", "-")  # `import_` is a keyword without its underscore
    if "config" in run.__annotations__:
        Invocation.takes_config |= {name}
    app.command(name, cls=Command)(run)
    return function


def _set_output(lang: str | None = None, quiet: bool = False) -> None:
    """Apply the options that every command has.  Raises: UsageError for an unknown language."""
    wanted = _checked_lang(lang)
    if wanted:
        set_lang(wanted)
    Stdout.quiet = quiet


def set_lang(lang: str) -> None:
    """Set this process's language, "" for the environment's; English where stdout's encoding has no Chinese characters."""
    choose(writable_lang(getattr(sys.stdout, "encoding", None)) or lang)


def _checked_lang(lang: str | None) -> str:
    """Return the language that an option names; "" for none.  Raises: UsageError where it, or LITEFLEET_LANG, is unknown."""
    wanted = lang or os.environ.get("LITEFLEET_LANG", "")
    if wanted and wanted not in list(Lang):
        name = "--lang" if lang else "LITEFLEET_LANG"
        raise UsageError(f"{name} {wanted[:40]}: unknown language. Available: {', '.join(Lang)}.")
    return lang or ""


def run_async(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end and return its result; asyncio is loaded by the commands that need it."""
    import asyncio

    return asyncio.run(work)


def check_files(
    options: Options, files: Files = Files.ALL, only: Collection[str] | None = None, store: bool = True
) -> None:
    """Check the local files of a project before a device is contacted; ConfigError (exit code 2) with all problems.

    `only` names the devices that will be contacted, by default the selected ones.  `store`: the command writes there.
    """
    from ..project.check import checked_project

    run_async(checked_project(options, files, only, store))


def progress_for(as_json: bool) -> Callable[[int], Progress]:
    """Return a function that makes the display of a run over that many devices; none with --json and --quiet."""
    from ..reports.progress import make_progress

    return lambda total: make_progress(total, quiet=as_json or Stdout.quiet)


def run_and_show(
    run: Coroutine[Any, Any, RunReport], as_json: bool, html: Path | None = None, svg: Path | None = None
) -> None:
    """Run to the end, show the report, write it as HTML and SVG where asked, and exit with its code; 4 after Ctrl-C."""
    from ..devices.outcome import Interrupted, to_json

    interrupted = False
    try:
        report = run_async(run)
    except Interrupted as stopped:
        report, interrupted = stopped.report, True
    show(to_json(report) if as_json else report_text(report))
    write_pages(report, html, svg)  # last: a page that cannot be written must not cost the result
    raise typer.Exit(4 if interrupted else report.exit_code)


def report_text(report: RunReport) -> str:
    """Return a report for the terminal, in the form of its command."""
    if report.command == "bench":
        from ..reports.bench_text import bench_text

        return bench_text(report, terminal_width(), colored())
    if report.command == "evaluate":
        from ..reports.accuracy_text import accuracy_text

        return accuracy_text(report, terminal_width(), colored())
    from ..reports.terminal import to_table

    return to_table(report, width=terminal_width(), color=colored())


def write_pages(report: RunReport, html: Path | None, svg: Path | None = None) -> None:
    """Write a report as an HTML page and a bench's charts as SVG, each where a path is given; UsageError when it cannot."""
    if html is not None:
        from ..reports.html import to_html

        write_file(html, to_html(report))
    if svg is not None:
        from ..reports.charts.bench import to_svg

        write_file(svg, to_svg(report))


class Stdout:
    """Whether this process has printed a result, so that an error adds no second JSON document; and whether it is quiet."""

    used = False
    quiet = False  # --quiet


def show(text: str) -> None:
    """Print a result on stdout."""
    Stdout.used = True
    typer.echo(text, nl=not text.endswith("\n"))


def in_words(text: str) -> str:
    """Return a message in the language of this process's messages; the translations are loaded for Chinese only."""
    if current_lang() is Lang.EN:
        return text
    from ..catalogue.translate import translated

    return translated(text)


def confirmed(question: str) -> bool:
    """Ask on stderr, and return the answer."""
    return typer.confirm(in_words(question), err=True)


def say(text: str) -> None:
    """Print a message for the operator on stderr; on a terminal, what prose sets in backquotes is bold instead."""
    from ..reports.terminal import wants_color

    text = commands_as_typed(in_words(text))
    if "`" in text and wants_color(sys.stderr, os.environ):
        text = re.sub(r"`([^`\n]*)`", "\x1b[1m\\1\x1b[22m", text)
    typer.echo(text, err=True)


def terminal_width() -> int:
    """Return the terminal's columns, at least 40; 120 where stdout is no terminal."""
    return max(40, shutil.get_terminal_size((120, 40)).columns)


def is_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def colored() -> bool:
    """Whether to color stdout."""
    from ..reports.terminal import wants_color

    return wants_color(sys.stdout, os.environ)


def only_one_document(as_json: bool, sarif: Path | None) -> None:
    """Reject a command line that would write two documents to stdout."""
    if as_json and sarif == STDOUT:
        raise UsageError("--json and --sarif - both write to stdout. Give --sarif a file name.")


def write_out(path: Path, text: str) -> None:
    """Write a text to a file, or to stdout where `path` is "-"."""
    if path == STDOUT:
        show(text)
    else:
        write_file(path, text)


def write_file(path: Path, text: str) -> None:
    """Write a text to a file; UsageError when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
