"""`litefleet provision`."""

from __future__ import annotations

import getpass
import sys
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from ..common.errors import UsageError
from ..project import Options
from .common import DEFAULT_CONFIG, AcceptOption, ConfigOption, InventoryOption, LimitOption, app, show

__all__ = ["provision"]


@app.command()
def provision(
    config: ConfigOption = DEFAULT_CONFIG,
    inventory: InventoryOption = None,
    limit: LimitOption = "",
    login: Annotated[
        str, typer.Option("--as", help="Log in as this user (root, or one with sudo); default: the inventory's.")
    ] = "",
    identity: Annotated[str, typer.Option("--identity", help="Private key of that login.")] = "",
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Public key that may log in as litefleet; default: that of the inventory's `key:`."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="service.json for the devices; default: leave theirs.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Stop and remove the service; models stay.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="With --remove: the user and all models too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every command; change nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="With --dry-run: connect, and say what would change.")] = False,
    init: Annotated[
        str, typer.Option("--init", help="With --dry-run alone: systemd, openrc, procd, sysv or busybox.")
    ] = "systemd",
    accept_new_host_keys: AcceptOption = False,
) -> None:
    """Install the resident agent as a service of each device, or bring it up to date; run again, it changes nothing."""
    from ..project.project import open_project
    from ..provision.login import Admin, Login
    from ..provision.provision import Choice, Provision
    from ..provision.services import Init

    _fits(purge, remove, check, dry_run, init, [known.value for known in Init])
    project = open_project(Options(config, inventory, limit, (), accept_new_host_keys))
    task = Provision(Choice(key, settings, remove, purge, dry_run, check), show, cache(_ask))
    if dry_run and not check:
        for device in project.devices:
            task.show(device, Init(init))
        return
    way = Login(project.host_keys(), project.inventory.jump_chain, Admin(login, identity))
    failed = [device.name for device in project.devices if not task.device(device, way)]
    if failed:
        show(f"failed: {', '.join(failed)}")
    raise typer.Exit(1 if failed else 0)


def _fits(purge: bool, remove: bool, check: bool, dry_run: bool, init: str, known: list[str]) -> None:
    """Refuse options that mean nothing together."""
    if purge and not remove:
        raise UsageError("--purge goes with --remove")
    if check and not dry_run:
        raise UsageError("--check goes with --dry-run")
    if init not in known:
        raise UsageError(f"--init is one of {', '.join(known)}")


def _ask() -> str:
    if not sys.stdin.isatty():
        raise UsageError("sudo wants a password, and there is no terminal to ask for it")
    return getpass.getpass("sudo password on the devices: ")
