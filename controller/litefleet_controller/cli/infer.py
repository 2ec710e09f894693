"""`litefleet infer`: the same inputs on chosen devices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ..project import Options
from ..reports.progress import make_progress
from .common import (
    DEFAULT_CONFIG,
    AcceptOption,
    ConfigOption,
    InventoryOption,
    JsonOption,
    LimitOption,
    app,
    colored,
    show,
    width,
)


@app.command()
def infer(
    files: Annotated[
        list[Path], typer.Argument(help="One input each: .npz, .npy, or a picture where the model has `preprocess:`.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: Annotated[str, typer.Option("-m", "--model", help="Which model, where the project has several.")] = "",
    release: Annotated[
        str, typer.Option("--release", help="A release that is on the devices; default: the current one.")
    ] = "",
    reference: Annotated[
        bool, typer.Option("--reference", help="Compare with the reference engine's answers too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the outputs into this folder: DEVICE-MODEL-INPUT.npz.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.05, max=3600, help="Seconds that one input may take.")
    ] = 30.0,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
) -> None:
    """Run inputs through the current release on each device, and compare the answers; nothing there changes."""
    from ..infer.infer import InferChoice, run_inference
    from ..reports.inference_text import inference_text

    options = Options(config, inventory, limit, (model,) if model else (), accept_new_host_keys)
    choice = InferChoice(model, release, time_limit, reference, out)
    report = asyncio.run(run_inference(options, files, choice, lambda total: make_progress(total, quiet=as_json)))
    show(report.to_json() if as_json else inference_text(report, width(), colored()))
    raise typer.Exit(report.exit_code)
