"""Commands on the fleet as it is: probe, verify, convert, report, demo."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from ..devices.outcome import RunReport
from ..project import Options
from ..reports.progress import make_progress
from ..reports.terminal import to_table
from .common import (
    DEFAULT_CONFIG,
    AcceptOption,
    ConfigOption,
    HtmlOption,
    InventoryOption,
    JsonOption,
    LimitOption,
    ModelOption,
    SvgOption,
    app,
    colored,
    run_and_show,
    say,
    show,
    width,
    write_file,
)


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
    from ..project.run_fleet import run_fleet

    options = Options(config, inventory, limit, (), accept_new_host_keys)
    run_and_show(run_fleet("probe", options, lambda total: make_progress(total, quiet=as_json)), as_json, html)


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
    from ..project.run_fleet import run_fleet

    options = Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys)
    run_and_show(run_fleet("verify", options, lambda total: make_progress(total, quiet=as_json)), as_json, html)


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
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", help="A Paddle-Lite version to ask where the configured one can't; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the files into this folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert each model once per architecture, with every check, into the store."""
    from ..project.convert_models import ConvertChoice, convert_models

    choice = ConvertChoice(tuple(arch or ()), targets, fp16, quant, tuple(tries or ()))
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
    svg: SvgOption = None,
) -> None:
    """Show a kept report again, or turn it into HTML; a bench's pictures also into SVG."""
    from ..project.run_fleet import read_report

    kept = read_report(file)
    if html is not None:
        from ..reports.html import to_html

        write_file(html, to_html(kept))
    if svg is not None:
        from ..reports.charts.bench import to_svg

        write_file(svg, to_svg(kept))
    if html is None and svg is None:
        show(_shown(kept))


def _shown(report: RunReport) -> str:
    """Return a report for the terminal, in the form that its command gave it."""
    if report.command == "bench":
        from ..reports.bench_text import bench_text

        return bench_text(report, width(), colored())
    return to_table(report, width=width(), color=colored())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the project folder is written.")] = Path("litefleet-demo"),
    as_json: JsonOption = False,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Leave the fleet running until Ctrl-C.")] = False,
) -> None:
    """Run the whole job on an embedded fleet with a real model: good devices and every way to go wrong."""
    from ..demo.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(folder, as_json=as_json, keep_running=keep_running, say=say)))
