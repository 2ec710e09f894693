"""`litefleet provision`."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..common.errors import UsageError
from ..project import Files, Options
from .common import ContactOptions, check_files, command, in_words, show

if TYPE_CHECKING:
    from litefleet_inventory import Device

    from ..provision.login import Admin
    from ..provision.provision import Provision


@command
def provision(
    options: ContactOptions,
    login: Annotated[
        str, typer.Option("--as", help="User to log in as (root, or a user with sudo); default: the inventory's.")
    ] = "",
    identity: Annotated[str, typer.Option("--identity", help="Private key file of that user.")] = "",
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Public key that may log in as litefleet; default: that of the inventory's `key:`."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="service.json for the devices; default: keep theirs.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Stop and remove the service; keep the models.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="With --remove: also remove the user and all models.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every command; change nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="With --dry-run: connect, and show what would change.")
    ] = False,
    init: Annotated[
        str, typer.Option("--init", help="With --dry-run alone: systemd, openrc, procd, sysv or busybox.")
    ] = "systemd",
) -> None:
    """Install or update the resident agent as a service of each device. A second run changes nothing."""
    from ..build.pythons.make import PythonBundles
    from ..build.toolchain import default_cache
    from ..project.project import open_project
    from ..provision.login import Admin, Login
    from ..provision.provision import Choice, Provision
    from ..provision.services import Init

    _check_combination(purge, remove, check, dry_run, init, [known.value for known in Init])
    project = open_project(options)
    pythons = PythonBundles(project.config.python, default_cache(), lambda text: show(in_words(text)))
    task = Provision(Choice(key, settings, remove, purge, dry_run, check), show, cache(_ask_password), pythons)
    if dry_run and not check:
        for device in project.devices:
            task.show(device, Init(init))
        return
    _check_files(options, project.devices, task, Admin(login, identity))
    session = Login(project.host_keys(), project.hops, Admin(login, identity))
    failed = [device.name for device in project.devices if not task.device(device, session)]
    if failed:
        show(in_words(f"failed: {', '.join(failed)}"))
    raise typer.Exit(1 if failed else 0)


def _check_combination(purge: bool, remove: bool, check: bool, dry_run: bool, init: str, known: list[str]) -> None:
    """Reject options that have no meaning together."""
    if purge and not remove:
        raise UsageError("--purge requires --remove")
    if check and not dry_run:
        raise UsageError("--check requires --dry-run")
    if init not in known:
        raise UsageError(f"--init {init[:40]}: unknown init system. Available: {', '.join(known)}.")


def _check_files(options: Options, devices: Sequence[Device], task: Provision, admin: Admin) -> None:
    """Check the keys before a device is contacted; ConfigError or UsageError (exit code 2)."""
    from ..common.files import expanded
    from ..project.check import unusable_key
    from ..provision.provision import public_key

    problem = unusable_key(expanded(admin.identity)) if admin.identity else ""
    if problem and "passphrase" not in problem:  # an SSH agent may hold that key
        raise UsageError(f"--identity: {admin.identity} {problem}.")
    own_login = not admin.identity and not admin.user
    check_files(options, Files.KEYS if own_login else Files.NONE, store=False)
    if not task.choice.remove:
        for device in devices:
            public_key(device, task.choice.key)


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise UsageError("sudo asks for a password, and standard input is not a terminal. Run this in a terminal.")
    return getpass.getpass("sudo password on the devices: ")
