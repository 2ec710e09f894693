"""Commands on the project (check), its devices (probe, verify), kept reports (report), and the demonstration (demo)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import ConfigError
from .common import (
    ContactOptions,
    FleetOptions,
    HtmlOption,
    JsonOption,
    SelectionOptions,
    SvgOption,
    check_files,
    command,
    progress_for,
    report_text,
    run_and_show,
    run_async,
    say,
    show,
    write_pages,
)


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
        show(f"{options.config}: no problems. Checked the files of {models} model(s) and {devices} device(s).")
    raise typer.Exit(2 if problems else 0)


@command
def probe(options: ContactOptions, as_json: JsonOption = False, html: HtmlOption = None) -> None:
    """Report what each device is; on the device, only the agent's own file changes."""
    from ..project.run_fleet import run_fleet

    run_and_show(run_fleet("probe", options, progress_for(as_json)), as_json, html)


@command
def verify(options: FleetOptions, as_json: JsonOption = False, html: HtmlOption = None) -> None:
    """Verify each device's model on that device again, without activating anything."""
    from ..operations.evaluate import verify as run_verify

    check_files(options)
    run_and_show(run_verify(options, progress_for(as_json)), as_json, html)


@command
def report(
    file: Annotated[Path, typer.Argument(help="Output of `--json`, or a report in the project's store.")],
    html: HtmlOption = None,
    svg: SvgOption = None,
) -> None:
    """Show a kept report again, or write it as HTML; the charts of a bench also as SVG."""
    from ..project.run_fleet import read_report

    kept = read_report(file)
    write_pages(kept, html, svg)
    if html is None and svg is None:
        show(report_text(kept))


@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the project.")] = Path("litefleet-demo"),
    as_json: JsonOption = False,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Keep the fleet running until Ctrl-C.")] = False,
) -> None:
    """Roll a real model out to a fleet on this machine: good devices, and one device for each kind of failure."""
    from ..demo.demo import run_demo

    raise typer.Exit(run_async(run_demo(folder, as_json=as_json, keep_running=keep_running, say=say, show=show)))
