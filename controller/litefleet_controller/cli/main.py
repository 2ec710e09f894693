"""Runs the command line: the only place where errors become exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer

from ..common.errors import LitefleetError
from ..devices.outcome import Interrupted
from .common import app

__all__ = ["main"]

# Newer typer releases bring a click of their own, so that the installed click's class would not catch their errors.
_WRONG_USE: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_SIGINT = 130  # what typer makes of a Ctrl-C that reaches it


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit; the only place where errors become exit codes."""
    logging.basicConfig(level=logging.WARNING, format="litefleet: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)  # its failures come back as findings
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    code = _guarded(lambda: app(args=argv, prog_name="litefleet", standalone_mode=False))
    sys.exit(code)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """End as after Ctrl-C: what is under way is given back, and nothing is left running."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _guarded(call: Callable[[], Any]) -> int:
    try:
        result = call()
        code = result if isinstance(result, int) else 0
        return code if code != _SIGINT else _interrupted()
    except LitefleetError as error:
        typer.echo(f"litefleet: {error}", err=True)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code if done.exit_code != _SIGINT else _interrupted()
    except _WRONG_USE as error:
        return _explain_wrong_use(error)
    except (KeyboardInterrupt, Interrupted, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        return 1
    except OSError as error:
        path_prefix = f"{error.filename}: " if error.filename else ""
        typer.echo(f"litefleet: {path_prefix}{error.strerror or error}; look for room and rights there", err=True)
        return 1


def _interrupted() -> int:
    typer.echo("litefleet: interrupted; run the same command again to go on", err=True)
    return 4


def _explain_wrong_use(error: Any) -> int:
    """Say in one sentence what is wrong with the command line; without any command, the help is already there."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        command = error.ctx.command_path if getattr(error, "ctx", None) else "litefleet"
        typer.echo(f"litefleet: {error.format_message()}  (`{command} --help` says what there is)", err=True)
    return 2
