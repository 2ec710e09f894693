"""Commands on rollouts: planned, carried out, looked at, stopped, gone on with, taken back, kept in line, and signed."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..common.errors import UsageError
from ..devices.progress import Progress
from ..devices.steps import WaitPolicy
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
    app,
    colored,
    run_and_show,
    say,
    show,
    width,
)

__all__: list[str] = []

RolloutArgument = Annotated[str, typer.Argument(help="A rollout's id, r-20261123-0001; default: the latest.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Go on until every offline device has had its turn.")]


def _progress(as_json: bool) -> Any:
    def make(total: int) -> Progress:
        return make_progress(total, quiet=as_json)

    return make


def _wait_policy(watch: bool) -> WaitPolicy:
    return WaitPolicy.ALL if watch else WaitPolicy.WAVES


def _show_plan(options: Options, as_json: bool) -> None:
    from .. import operations
    from ..reports.plan_text import plan_text

    plan = asyncio.run(operations.plan_rollout(options, _progress(as_json)))
    show(json.dumps(plan.to_dict(), indent=2) if as_json else plan_text(plan, width(), colored()))


@app.command()
def plan(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
) -> None:
    """Say what a rollout would do to each device, in which wave, and why; nothing on any device changes."""
    _show_plan(Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys), as_json)


@app.command()
def rollout(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    as_json: JsonOption = False,
    accept_new_host_keys: AcceptOption = False,
    html: HtmlOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done: as `litefleet plan`.")
    ] = False,
    watch: WatchOption = False,
    supersede: Annotated[bool, typer.Option("--supersede", help="Replace a rollout that is paused or waits.")] = False,
) -> None:
    """Bring each device the right file, wave by wave: proven on it, then switched on under a lease, then confirmed."""
    from .. import operations

    options = Options(config, inventory, limit, tuple(model or ()), accept_new_host_keys)
    if dry_run:
        _show_plan(options, as_json)
    else:
        run = operations.start_rollout(options, _progress(as_json), _wait_policy(watch), supersede)
        run_and_show(run, as_json, html)


@app.command()
def status(
    rollout_id: RolloutArgument = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    every: Annotated[bool, typer.Option("--all", help="List the latest rollouts.")] = False,
) -> None:
    """Say how a rollout stands, why it stopped, and what can be done next."""
    from .. import operations
    from ..config import load_config
    from ..reports.status_text import rollouts_dict, rollouts_text, status_dict, status_text

    settings = load_config(config)
    with closing(operations.open_state(settings)) as state:
        if every:
            found = state.rollouts(settings.fleet, 100)
            show(json.dumps(rollouts_dict(found), indent=2) if as_json else rollouts_text(found, width(), colored()))
            return
        one = operations.find_rollout(state, settings.fleet, rollout_id)
        rows, outcomes = state.rows(one.id), state.outcomes(one.id)
        holder = str(state.holder(settings.fleet) or "")
    if as_json:
        show(json.dumps(status_dict(one, rows, outcomes, time.time(), holder), indent=2))
    else:
        show(status_text(one, rows, outcomes, time.time(), width(), colored(), holder))


def _run_command(command: str, rollout_id: str, options: Options, watch: bool, as_json: bool) -> None:
    from .. import operations

    commands = {"resume": operations.resume, "approve": operations.approve, "retry": operations.retry}[command]
    run_and_show(commands(options, _progress(as_json), rollout_id, _wait_policy(watch)), as_json)


@app.command()
def resume(
    rollout_id: RolloutArgument = "",
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a rollout that was paused, or that a dead controller left behind."""
    _run_command("resume", rollout_id, Options(config, inventory), watch, as_json)


