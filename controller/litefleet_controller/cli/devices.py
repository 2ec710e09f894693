"""Commands on the records of devices: devices, device, accept-key, forget."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from ..common.errors import UsageError
from ..project import Files
from .common import (
    JsonOption,
    ProjectOptions,
    SelectionOptions,
    check_files,
    colored,
    command,
    confirmed,
    in_words,
    run_async,
    say,
    show,
    terminal_width,
)
from .completion import device_names
from .state import seconds_of

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the device.", autocompletion=device_names)]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@command
def devices(
    options: SelectionOptions,
    version: Annotated[str, typer.Option("--version", help="Only devices that run this version or release.")] = "",
    state: Annotated[
        str, typer.Option("--state", help="Only devices in this state of their latest rollout: failed, offline, …")
    ] = "",
    drift: Annotated[bool, typer.Option("--drift", help="Only devices that drifted.")] = False,
    silent: Annotated[str, typer.Option("--silent", help="Only devices not reached for this long: 2d, 12h.")] = "",
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write a CSV table to stdout and nothing else.")] = False,
    login: Annotated[
        bool, typer.Option("--login", help="With --json: also how to log in, as port, user, key, jump and python.")
    ] = False,
) -> None:
    """Show what runs on each device, since when, its verdict, drift and last contact. No device is contacted."""
    from ..operations.device_records import chosen_records, device_logins, device_records
    from ..project.project import open_project
    from ..reports.device_text import devices_csv, devices_text

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other. Give one of them.")
    if login and not as_json:
        raise UsageError("--login belongs to --json. Add --json.")
    now = time.time()
    before = now - seconds_of("--silent", silent) if silent else None
    found = chosen_records(device_records(open_project(options)), version, state, drift, before)
    if as_json:
        logins = device_logins(options) if login else {}
        listed = [r.to_dict() | ({"login": logins[r.device]} if login else {}) for r in found]
        show(json.dumps({"schema": 1, "command": "devices", "devices": listed}, indent=2))
    elif as_csv:
        show(devices_csv(found))
    else:
        show(devices_text(found, now, terminal_width(), colored()))


@command
def device(
    options: ProjectOptions,
    name: NameArgument,
    last: Annotated[
        int, typer.Option("-n", min=1, max=10_000, help="At most this many entries of the time line.")
    ] = 40,
    as_json: JsonOption = False,
) -> None:
    """Show one device: facts, releases, why it failed, and one time line of rollouts, its own history and the audit log."""
    from ..devices.outcome import document
    from ..operations.device_records import device_story
    from ..reports.device_text import device_text

    story = device_story(options, name, last)
    show(document(story.to_dict()) if as_json else device_text(story, terminal_width(), colored()))


@command
def accept_key(options: ProjectOptions, name: NameArgument, yes: YesOption = False) -> None:
    """Trust the SSH host key that a device shows now, such as after it was replaced; shows the old and the new fingerprint."""
    from ..operations.host_key import accept_key as accept
    from ..operations.host_key import shown_key

    check_files(options, Files.NONE)
    shown = run_async(shown_key(options, name))
    say(shown.text())
    if shown.known:
        show(in_words(f"{name}: this key is trusted already."))
        return
    _ask("Trust the new key? Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the device.", yes)
    rest = accept(options, shown)
    show(in_words(f"{name}: {shown.fingerprint} is trusted from now on."))
    if rest:
        say(f"Another known_hosts file still trusts {', '.join(rest)}: `ssh-keygen -R {shown.host_name}` removes it.")


@command
def forget(options: ProjectOptions, name: NameArgument, yes: YesOption = False) -> None:
    """Delete what the state stores of a device that is gone; its rows in rollouts and the audit log stay."""
    from ..operations.device_records import forget_device, what_is_stored

    counts, listed = what_is_stored(options, name)
    say(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count) + " will be deleted")
    if listed:
        say(f"{name} is still in the inventory: the next command that reaches it stores it again.")
    _ask("Forget it?", yes)
    forget_device(options, name)
    show(in_words(f"{name} is forgotten."))


def _ask(question: str, yes: bool) -> None:
    """Return after a yes.

    Raises: UsageError without a terminal and without --yes; Exit with code 4 after a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this command asks before it changes anything: add --yes")
    if not confirmed(question):
        raise typer.Exit(4)
