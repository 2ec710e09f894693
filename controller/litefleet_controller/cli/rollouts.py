"""Commands on rollouts: plan, rollout, resume, approve, retry, pause, abort, rollback, reconcile, bundle, trust."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.errors import UsageError
from ..project import Files, Options
from .common import (
    DEFAULT_CONFIG,
    STDOUT,
    ConfigOption,
    DeviceOptions,
    HtmlOption,
    InventoryOption,
    JsonOption,
    ModelOption,
    OpenRolloutOptions,
    ReconcileOptions,
    RollbackOptions,
    RolloutArgument,
    RolloutOptions,
    check_files,
    colored,
    command,
    confirmed,
    in_words,
    progress_for,
    run_and_show,
    run_async,
    say,
    show,
    terminal_width,
    write_out,
)
from .completion import device_patterns, rollout_ids, versions

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from ..devices.outcome import RunReport
    from ..devices.steps import WaitPolicy
    from ..project.run_fleet import ProgressFor

WatchOption = Annotated[bool, typer.Option("--watch", help="Keep running until every offline device has been reached.")]


def _wait_policy(watch: bool) -> WaitPolicy:
    from ..devices.steps import WaitPolicy

    return WaitPolicy.ALL if watch else WaitPolicy.WAVES


class FailOn(StrEnum):
    """What in a plan makes the exit code of `litefleet plan` 1; each level has those before it."""

    NEVER = "never"
    BLOCKED = "blocked"  # or failed: what a rollout could not change
    OFFLINE = "offline"
    CHANGE = "change"

    @property
    def effects(self) -> tuple[str, ...]:
        """The effects of a plan's entries that count."""
        ordered = ("blocked", "failed", "offline", "changes")
        return ordered[: {"never": 0, "blocked": 2, "offline": 3, "change": 4}[self.value]]


def _show_plan(
    options: Options,
    as_json: bool,
    offline: bool = False,
    fail_on: FailOn = FailOn.NEVER,
    markdown: Path | None = None,
) -> None:
    from .. import operations
    from ..reports.plan_text import plan_text

    if as_json and markdown == STDOUT:
        raise UsageError("--json and --markdown - both write to stdout. Give --markdown a file name.")
    if not offline:
        check_files(options)
    make = operations.plan_offline if offline else operations.plan_rollout
    plan = run_async(make(options, progress_for(as_json)))
    if markdown != STDOUT:
        show(json.dumps(plan.to_dict(), indent=2) if as_json else plan_text(plan, terminal_width(), colored()))
    if markdown is not None:
        from ..reports.plan_markdown import plan_markdown

        write_out(markdown, plan_markdown(plan))
    raise typer.Exit(int(any(effect in plan.counts for effect in fail_on.effects)))


@command
def plan(
    options: RolloutOptions,
    as_json: JsonOption = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Plan by what the devices reported last; contact none of them.")
    ] = False,
    fail_on: Annotated[
        FailOn,
        typer.Option(
            "--fail-on",
            help="What in the plan makes the exit code 1: blocked (or failed) devices, also offline ones, or any change as well.",
        ),
    ] = FailOn.NEVER,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Also write the plan as Markdown, for a pull request; - for stdout alone."),
    ] = None,
) -> None:
    """Show what a rollout would do to each device, in which wave, and why; nothing changes on the devices."""
    _show_plan(options, as_json, offline, fail_on, markdown)


@command
def rollout(
    options: RolloutOptions,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan, as `litefleet plan` does.")] = False,
    watch: WatchOption = False,
    supersede: Annotated[bool, typer.Option("--supersede", help="Replace a rollout that is still open.")] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Also change devices that another copy of the state, or another one, led last."
        ),
    ] = False,
) -> None:
    """Deliver each device's file wave by wave: verify it on the device, activate it under a lease, confirm."""
    from .. import operations

    if dry_run:
        _show_plan(options, as_json)
    else:
        check_files(options)
        run = operations.start_rollout(options, progress_for(as_json), _wait_policy(watch), supersede, take_over)
        run_and_show(run, as_json, html)


_Continue = Callable[[Options, "ProgressFor", str, "WaitPolicy"], "Coroutine[Any, Any, RunReport]"]


def _continue(operation: _Continue, options: Options, rollout_id: str, watch: bool, as_json: bool) -> None:
    run_and_show(operation(options, progress_for(as_json), rollout_id, _wait_policy(watch)), as_json)


