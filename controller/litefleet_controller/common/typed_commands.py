"""Commands in messages as the operator has to type them: with the program that was started and the project's `-c`.

Messages name commands as "`litefleet status r-1`".  In a project's folder, with litefleet on PATH, that is what one types.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

_COMMAND = re.compile(r"litefleet (?P<name>[a-z][a-z-]*)(?P<rest>[^`]*)")
_QUOTED = re.compile(f"`{_COMMAND.pattern}`")
_CONFIG = re.compile(r"(?:^|\s)(?:-c|--config)(?:\s|=|$)")
DEFAULT_CONFIG = Path("litefleet.yaml")


class Invocation:
    """How this process was started: `program` as a shell takes it, and `config` where it is not the default."""

    program = "litefleet"
    config = ""
    takes_config: frozenset[str] = frozenset()  # the commands that have -c


def started_program() -> str:
    """Return the command that starts this program again from the current folder, quoted for a shell.

    `python -m litefleet` is "litefleet" where PATH finds the one of the same environment; so is a program of another name.
    """
    started, on_path = Path(sys.argv[0]), shutil.which("litefleet")
    if started.name == "__main__.py" and started.parent.name == "litefleet":
        same = on_path and Path(on_path).parent == Path(sys.executable).parent
        return "litefleet" if same else f"{shlex.quote(sys.executable)} -m litefleet"
    if started.name != "litefleet" or not os.access(started, os.X_OK):
        return "litefleet"
    return "litefleet" if on_path and Path(on_path).samefile(started) else shlex.quote(str(started))


def use_config(config: Path) -> None:
    """Name the project of this process; commands in messages then have its `-c`."""
    Invocation.config = "" if config == DEFAULT_CONFIG else shlex.quote(str(config))


def as_typed(command: str) -> str:
    """Return the command "litefleet NAME ..." as it has to be typed here; any other text as it is."""
    match = _COMMAND.fullmatch(command)
    return _typed(match) if match else command


def commands_as_typed(text: str) -> str:
    """Return a message whose commands in backquotes are as they have to be typed here."""
    if Invocation.program == "litefleet" and not Invocation.config:
        return text
    return _QUOTED.sub(lambda match: f"`{_typed(match)}`", text)


def _typed(match: re.Match[str]) -> str:
    name, rest = match["name"], match["rest"]
    wanted = Invocation.config and name in Invocation.takes_config and not _CONFIG.search(rest)
    return f"{Invocation.program} {name}{rest}{f' -c {Invocation.config}' if wanted else ''}"
