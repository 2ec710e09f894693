"""Tasks for one's own fabfile, and connections that follow litefleet's rules: its inventory, host keys, keys and jump hosts.

    # fabfile.py
    from fabric import task
    from litefleet.fabric import *          # plan, rollout, status, verify, pause, resume, abort, rollback, run

    @task
    def reboot(c, limit):
        for name, connection in connections(open_project(limit=limit)):
            print(name, connection.sudo("systemctl reboot", warn=True).exited)

`fab rollout --limit tag:hall` does what `litefleet rollout` does.  Which devices take part is chosen with --limit: with fab's
own -H a task would run once for each of those hosts.  Exit codes are the command line's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from invoke.exceptions import Exit
from invoke.tasks import task
from litefleet_controller.common.errors import LitefleetError, UsageError

from . import api, decisions
from .api import open_project

if TYPE_CHECKING:
    from litefleet_controller.devices.outcome import RunReport
    from litefleet_controller.project.project import Project

__all__ = [
    "abort",
    "connect",
    "connections",
    "open_project",
    "pause",
    "plan",
    "resume",
    "rollback",
    "rollout",
    "run",
    "status",
    "verify",
]

_Function = TypeVar("_Function", bound=Callable[..., None])
_CONFIG = "litefleet.yaml"


@contextmanager
def connect(project: Project, name: str) -> Iterator[Any]:
    """Open a `fabric.Connection` to one device of the project, as `litefleet provision` does, and close it at the end.

    Raises: UsageError for an unknown device; LitefleetError, with the finding's sentence, when it cannot be reached.

        with connect(open_project(), "cam-7") as connection:
            connection.run("uptime")
    """
    from litefleet_controller.devices.transport.base import TransportError
    from litefleet_controller.provision.login import Admin, Login

    device = project.inventory.by_name.get(name)
    if device is None:
        raise UsageError(f"{name[:60]} is not in the inventory")
    try:
        with Login(project.host_keys(), project.hops, Admin()).open(device) as connection:
            yield connection
    except TransportError as error:
        raise LitefleetError(f"{name}: {error.found.code} {error.found.observed}") from error


def connections(project: Project) -> Iterator[tuple[str, Any]]:
    """Yield (name, `fabric.Connection`) for each selected device, one after another; each is closed before the next opens.

    Raises: LitefleetError at the first device that cannot be reached; to go on there, use `connect`.
    """
    for device in project.devices:
        with connect(project, device.name) as connection:
            yield device.name, connection


def _task(function: _Function) -> _Function:
    """Make a task of a function: a LitefleetError is printed as one sentence and sets the exit code."""

    @functools.wraps(function)
    def told(*words: Any, **named: Any) -> None:
        try:
            function(*words, **named)
        except LitefleetError as error:
            raise Exit(f"litefleet: {error}", error.exit_code) from error

    made: _Function = task(auto_shortflags=False)(told)
    return made


@_task
def plan(c: Any, config: str = _CONFIG, limit: str = "", model: str = "") -> None:
    """Show what a rollout would do to each device; nothing changes on the devices."""
    from litefleet_controller.reports.plan_text import plan_text

    print(plan_text(api.plan(_project(config, limit, model)), _columns()), end="")


@_task
def rollout(c: Any, config: str = _CONFIG, limit: str = "", model: str = "", supersede: bool = False) -> None:
    """Deliver each device's file wave by wave, verify it there, activate and confirm it."""
    _end(api.rollout(_project(config, limit, model), supersede=supersede))


@_task
def verify(c: Any, config: str = _CONFIG, limit: str = "", model: str = "") -> None:
    """Verify each device's model on that device again, without activating anything."""
    _end(api.verify(_project(config, limit, model)))


@_task
def status(c: Any, config: str = _CONFIG, rollout_id: str = "") -> None:
    """Show the state of a rollout, the latest one by default, and where each device stands; no device is contacted."""
    found = api.status(config, rollout_id)
    print(f"{found.rollout.id} {found.rollout.state}" + (f": {found.rollout.reason}" if found.rollout.reason else ""))
    for row in found.rows:
        print(f"  {row.device} {row.model}: {row.state}" + (f", {row.sentence}" if row.sentence else ""))


@_task
def pause(c: Any, config: str = _CONFIG, rollout_id: str = "") -> None:
    """Pause a rollout: it starts no further device and finishes those under way."""
    print(decisions.pause(config, rollout_id))


@_task
def resume(c: Any, config: str = _CONFIG, rollout_id: str = "") -> None:
    """Continue a rollout that was paused, or whose controller ended without finishing it."""
    _end(decisions.resume(_project(config), rollout_id))


@_task
def abort(c: Any, rollout_id: str, config: str = _CONFIG) -> None:
    """End a rollout, named by its ID: it finishes the devices under way and skips the others."""
    print(decisions.abort(config, rollout_id))


@_task
def rollback(
    c: Any, config: str = _CONFIG, limit: str = "", to: str = "previous", rollout_id: str = "", yes: bool = False
) -> None:
    """Revert what a rollout switched on. Without --yes it shows what would change, and changes nothing."""
    project = _project(config, limit)
    if not yes:
        print(decisions.plan_rollback(project, to=to, rollout_id=rollout_id).text())
        raise Exit("litefleet: nothing was changed: add --yes to do it", 4)
    _end(decisions.rollback(project, to=to, rollout_id=rollout_id))


@_task
def run(c: Any, command: str, limit: str, config: str = _CONFIG) -> None:
    """Run a shell command on each selected device; --limit is required, "*" selects all."""
    failed = []
    project = _project(config, limit)
    for device in project.devices:
        try:
            with connect(project, device.name) as connection:
                done = connection.run(command, hide=True, warn=True, in_stream=False)
        except LitefleetError as error:
            print(error, file=sys.stderr)
            failed.append(device.name)
            continue
        for line in (done.stdout + done.stderr).splitlines():
            print(f"{device.name}: {_printable(line)}")
        if done.exited:
            print(f"{device.name}: exit code {done.exited}", file=sys.stderr)
            failed.append(device.name)
    if failed:
        raise Exit(f"litefleet: failed on {len(failed)} of {len(project.devices)}: {', '.join(failed[:20])}", 1)


def _project(config: str, limit: str = "", model: str = "") -> Project:
    """Open the project; `model` names models, separated by commas."""
    return open_project(config, limit=limit, models=[name for name in model.split(",") if name])


def _end(report: RunReport) -> None:
    """Print a report, and end with its exit code unless that is 0."""
    from litefleet_controller.reports.terminal import to_table

    print(to_table(report, width=_columns(), color=False), end="")
    if report.exit_code:
        raise Exit(code=report.exit_code)


def _columns() -> int:
    from litefleet_controller.cli.common import terminal_width

    return terminal_width()


def _printable(line: str) -> str:
    from litefleet_controller.common.text import sanitize

    return sanitize(line, 4000)
