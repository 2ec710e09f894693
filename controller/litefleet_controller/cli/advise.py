"""`litefleet advise`: the files that the fleet needs at the least, and what could be changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ..devices.outcome import document
from ..project import Options
from ..reports.progress import make_progress
from .common import (
    DEFAULT_CONFIG,
    AcceptOption,
    ConfigOption,
    InventoryOption,
    JsonOption,
    LimitOption,
    ModelOption,
    app,
    colored,
    show,
    width,
)


@app.command()
def advise(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    facts: Annotated[
        list[Path] | None,
        typer.Option("--facts", help="A kept `probe --json` report instead of asking the devices (may be repeated)."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Convert and run each option on this machine, against the golden.")
    ] = False,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
) -> None:
    """Say which files the fleet needs at the least, which device takes which, and what other options would bring."""
    from ..advise.advise import AdviceRequest, advise
    from ..reports.advice_text import advice_text

    options = Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys)
    request = AdviceRequest(options, tuple(facts or ()), measure)
    advice = asyncio.run(advise(request, lambda total: make_progress(total, quiet=as_json)))
    show(document(advice.to_dict()) if as_json else advice_text(advice, width(), colored()))
    raise typer.Exit(advice.exit_code)
