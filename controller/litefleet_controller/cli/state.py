"""Commands that read the project's state and contact no device: status, history, audit, metrics."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import (
    DEFAULT_CONFIG,
    ConfigOption,
    DeviceOptions,
    JsonOption,
    RolloutArgument,
    colored,
    command,
    say,
    show,
    terminal_width,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@command
def status(
    rollout_id: RolloutArgument = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    every: Annotated[bool, typer.Option("--all", help="List the latest rollouts.")] = False,
) -> None:
    """Show the state of a rollout, why it stopped, and the commands that apply."""
    from .. import operations
    from ..config import load_config
    from ..project.project import open_state
    from ..reports.status_text import rollouts_dict, rollouts_text, status_dict, status_text

    settings = load_config(config)
    with closing(open_state(settings)) as state:
        if every:
            latest = state.rollouts(settings.fleet, 100)
            text = rollouts_text(latest, terminal_width(), colored())
            show(json.dumps(rollouts_dict(latest), indent=2) if as_json else text)
            return
        one = operations.find_rollout(state, settings.fleet, rollout_id)
        rows, outcomes = state.rows(one.id), state.outcomes(one.id)
        running = {key: entry.at for key, entry in state.runs_failed(one.id).items()}
        older = state.behind(settings.fleet)
        holder = str(state.holder(settings.fleet) or "")
        versions = state.versions()
    if as_json:
        content = status_dict(one, rows, outcomes, time.time(), holder, running, versions)
        show(json.dumps({**content, "older": older}, indent=2))
    else:
        show(status_text(one, rows, outcomes, time.time(), terminal_width(), colored(), holder, running, versions))
    if older:
        say(f"Attention: {older}")


@command
def history(
    options: DeviceOptions,
    since: Annotated[
        str, typer.Option("--since", help="Only entries younger than this by the device's clock: 2d, 12h, 30m.")
    ] = "",
    last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="At most this many entries.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show the events that devices recorded between contacts, as collected at the last contact."""
    from ..config import load_config
    from ..project.project import open_project, open_state
    from ..reports.status_text import history_dict, history_text

    begin = time.time() - _seconds(since) if since else 0.0
    chosen = [d.name for d in open_project(options).devices] if options.limit else []
    with closing(open_state(load_config(options.config))) as state:
        entries = state.history_entries(chosen, begin, last)
    text = history_text(entries, terminal_width(), colored())
    show(json.dumps(history_dict(entries), indent=2) if as_json else text)


def _seconds(text: str) -> float:
    """Return a duration such as "2d" or "30m" in seconds; UsageError for any other text."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text, re.ASCII)
    if not found:
        raise UsageError(f"--since: '{text[:40]}' is not a duration. Write 2d, 12h or 30m.")
    return int(found[1]) * _UNITS[found[2]]


@command
def audit(
    config: ConfigOption = DEFAULT_CONFIG,
    check: Annotated[bool, typer.Option("--check", help="Recompute the whole chain of hashes.")] = False,
    limit: Annotated[int, typer.Option("-n", min=1, help="Number of entries to show, the last ones.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, when, and from which files."""
    from ..config import load_config
    from ..project.project import open_state

    with closing(open_state(load_config(config))) as state:
        problem = state.check_audit() if check else ""
        entries = state.audit(limit)
    if as_json:
        show(json.dumps({"schema": 1, "broken": problem, "entries": [asdict(e) for e in entries]}, indent=2))
    else:
        for e in entries:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(e.at))
            show(f"{e.seq:6}  {moment}  {e.who}  {e.action}  {json.dumps(dict(e.what), ensure_ascii=False)[:300]}")
        if check:
            whole = "The chain of hashes is complete from the first entry to the last."
            say(problem or (whole if entries else "The audit log has no entry yet: there is no chain to check."))
    raise typer.Exit(1 if problem else 0)


@command
def metrics(
    config: ConfigOption = DEFAULT_CONFIG,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", help="Serve GET /metrics and /healthz at HOST:PORT until Ctrl-C; :PORT binds to loopback only."
        ),
    ] = "",
    textfile: Annotated[
        Path | None, typer.Option("--textfile", help="Write them to this file, for node_exporter's textfile collector.")
    ] = None,
) -> None:
    """Print the fleet's metrics in Prometheus' text format, from the state alone."""
    from litefleet_agent.service.metrics import write_textfile

    from ..config import load_config
    from ..project.project import open_state
    from ..reports.fleet_metrics import fleet_metrics

    if listen and textfile is not None:
        raise UsageError("--listen and --textfile exclude each other. Give one of them.")
    settings = load_config(config)

    def read() -> str:
        with closing(open_state(settings)) as state:
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
            raise UsageError(f"{textfile} cannot be written: {error.strerror}") from error
    else:
        show(read())
