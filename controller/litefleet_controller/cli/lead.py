"""The command `state`: show which state leads the fleet, and adopt what the devices run."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from enum import StrEnum
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import (
    DeviceOptions,
    JsonOption,
    command,
    confirmed,
    in_words,
    progress_for,
    run_and_show,
    run_async,
    say,
    show,
)


class _Action(StrEnum):
    SHOW = "show"
    ADOPT = "adopt"


@command
def state(
    action: Annotated[_Action, typer.Argument(help="show, or adopt: what the devices run becomes what is confirmed.")],
    options: DeviceOptions,
    as_json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be adopted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show the identity under which devices are switched, or adopt devices that another copy of the state has switched."""
    from .. import operations

    if action is _Action.SHOW:
        _show(options, as_json)
        return
    adoption = run_async(operations.plan_adoption(options, progress_for(as_json)))
    if dry_run or not adoption.needed:
        show(json.dumps(adoption.to_dict(), indent=2) if as_json else in_words(adoption.text()))
        if not adoption.needed:
            say("Nothing to adopt: this state leads every device that answered.")
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("an adoption asks before it changes what is confirmed: add --yes, or --dry-run to see it")
        say(adoption.text())
        if not confirmed("Continue?"):
            raise typer.Exit(4)
    run_and_show(operations.adopt_state(options, progress_for(as_json), adoption), as_json)


def _show(options: DeviceOptions, as_json: bool) -> None:
    from .. import operations
    from ..config import load_config

    config = load_config(options.config)
    with closing(operations.open_state(config)) as opened:
        found = operations.state_of(opened, config.fleet)
    if as_json:
        show(json.dumps(found, indent=2))
        return
    name = f"state {found['state']}, number {found['number']}" if found["state"] else "no device was switched yet"
    show(in_words(f"fleet '{config.fleet}': {name}"))
    if found["older"]:
        say(str(found["older"]))
