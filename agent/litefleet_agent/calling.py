"""`litefleet-agent call | status | health | models | metrics`: asks the service that runs on this device."""

import json
import sys
from typing import Any, Dict, List, NamedTuple, Optional, TextIO

from .client import Client
from .errors import AgentError
from .formats.npz import read_npz, write_npz
from .releases.atomic import atomic_file

__all__ = ["COMMANDS", "USAGE", "main"]

COMMANDS = ("call", "status", "health", "models", "metrics")
USAGE = (
    "usage: litefleet-agent call [MODEL] --input FILE.npz [--output FILE.npz] [--deadline-ms N]\n"
    "     | status | health | models | metrics   [--socket PATH] [--timeout-s N]\n"
)


class _Arguments(NamedTuple):
    model: Optional[str]
    input: str
    output: str
    socket: str
    deadline_ms: Optional[float]
    timeout_s: float


def main(args: List[str], out: Optional[TextIO] = None) -> int:
    """Run one command; return 0 when it was answered (`health`: when all is well), 1 otherwise, 2 for wrong usage."""
    given = _parse(args[1:])
    if args[:1] not in [[command] for command in COMMANDS] or given is None or not _complete(args[0], given):
        sys.stderr.write(USAGE)
        return 2
    try:
        with Client(given.socket or None, given.timeout_s) as client:
            return _run(args[0], given, client, out or sys.stdout)
    except AgentError as error:
        sys.stderr.write("litefleet-agent: %s (%s)\n" % (error, error.code))
        return 1


def _run(command: str, given: _Arguments, client: Client, out: TextIO) -> int:
    if command == "call":
        return _call(given, client, out)
    if command == "metrics":
        out.write(client.metrics())
        return 0
    asks: Dict[str, Any] = {"status": client.status, "health": client.health, "models": client.models}
    answer = asks[command]()
    out.write(json.dumps(answer, indent=2, sort_keys=True) + "\n")
    return 1 if command == "health" and answer.get("health") != "ok" else 0


def _call(given: _Arguments, client: Client, out: TextIO) -> int:
    result = client.infer(given.model, read_npz(given.input), given.deadline_ms)
    if given.output:
        try:
            with atomic_file(given.output, 0o666) as file:
                write_npz(file, result.outputs)
        except OSError as error:
            raise AgentError("%s cannot be written: %s" % (given.output, error.strerror), "not-writable") from error
    answer = {
        "model": result.model,
        "release": result.release,
        "outputs": [{"name": n, "dtype": a.dtype, "dims": list(a.shape)} for n, a in result.outputs.items()],
        "ms": {"wait": result.wait_ms, "run": result.run_ms},
        "batch": result.batch,
    }
    out.write(json.dumps(answer, indent=2, sort_keys=True) + "\n")
    return 0


def _complete(command: str, given: _Arguments) -> bool:
    """Whether a command has what it needs, and nothing that it does not know."""
    if command == "call":
        return bool(given.input)
    return not (given.model or given.input or given.output or given.deadline_ms)


def _parse(args: List[str]) -> Optional[_Arguments]:
    """Return the arguments, None when they are not of the usage's form."""
    values = {"--input": "", "--output": "", "--socket": "", "--deadline-ms": "", "--timeout-s": "10"}
    models: List[str] = []
    left = list(args)
    while left:
        word = left.pop(0)
        if word in values and left:
            values[word] = left.pop(0)
        elif word.startswith("-"):
            return None
        else:
            models.append(word)
    deadline, timeout = _positive(values["--deadline-ms"] or "1"), _positive(values["--timeout-s"])
    if len(models) > 1 or deadline is None or timeout is None:
        return None
    return _Arguments(
        models[0] if models else None,
        values["--input"],
        values["--output"],
        values["--socket"],
        deadline if values["--deadline-ms"] else None,
        timeout,
    )


def _positive(word: str) -> Optional[float]:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if 0 < number < 1e9 else None
