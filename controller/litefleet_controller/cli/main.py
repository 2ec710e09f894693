"""Runs the command line: the only place where errors become exit codes and, with --json, JSON.

With --json, stdout has exactly one JSON document, whatever happens.  An error before the command's own document is
`{"schema": 1, "exit_code": N, "error": {"message": …}}`, for several problems with `problems`, for findings with `findings`.
The sentence is on stderr in any case.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import typer

from ..catalogue.language import asked_in
from ..common.errors import ConfigError, FindingError, LitefleetError
from ..common.typed_commands import Invocation, started_program
from ..devices.outcome import Interrupted
from .common import Stdout, app, in_words, say, set_lang, show

# Newer typer releases contain a click of their own, so the class of the installed click would not catch their errors.
_WRONG_USE: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_COLLECTED_AFTER = 50_000  # objects made and not yet freed; Python's own figure is 700
_COMPLETION = "_LITEFLEET_COMPLETE"  # set by the shell's completion, which asks for commands and options
_SIGINT = 130  # typer's exit code for a Ctrl-C that reaches it


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="litefleet: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)  # its failures are reported as findings
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    args = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no such character must not end the run
    if argv is None:  # a program of its own, not a part of one
        collect_rarely()
        Invocation.program = started_program()
    lang = asked_in(args)
    set_lang(lang)
    boundary = _Boundary(args)
    program = _with_command(args)
    sys.exit(boundary.exit_code(lambda: program(args=argv, prog_name="litefleet", standalone_mode=False, obj=lang)))


def _with_command(args: Sequence[str]) -> typer.Typer:
    """Return the program with the one command that its first word names, else with all: to make all takes a tenth of `status`."""
    named = [one for one in app.registered_commands if args and one.name == args[0]]
    if not named or _COMPLETION in os.environ:
        return app
    program = copy.copy(app)
    program.registered_commands = named
    return program


def collect_rarely() -> None:
    """Let Python look for cyclic garbage less often: a process that this program has to itself.

    Modules, and the rows of large fleets, are made by the hundred thousand and stay: looking through them again and again took
    a fifth of the CPU of `status` and a third of that of `devices` at 10,000 devices.
    """
    gc.freeze()  # what was imported so far stays
    gc.set_threshold(_COLLECTED_AFTER, 10, 10)
    gc.enable()  # the program's first lines have switched it off


def _in_words(error: FindingError) -> str:
    """Return the sentences of findings, each with its remedy in the language of this process's messages."""
    from ..catalogue.articles import advice
    from ..catalogue.translate import translated_sentence

    return "\n".join(
        f"{found.code} {translated_sentence(found.observed)} {advice(found.code)[1]}" for found in error.findings
    )


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """End as after Ctrl-C: leases are given back, and no process is left running."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


class _Boundary:
    """Turns the errors of one command into its exit code, a sentence and, with --json, a document."""

    def __init__(self, args: Sequence[str]) -> None:
        own = args[: args.index("--")] if "--" in args else args
        self._as_json = "--json" in own
        Stdout.used = False

    def exit_code(self, call: Callable[[], object]) -> int:
        """Run the command line, and return the exit code; only bugs propagate."""
        try:
            return self._run(call)
        except BrokenPipeError:
            return 1
        except Exception as error:
            self._document(1, {"message": f"internal error: {type(error).__name__}: {error}"})
            raise

    def _run(self, call: Callable[[], object]) -> int:
        try:
            result = call()
            code = result if isinstance(result, int) else 0
            return code if code != _SIGINT else self._interrupted()
        except LitefleetError as error:
            return self._failed(error.exit_code, str(error), error)
        except typer.Exit as done:
            return done.exit_code if done.exit_code != _SIGINT else self._interrupted()
        except _WRONG_USE as error:
            return self._wrong_use(error)
        except (KeyboardInterrupt, Interrupted, typer.Abort):
            return self._interrupted()
        except BrokenPipeError:
            raise
        except OSError as error:
            path_prefix = f"{error.filename}: " if error.filename else ""
            return self._failed(1, f"{path_prefix}{error.strerror or error}. Check free space and permissions.")

    def _failed(self, code: int, message: str, error: LitefleetError | None = None, shown: str = "") -> int:
        say(f"litefleet: {_in_words(error) if isinstance(error, FindingError) else shown or in_words(message)}")
        content: dict[str, object] = {"message": message}
        if isinstance(error, ConfigError):
            content["problems"] = list(error.problems)
        if isinstance(error, FindingError):
            content["findings"] = [found.to_dict() for found in error.findings]
        self._document(code, content)
        return code

    def _interrupted(self) -> int:
        return self._failed(4, "interrupted. Run the same command again to continue.")

    def _wrong_use(self, error: Exception) -> int:
        """Print one sentence about a wrong command line; without a command, typer has printed the help already."""
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            return 2
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "litefleet"
        message: str = error.format_message()  # type: ignore[attr-defined]
        advised = f"Run `{command} --help`."
        return self._failed(2, f"{message} {advised}", shown=f"{in_words(message)} {in_words(advised)}")

    def _document(self, code: int, error: dict[str, object]) -> None:
        """Print an error's document, unless the command has printed its own."""
        if self._as_json and not Stdout.used:
            with contextlib.suppress(BrokenPipeError):
                show(json.dumps({"schema": 1, "exit_code": code, "error": error}, indent=2))