@app.command()
def approve(
    rollout_id: RolloutArgument = "",
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a rollout that waits for approval begin its next wave."""
    _run_command("approve", rollout_id, Options(config, inventory), watch, as_json)


@app.command()
def retry(
    rollout_id: RolloutArgument = "",
    failed: Annotated[bool, typer.Option("--failed", help="The devices that failed (the only choice so far).")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a rollout's failed devices another try."""

    if not failed:
        raise UsageError("say what is to be tried again: `litefleet retry --failed`")
    _run_command("retry", rollout_id, Options(config, inventory), watch, as_json)


@app.command()
def pause(rollout_id: RolloutArgument = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Begin no further device; those under way are finished."""
    from .. import operations

    say(operations.pause(Options(config), rollout_id))


@app.command()
def abort(rollout_id: RolloutArgument = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End a rollout: devices under way are finished, the others are skipped."""
    from .. import operations

    say(operations.abort(Options(config), rollout_id))


@app.command()
def rollback(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    model: ModelOption = None,
    to: Annotated[str, typer.Option("--to", help="previous, nothing, or a kept release's id.")] = "previous",
    rollout_id: Annotated[
        str, typer.Option("--rollout", help="Only devices that this rollout brought a release.")
    ] = "",
    wave: Annotated[int, typer.Option("--wave", min=0, help="Only this wave of --rollout, counted from 1.")] = 0,
    as_json: JsonOption = False,
    html: HtmlOption = None,
) -> None:
    """Take devices back to a release that they kept; nothing travels."""
    from .. import operations

    options = Options(config, inventory, limit, tuple(model or ()))
    target = operations.Target(to, rollout_id, wave)
    run_and_show(operations.roll_back(options, _progress(as_json), target), as_json, html)


@app.command()
def reconcile(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    repair: Annotated[bool, typer.Option("--repair", help="Bring back what drifted.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte again on the devices.")] = False,
    as_json: JsonOption = False,
    html: HtmlOption = None,
) -> None:
    """Go on with what is open, take in new devices, find drift: one pass that never waits, for a timer."""
    from .. import operations

    run_and_show(
        operations.reconcile(Options(config, inventory, limit), _progress(as_json), repair=repair, deep=deep),
        as_json,
        html,
    )


@app.command()
def audit(
    config: ConfigOption = DEFAULT_CONFIG,
    check: Annotated[bool, typer.Option("--check", help="Recompute the whole chain of hashes.")] = False,
    limit: Annotated[int, typer.Option("-n", min=1, help="How many of the last entries.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, when, and from which files."""
    from .. import operations
    from ..config import load_config

    with closing(operations.open_state(load_config(config))) as state:
        wrong = state.check_audit() if check else ""
        entries = state.audit(limit)
    if as_json:
        show(json.dumps({"schema": 1, "broken": wrong, "entries": [asdict(e) for e in entries]}, indent=2))
    else:
        for e in entries:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(e.at))
            what = json.dumps(dict(e.what), ensure_ascii=False)
            show(f"{e.seq:6}  {moment}  {e.who}  {e.action}  {what[:300]}")
        if check:
            say(wrong or "the chain holds from the first entry to the last")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def bundle(
    out: Annotated[Path, typer.Option("--out", help="The file to write, such as stick.lfb.")],
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: Annotated[
        str, typer.Option("--for", help="Devices that have been probed before, chosen as by --limit.")
    ] = "",
    facts: Annotated[
        list[Path] | None,
        typer.Option("--facts", help="What `litefleet-agent facts` printed on a device (may be repeated)."),
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all that some devices need into one signed file, for `litefleet-agent install` from a USB stick."""
    from .. import operations

    options = Options(config, inventory, limit, tuple(model or ()))
    made = asyncio.run(operations.write_for(options, _progress(as_json), out, facts or []))
    if as_json:
        show(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in asdict(made).items()}, indent=2))
    else:
        count = f"{len(made.releases)} release{'s' if len(made.releases) != 1 else ''}"
        say(f"{made.path}: {count}, {made.size / 1e6:.1f} MB, SHA-256 {made.sha256}")
        say(f"beside it {made.agent.name}; on the device: python3 {made.agent.name} install {made.path.name}")


@app.command()
def trust(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    reset_time: Annotated[
        bool, typer.Option("--reset-time", help="Lead devices back that have accepted a release from a wrong time.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell devices whom to trust: the list in `signing.allowed_signers`, signed by someone whom they trust already."""
    from .. import operations

    run_and_show(operations.spread_trust(Options(config, inventory, limit), _progress(as_json), reset_time), as_json)
