"""The command `runtime`: add Paddle-Lite runtimes to litefleet.yaml, list and check them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import DeviceOptions, JsonOption, colored, command, in_words, show, terminal_width


class _Action(StrEnum):
    ADD = "add"
    LIST = "list"
    CHECK = "check"


@command
def runtime(
    action: Annotated[_Action, typer.Argument(help="add files to litefleet.yaml, list what it names, or check.")],
    options: DeviceOptions,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Release archives of Paddle-Lite's C++ library, unpacked ones, .so files, wheels or folders."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With add: change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what Paddle-Lite runtimes are and which devices they fit; `add` writes them into litefleet.yaml."""
    from ..doctor.diagnosis import exit_code_of
    from ..doctor.runtime_entries import add_files, check_files, list_runtimes
    from ..doctor.text import to_text

    if action is _Action.ADD and not files:
        raise UsageError("name the files to add: `litefleet runtime add inference_lite_lib.armlinux.armv8.gcc.tar.gz`")
    if action is _Action.LIST and files:
        raise UsageError("`litefleet runtime list` takes no files; `litefleet runtime check FILE` describes one")
    if dry_run and action is not _Action.ADD:
        raise UsageError("--dry-run goes with `litefleet runtime add`")
    if action is _Action.ADD:
        found = add_files(options, files or [], dry_run)
    else:
        found = check_files(options, files) if files else list_runtimes(options)
    code = 0 if action is _Action.LIST else exit_code_of(found)
    if as_json:
        show(json.dumps({"schema": 1, "exit_code": code, "runtimes": [one.to_dict() for one in found]}, indent=2))
    elif found:
        show(to_text(found, terminal_width(), colored()))
    else:
        none = "litefleet.yaml names no runtime: x86_64 devices get the published wheels, others need one."
        show(in_words(none))
    raise typer.Exit(code)
