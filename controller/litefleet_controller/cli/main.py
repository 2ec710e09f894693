"""Runs the command line: the only place where errors become exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType

import typer

from ..common.errors import LitefleetError
from ..devices.outcome import Interrupted
from .common import app, say

__all__ = ["main"]

# Newer typer releases contain a click of their own, so the class of the installed click would not catch their errors.
_WRONG_USE: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_SIGINT = 130  # typer's exit code for a Ctrl-C that reaches it


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="litefleet: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)  # its failures are reported as findings
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    sys.exit(_exit_code(lambda: app(args=argv, prog_name="litefleet", standalone_mode=False)))


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """End as after Ctrl-C: leases are given back, and no process is left running."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _exit_code(call: Callable[[], object]) -> int:
    """Run the command line; print the sentence of an error, and return the exit code."""
    try:
        result = call()
        code = result if isinstance(result, int) else 0
        return code if code != _SIGINT else _interrupted()
    except LitefleetError as error:
        say(f"litefleet: {error}")
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
        say(f"litefleet: {path_prefix}{error.strerror or error}. Check free space and permissions.")
        return 1


def _interrupted() -> int:
    say("litefleet: interrupted. Run the same command again to continue.")
    return 4


def _explain_wrong_use(error: Exception) -> int:
    """Print one sentence about a wrong command line; without a command, typer has printed the help already."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
    else:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "litefleet"
        message: str = error.format_message()  # type: ignore[attr-defined]
        say(f"litefleet: {message} Run `{command} --help`.")
    return 2
