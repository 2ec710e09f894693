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
from ..project import Options
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
from .completion import rollout_ids

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@command
def status(
    options: DeviceOptions,
    rollout_id: RolloutArgument = "",
    as_json: JsonOption = False,
    every: Annotated[bool, typer.Option("--all", help="List the latest rollouts.")] = False,
) -> None:
    """Show the state of a rollout, why it stopped, and the commands that apply."""
    from .. import operations
    from ..config import load_config
    from ..project.project import open_reader
    from ..reports.status_text import rollouts_dict, rollouts_text, status_document, status_text

    settings = load_config(options.config)
    chosen = _selected(options)
    with closing(open_reader(settings)) as state:
        if every:
            latest = state.rollouts(settings.fleet, 100)
            text = rollouts_text(latest, terminal_width(), colored(), str(state.holder(settings.fleet) or ""))
            show(json.dumps(rollouts_dict(latest), indent=2) if as_json else text)
            return
        if as_json or chosen is not None:
            found = operations.read_status(state, settings.fleet, rollout_id, chosen)
        else:
            found = operations.read_status_in_brief(state, settings.fleet, rollout_id)
    if as_json:
        show(json.dumps(status_document(found, time.time()), indent=2))
    else:
        parts = (found.holder, found.running, found.versions, found.sent_besides, found.summary)
        show(status_text(found.rollout, found.rows, found.outcomes, time.time(), terminal_width(), colored(), *parts))
    if found.older:
        say(f"Attention: {found.older}")


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
    from ..project.project import open_state
    from ..reports.status_text import history_dict, history_text

    begin = time.time() - seconds_of("--since", since) if since else 0.0
    chosen = sorted(_selected(options) or ())
    with closing(open_state(load_config(options.config))) as state:
        entries = state.history_entries(chosen, begin, last)
    text = history_text(entries, terminal_width(), colored())
    show(json.dumps(history_dict(entries), indent=2) if as_json else text)


def _selected(options: Options) -> frozenset[str] | None:
    """Return the names of the devices that --limit selects; None without --limit."""
    if not options.limit:
        return None
    from ..project.project import open_project

    return frozenset(device.name for device in open_project(options).devices)


def seconds_of(option: str, text: str) -> float:
    """Return an option's duration such as "2d" or "30m" in seconds; UsageError for any other text."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text, re.ASCII)
    if not found:
        raise UsageError(f"{option}: '{text[:40]}' is not a duration. Write 2d, 12h or 30m.")
    return int(found[1]) * _UNITS[found[2]]


@command
def audit(
    options: DeviceOptions,
    check: Annotated[bool, typer.Option("--check", help="Recompute the whole chain of hashes.")] = False,
    last: Annotated[int, typer.Option("-n", min=1, help="Number of entries to show, the last ones.")] = 50,
    who: Annotated[str, typer.Option("--who", help="Only entries whose author's name contains this.")] = "",
    action: Annotated[str, typer.Option("--action", help="Only entries whose action contains this.")] = "",
    rollout_id: Annotated[
        str, typer.Option("--rollout", help="Only entries about this rollout.", autocompletion=rollout_ids)
    ] = "",
    since: Annotated[str, typer.Option("--since", help="Only entries younger than this: 2d, 12h, 30m.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show who did what, when, and from which files."""
    from ..operations.audit import AuditFilter, audit_entries, check_audit
    from ..reports.device_text import audit_table

    begin = time.time() - seconds_of("--since", since) if since else 0.0
    problem = check_audit(options) if check else ""
    entries = audit_entries(options, last, AuditFilter(who, action, rollout_id, begin))
    if as_json:
        show(json.dumps({"schema": 1, "broken": problem, "entries": [asdict(e) for e in entries]}, indent=2))
    else:
        show(audit_table(entries, terminal_width(), colored()))
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
