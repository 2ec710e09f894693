"""The command `schedule`: installs, shows and removes the timers of the operator's machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .common import DEFAULT_CONFIG, ConfigOption, command, in_words, say, show


@command
def schedule(
    config: ConfigOption = DEFAULT_CONFIG,
    every: Annotated[str, typer.Option("--every", help="Minutes between two passes of `reconcile`.")] = "15",
    verify: Annotated[
        str, typer.Option("--verify", help="Time of day for `verify` of all devices, such as 02:30; empty: never.")
    ] = "02:30",
    metrics: Annotated[str, typer.Option("--metrics", help="Also serve the metrics at HOST:PORT.")] = "",
    repair: Annotated[bool, typer.Option("--repair", help="Reconcile also restores what drifted.")] = False,
    show_it: Annotated[bool, typer.Option("--show", help="Show what is installed and when it runs next.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Stop and delete this project's timers.")] = False,
    print_it: Annotated[
        bool, typer.Option("--print", help="Print the units and the crontab lines; install nothing.")
    ] = False,
) -> None:
    """Install timers on this machine for reconcile and verify of this project; systemd's, or print lines for a crontab."""
    from ..project import schedule as timers

    made = timers.make_schedule(config, every, verify, metrics, repair)
    system = os.geteuid() == 0
    if print_it:
        for name, text in made.units(system).items():
            show(f"# {timers.unit_folder(system) / name}\n{text}")
        show(in_words("# or in a crontab (`crontab -e`):") + "\n" + "\n".join(made.crontab()))
        return
    if not timers.has_systemd(system):
        say("systemd does not run here. Put these lines into your crontab with `crontab -e`, or remove them there:")
        show("\n".join(made.crontab()))
        return
    if show_it:
        paths = timers.installed(made, system)
        show(
            "\n".join(map(str, paths))
            or in_words(f"No timer of fleet {made.fleet} is installed: `litefleet schedule` installs them.")
        )
        show(timers.next_runs(made, system))
    elif remove:
        _list("removed", timers.remove(made, system), f"No timer of fleet {made.fleet} was installed.")
    else:
        _list("installed", timers.install(made, system), "")
        say(
            f"They run as {made.user}; the audit log names {made.person}. `litefleet schedule --show` shows the next runs."
        )
        if not system:
            say("They stop when you log out, unless `loginctl enable-linger` was run once.")


def _list(word: str, paths: list[Path], none: str) -> None:
    show("\n".join(f"{in_words(word)} {path}" for path in paths) or in_words(none))
