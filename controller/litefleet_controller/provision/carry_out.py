"""Carries out a provision on one device, step by step, and reports each step; stops at the first failure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .steps import NOBODY, Step

_KEPT = 400  # characters of a failed command's output


class State(StrEnum):
    """The result of a step."""

    OK = "ok"  # it was so before
    CHANGED = "changed"
    FAILED = "failed"
    DUE = "would change"  # --dry-run --check


@dataclass(frozen=True)
class CommandResult:
    """How a command ended on the device."""

    code: int
    out: str = ""
    err: str = ""


class Remote(Protocol):
    """One device on which commands are run with root's rights."""

    def run(self, command: str, data: bytes = b"", time_limit_s: float = 60.0) -> CommandResult:
        """Run a POSIX sh command as root, `data` on its stdin; TransportError when the connection breaks."""


@dataclass(frozen=True)
class StepOutcome:
    """One step's outcome; `message` is why it failed, in one sentence."""

    step: Step
    state: State
    message: str = ""


# su is not on every device; start-stop-daemon is where it lacks (OpenWrt).
_AS_USER = (
    'if command -v su >/dev/null; then exec su -s /bin/sh "$1" -c "$2"; fi; '
    'exec start-stop-daemon -S -q -c "$1:$(id -g "$1")" -x /bin/sh -- -c "$2"'
)


def as_user(command: str, user: str) -> str:
    """Return the command with which root runs `command` as `user`; "" is root itself."""
    return command if not user else f"sh -c {shlex.quote(_AS_USER)} sh {user} {shlex.quote(command)}"


def shown(step: Step, command: str) -> str:
    """Return a step's command as it is shown to an operator: whose it is, and how much is sent along."""
    prompt = f"{step.user or 'root'}$ "
    sent = f"   < {len(step.data)} bytes" if step.data and command == step.do else ""
    return prompt + command + sent


def carry_out(
    remote: Remote, steps: Iterable[Step], report: Callable[[StepOutcome], None], check_only: bool = False
) -> tuple[StepOutcome, ...]:
    """Carry out the steps that are not done yet, report each outcome, and return them all; with `only_look` nothing is done."""
    outcomes: list[StepOutcome] = []
    for step in steps:
        done = _one(remote, step, check_only)
        outcomes.append(done)
        report(done)
        if done.state is State.FAILED:
            break
    return tuple(outcomes)


def _one(remote: Remote, step: Step, check_only: bool) -> StepOutcome:
    checked = CommandResult(1)
    if step.check:
        checked = remote.run(as_user(step.check, step.user), time_limit_s=step.time_limit_s)
        if checked.code == 0:
            return StepOutcome(step, State.OK)
    if not step.do and not (check_only and step.user not in ("", NOBODY)):  # a user that is yet to be made
        return StepOutcome(step, State.FAILED, _why(step, checked))
    if check_only:
        return StepOutcome(step, State.DUE)
    ran = remote.run(as_user(step.do, step.user), step.data, step.time_limit_s)
    return StepOutcome(step, State.CHANGED) if ran.code == 0 else StepOutcome(step, State.FAILED, _why(step, ran))


def _why(step: Step, ran: CommandResult) -> str:
    words = " ".join((ran.err or ran.out).split())
    words = re.sub(r"[^ -~\u00a0-\uffff]", "?", words)[-_KEPT:].rstrip(". ")
    message = f"the device reports: {words}" if words else f"the command ended with {ran.code}"
    return f"{message}. {step.hint}" if step.hint else f"{message}."
