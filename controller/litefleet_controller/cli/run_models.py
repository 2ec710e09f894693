"""Commands that run models on devices and activate nothing there: infer, bench, evaluate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..project import Files
from .common import (
    ContactOptions,
    FleetOptions,
    HtmlOption,
    JsonOption,
    SvgOption,
    check_files,
    colored,
    command,
    progress_for,
    run_and_show,
    run_async,
    show,
    terminal_width,
)
from .completion import model_names


@command
def infer(
    files: Annotated[
        list[Path],
        typer.Argument(help="One file per input: .npz, .npy, or an image where the model has `preprocess:`."),
    ],
    options: ContactOptions,
    model: Annotated[
        str, typer.Option("-m", "--model", help="The model, where the project has several.", autocompletion=model_names)
    ] = "",
    release: Annotated[
        str, typer.Option("--release", help="ID of a release that is on the devices; default: the current one.")
    ] = "",
    reference: Annotated[
        bool, typer.Option("--reference", help="Also compare with the outputs of the reference engine.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the outputs to this folder: DEVICE-MODEL-INPUT.npz.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.05, max=3600, help="Time limit for one input, in seconds.")
    ] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Run inputs through the current release on each device and compare the outputs; nothing changes on the devices."""
    from ..infer.infer import InferChoice, run_inference
    from ..reports.inference_text import inference_text

    options = replace(options, models=(model,) if model else ())
    check_files(options, Files.ALL if reference else Files.SOURCES, store=False)
    choice = InferChoice(model, release, time_limit, reference, out)
    report = run_async(run_inference(options, files, choice, progress_for(as_json)))
    show(report.to_json() if as_json else inference_text(report, terminal_width(), colored()))
    raise typer.Exit(report.exit_code)


@command
def bench(
    options: FleetOptions,
    runs: Annotated[
        int | None,
        typer.Option("--runs", help="Number of runs, one after the other; default: as many as fit into --seconds."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="Approximate duration of the measurement on each device; default: 10. 3600 is a soak test.",
        ),
    ] = None,
    threads: Annotated[
        str, typer.Option("--threads", help="Threads per process: 1,2,4 measures the throughput with each.")
    ] = "",
    workers: Annotated[
        str, typer.Option("--workers", help="Parallel processes: 1,2,4; default: 1, and one per CPU up to 4.")
    ] = "",
    release: Annotated[
        str, typer.Option("--release", help="Measure this release instead of the current one: previous, or an ID.")
    ] = "",
    against: Annotated[
        str, typer.Option("--against", help="Compare with this release, in alternating blocks: previous, or an ID.")
    ] = "",
    low_priority: Annotated[
        bool,
        typer.Option("--low-priority", help="Run at low priority, so that other processes of the device go first."),
    ] = False,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=1000, help="Devices measured at the same time.")] = 4,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    svg: SvgOption = None,
) -> None:
    """Measure latency, throughput, memory and temperature on each device; nothing changes on the devices."""
    from ..bench.bench import run_bench
    from ..bench.choice import BenchChoice, numbers

    check_files(options, Files.KEYS)
    matrix = numbers("--threads", threads), numbers("--workers", workers)
    choice = BenchChoice(runs, seconds, *matrix, release, against, low_priority)
    run_and_show(run_bench(options, choice, at_once, progress_for(as_json)), as_json, html, svg)


@command
def evaluate(options: FleetOptions, as_json: JsonOption = False, html: HtmlOption = None) -> None:
    """Measure each device's accuracy on the labelled data of `golden.dataset`, beside the reference engine's."""
    from ..operations.evaluate import evaluate as run_evaluation

    check_files(options)
    run_and_show(run_evaluation(options, progress_for(as_json)), as_json, html)
