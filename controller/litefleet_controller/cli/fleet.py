"""Commands on the project (check), its devices (probe, verify), kept reports (report), and the demonstration (demo)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import ConfigError
from ..project import Files
from .common import (
    DEFAULT_CONFIG,
    ConfigOption,
    ContactOptions,
    FleetOptions,
    HtmlOption,
    JsonOption,
    SelectionOptions,
    Stdout,
    SvgOption,
    check_files,
    colored,
    command,
    in_words,
    progress_for,
    report_text,
    run_and_show,
    run_async,
    say,
    show,
    terminal_width,
    write_out,
    write_pages,
)
from .completion import rollout_ids


@command
def check(options: SelectionOptions, as_json: JsonOption = False) -> None:
    """Check all local files of a project: models, inputs, goldens, runtimes, keys. No device is contacted."""
    from ..project.check import check_project
    from ..project.project import open_project

    project = open_project(options)
    problems = run_async(check_project(project))
    if as_json:
        show(json.dumps({"schema": 1, "exit_code": 2 if problems else 0, "problems": problems}, indent=2))
    elif problems:
        raise ConfigError(problems)
    else:
        for note in project.inventory.notes:
            say(f"{project.config.inventory.path}: not understood: {note}")
        models, devices = len(project.models), len(project.devices)
        done = f"{options.config}: no problems. Checked the files of {models} model(s) and {devices} device(s)."
        show(in_words(done))
    raise typer.Exit(2 if problems else 0)


@command
def probe(
    options: ContactOptions,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also show what was taken from the SSH configuration.")
    ] = False,
) -> None:
    """Report what each device is; on the device, only the agent's own file changes."""
    from ..project.project import open_project
    from ..project.run_fleet import run_fleet

    if verbose:
        for device in open_project(options).devices:
            login = f"{device.user}@{device.host}" if device.user else device.host
            taken = ", ".join(device.ssh.taken) or "nothing"
            say(f"{device.name}: {login}:{device.port}; from the SSH configuration: {taken}")
    check_files(options, Files.KEYS)
    run_and_show(run_fleet("probe", options, progress_for(as_json)), as_json, html)


@command
def verify(options: FleetOptions, as_json: JsonOption = False, html: HtmlOption = None) -> None:
    """Verify each device's model on that device again, without activating anything."""
    from ..operations.evaluate import verify as run_verify

    check_files(options)
    run_and_show(run_verify(options, progress_for(as_json)), as_json, html)


@command
def report(
    file: Annotated[
        str,
        typer.Argument(
            help="ID of a rollout, name of a kept report, or a file: output of `--json`.", autocompletion=rollout_ids
        ),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    html: HtmlOption = None,
    svg: SvgOption = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a table for a spreadsheet; - for stdout.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML for CI; - for stdout.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write Markdown; - for stdout.")] = None,
) -> None:
    """Show a kept report again, or write it as HTML, CSV, JUnit XML or Markdown; the charts of a bench also as SVG."""
    from ..project.run_fleet import find_report
    from ..reports.exports import to_csv, to_junit, to_markdown

    kept = find_report(config, file)
    write_pages(kept, html, svg)
    written = [(path, make) for path, make in ((csv, to_csv), (junit, to_junit), (markdown, to_markdown)) if path]
    for path, make in written:
        write_out(path, make(kept))
    if html is None and svg is None and not written:
        show(report_text(kept))


@command
def reports(
    config: ConfigOption = DEFAULT_CONFIG,
    of: Annotated[
        str, typer.Option("--command", help="Only reports of this command: rollout, verify, reconcile …")
    ] = "",
    last: Annotated[int, typer.Option("-n", min=1, max=10_000, help="At most this many, the latest ones.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the kept reports, the newest first. `litefleet report NAME` shows one."""
    from ..config import load_config
    from ..project.run_fleet import kept_reports
    from ..reports.terminal import reports_table

    kept = kept_reports(load_config(config), last, of)
    if as_json:
        show(json.dumps({"schema": 1, "command": "reports", "reports": [one.to_dict() for one in kept]}, indent=2))
    else:
        show(reports_table([(one.path.stem, one.report) for one in kept], terminal_width(), colored()))


@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the project.")] = Path("litefleet-demo"),
    as_json: JsonOption = False,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Keep the fleet running until Ctrl-C.")] = False,
) -> None:
    """Roll a real model out to a fleet on this machine: good devices, and one device for each kind of failure."""
    from ..demo.demo import run_demo

    run = run_demo(folder, as_json=as_json, keep_running=keep_running, say=say, show=show, quiet=Stdout.quiet)
    raise typer.Exit(run_async(run))
