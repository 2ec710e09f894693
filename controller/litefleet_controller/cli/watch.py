"""Commands that tell of the fleet without talking to it: history and metrics."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import (
    DEFAULT_CONFIG,
    ConfigOption,
    InventoryOption,
    JsonOption,
    LimitOption,
    app,
    colored,
    say,
    show,
    width,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@app.command()
def history(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    since: Annotated[
        str, typer.Option("--since", help="Only what is younger, by the device's clock: 2d, 12h, 30m.")
    ] = "",
    last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="At most this many entries.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show what happened on devices while nobody watched, as collected at the last contacts."""
    from .. import operations
    from ..config import load_config
    from ..project import Options
    from ..project.project import open_project
    from ..reports.history_text import history_dict, history_text

    begin = time.time() - _seconds(since) if since else 0.0
    chosen = [d.name for d in open_project(Options(config, inventory, limit)).devices] if limit else []
    with closing(operations.open_state(load_config(config))) as state:
        entries = state.history_entries(chosen, begin, last)
    show(json.dumps(history_dict(entries), indent=2) if as_json else history_text(entries, width(), colored()))


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if not found:
        raise UsageError(f"--since: '{text}' is no length of time; write 2d, 12h or 30m")
    return int(found[1]) * _UNITS[found[2]]


@app.command()
def metrics(
    config: ConfigOption = DEFAULT_CONFIG,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", help="Serve GET /metrics and /healthz at HOST:PORT until Ctrl-C; :PORT is this machine alone."
        ),
    ] = "",
    textfile: Annotated[
        Path | None, typer.Option("--textfile", help="Write them to this file, for node_exporter's textfile collector.")
    ] = None,
) -> None:
    """Tell how the fleet stands, from the state alone, in Prometheus' text format."""
    from litefleet_agent.service.metrics import write_textfile

    from .. import operations
    from ..config import load_config
    from ..reports.fleet_metrics import fleet_metrics

    if listen and textfile is not None:
        raise UsageError("--listen and --textfile are two ways to tell the same: give one")
    settings = load_config(config)

    def read() -> str:
        with closing(operations.open_state(settings)) as state:
            return fleet_metrics(state, settings.fleet)

    if listen:
        from ..reports.metrics_server import MetricsServer, address_of

        with MetricsServer(address_of(listen), read) as server:
            host, port = server.server_address[:2]
            say(f"metrics at http://{host!s}:{port}/metrics")
            server.serve_forever(poll_interval=0.2)
    elif textfile is not None:
        try:
            write_textfile(str(textfile), read())
        except OSError as error:
            raise UsageError(f"{textfile} can't be written: {error.strerror}") from error
    else:
        show(read())
