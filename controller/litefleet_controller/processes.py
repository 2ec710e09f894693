"""Run one program to its end: bounded in time and output, in a process group of its own, killed with its caller."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "locked", "run_program", "write_atomically"]

_KEPT = 64 * 1024  # bytes of output that are kept: the last ones, since they say why


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code (negative: minus the signal), None when it was stopped at its time limit."""

    exit_code: int | None
    output: str  # standard output and error as they came, the last 64 KiB

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.exit_code == 0

    @property
    def how(self) -> str:
        """Its end in words: 'exit code 1', 'killed by SIGSEGV', 'stopped at its time limit'."""
        if self.exit_code is None:
            return "stopped at its time limit"
        # 128 + n: a shell or launcher between us and the program that died.
        number = -self.exit_code if self.exit_code < 0 else self.exit_code - 128
        if self.exit_code < 0 or 0 < number < signal.NSIG:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(number).name}"
        return f"exit code {self.exit_code}"

    def last_lines(self, count: int = 6) -> str:
        """The last lines that are not blank, joined by ' | '."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " | ".join(lines[-count:])[:1500]


async def run_program(argv: Sequence[str], time_limit_s: float, env: Mapping[str, str] | None = None) -> Ended:
    """Run `argv` without a shell; OSError when it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    kept = bytearray()
    try:
        async with asyncio.timeout(time_limit_s):
            await _drain(process, kept)
            code: int | None = await process.wait()
    except TimeoutError:
        code = None
    finally:
        if process.returncode is None:  # its time is up, or our caller was cancelled: end it with its children
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Ended(code, kept.decode("utf-8", "replace"))


async def _drain(process: asyncio.subprocess.Process, kept: bytearray) -> None:
    """Read the program's output to its end and keep the last part in `kept`."""
    assert process.stdout is not None
    while piece := await process.stdout.read(65536):
        kept += piece
        del kept[:-_KEPT]


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock file `path` against other tasks and other processes, without blocking the event loop."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield  # closing the file gives the lock back


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is seen whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