@command
def resume(
    options: OpenRolloutOptions,
    rollout_id: RolloutArgument = "",
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue a rollout that was paused, or whose controller ended without finishing it."""
    from ..operations.resume import resume as resume_rollout

    _continue(resume_rollout, options, rollout_id, watch, as_json)


@command
def approve(
    options: OpenRolloutOptions,
    rollout_id: RolloutArgument = "",
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start the next wave of a rollout that waits for approval."""
    from .. import operations

    _continue(operations.approve, options, rollout_id, watch, as_json)


@command
def retry(
    options: OpenRolloutOptions,
    rollout_id: RolloutArgument = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="Retry the devices that failed: the only choice, and so not needed.")
    ] = False,
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Retry the failed devices of a rollout."""
    from .. import operations

    _continue(operations.retry, options, rollout_id, watch, as_json)


@command
def pause(rollout_id: RolloutArgument = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Pause a rollout: it starts no further device and finishes those under way."""
    from .. import operations

    say(operations.pause(Options(config), rollout_id))


@command
def abort(
    rollout_id: RolloutArgument = "",
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a rollout: it finishes the devices under way and skips the others. Without an ID it names the open one and asks."""
    from .. import operations

    if not rollout_id:
        rollout_id, about = operations.what_to_abort(Options(config))
        if not yes and sys.stdin.isatty() and not confirmed(f"{about} End it?"):
            raise typer.Exit(4)
    say(operations.abort(Options(config), rollout_id))


@command
def rollback(
    options: RollbackOptions,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="previous, nothing, or the version or ID of a kept release, as `devices` shows it.",
            autocompletion=versions,
        ),
    ] = "previous",
    rollout_id: Annotated[
        str,
        typer.Option("--rollout", help="The rollout to revert; default: the latest.", autocompletion=rollout_ids),
    ] = "",
    wave: Annotated[int, typer.Option("--wave", min=0, help="Only this wave of --rollout, counted from 1.")] = 0,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be reverted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Revert what a rollout switched on, device by device, and end that rollout; no file is transferred."""
    from .. import operations

    target = operations.Target(to, rollout_id, wave)
    preview = operations.plan_rollback(options, target)
    if dry_run:
        show(json.dumps(preview.to_dict(), indent=2) if as_json else in_words(preview.text()))
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("a rollback asks before it changes devices: add --yes, or --dry-run to see the preview")
        say(preview.text())
        if not confirmed("Continue?"):
            raise typer.Exit(4)
    check_files(options, Files.KEYS, only={row.device for row in preview.rows})
    run_and_show(operations.roll_back(options, progress_for(as_json), target), as_json, html)


@command
def reconcile(
    options: ReconcileOptions,
    repair: Annotated[bool, typer.Option("--repair", help="Restore what drifted.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte of the releases on the devices again.")] = False,
    as_json: JsonOption = False,
    html: HtmlOption = None,
) -> None:
    """Continue open rollouts, add new devices, and find drift: one pass that never waits, for a timer."""
    from ..operations.reconcile import reconcile as reconcile_fleet

    check_files(options, Files.KEYS)
    run = reconcile_fleet(options, progress_for(as_json), repair=repair, deep=deep)
    run_and_show(run, as_json, html)


@command
def bundle(
    out: Annotated[Path, typer.Option("--out", help="The file to write, such as stick.lfb.")],
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: Annotated[
        str,
        typer.Option(
            "--for", help="Devices that were probed before, selected as by --limit.", autocompletion=device_patterns
        ),
    ] = "",
    facts: Annotated[
        list[Path] | None,
        typer.Option("--facts", help="Output of `litefleet-agent facts` on a device (may be repeated)."),
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything that some devices need into one signed file, for `litefleet-agent install` from a USB stick."""
    from .. import operations

    options = Options(config, inventory, limit, tuple(model or ()))
    made = run_async(operations.write_for(options, progress_for(as_json), out, facts or []))
    if as_json:
        show(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in asdict(made).items()}, indent=2))
    else:
        count = f"{len(made.releases)} release{'s' if len(made.releases) != 1 else ''}"
        say(f"{made.path}: {count}, {made.size / 1e6:.1f} MB, SHA-256 {made.sha256}")
        say(f"Copy {made.agent.name} with it. On the device: python3 {made.agent.name} install {made.path.name}")


@command
def trust(
    options: DeviceOptions,
    reset_time: Annotated[
        bool, typer.Option("--reset-time", help="Reset devices that accepted a release signed with a wrong time.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Send devices the signers to trust (`signing.allowed_signers`), signed by a signer whom they trust already."""
    from .. import operations

    run_and_show(operations.spread_trust(options, progress_for(as_json), reset_time), as_json)
