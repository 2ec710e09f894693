"""`litefleet bench`: how fast the releases run on the devices, and how much memory they take."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ..devices.outcome import to_json
from ..project import Options
from ..reports.progress import make_progress
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
    show,
    width,
    write_file,
)

__all__ = ["bench"]


@app.command()
def bench(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    runs: Annotated[
        int | None,
        typer.Option("--runs", help="Runs to measure one after the other; default: as many as there is time for."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", help="How long to measure each device, about; default 10. 3600 is a soak of an hour."
        ),
    ] = None,
    threads: Annotated[
        str, typer.Option("--threads", help="Threads of a process, 1,2,4: throughput is measured with each.")
    ] = "",
    workers: Annotated[
        str, typer.Option("--workers", help="Processes at once, 1,2,4; default: one, and one for each CPU up to four.")
    ] = "",
    release: Annotated[
        str, typer.Option("--release", help="Measure this release instead of the current one: previous, or its id.")
    ] = "",
    against: Annotated[
        str, typer.Option("--against", help="Compare it with another one by turns: previous, or its id.")
    ] = "",
    low_priority: Annotated[
        bool, typer.Option("--low-priority", help="Let whatever else runs on the device go first.")
    ] = False,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=1000, help="Devices that are measured at a time.")
    ] = 4,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
    html: HtmlOption = None,
    svg: SvgOption = None,
) -> None:
    """Measure latency, throughput, memory and heat on each device; nothing on it is changed."""
    from ..bench.bench import run_bench
    from ..bench.choice import BenchChoice, numbers
    from ..devices.outcome import Interrupted
    from ..reports.bench_text import bench_text

    options = Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys)
    wanted = numbers("--threads", threads), numbers("--workers", workers)
    choice = BenchChoice(runs, seconds, *wanted, release, against, low_priority)
    interrupted = False
    try:
        report = asyncio.run(run_bench(options, choice, at_once, lambda total: make_progress(total, quiet=as_json)))
    except Interrupted as stopped:
        report, interrupted = stopped.report, True
    show(to_json(report) if as_json else bench_text(report, width(), colored()))
    if html is not None:  # last: a page that can't be written must not cost the result
        from ..reports.html import to_html

        write_file(html, to_html(report))
    if svg is not None:
        from ..reports.charts.bench import to_svg

        write_file(svg, to_svg(report))
    raise typer.Exit(4 if interrupted else report.exit_code)
