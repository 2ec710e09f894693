"""Runs an external program (uv, opt): no shell, its own process group, a time limit, bounded output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from litefleet_agent.formats.checked import shortened

from .errors import LitefleetError

_KEEP = 64 * 1024  # bytes of output kept: the last ones usually have the error


@dataclass(frozen=True)
class SubprocessEnd:
    """The end of a subprocess: `code` is negative for a signal, `output` is the end of stdout and stderr together."""

    code: int
    output: str
    seconds: float
    timed_out: bool = False

    @property
    def signal_name(self) -> str:
        """The signal that ended it ("SIGSEGV"), "" for none; a shell's exit code 128 + n counts as signal n."""
        number = -self.code if self.code < 0 else self.code - 128 if 128 < self.code < 160 else 0
        try:
            return signal.Signals(number).name if number else ""
        except ValueError:
            return f"signal {number}"

    @property
    def ok(self) -> bool:
        """Whether it ended within its time limit with exit code 0."""
        return self.code == 0 and not self.timed_out

    @property
    def ending(self) -> str:
        """Its end for a message: 'exit code 1', 'killed by SIGSEGV', 'stopped at its time limit'."""
        if self.timed_out:
            return "stopped at its time limit"
        return f"killed by {self.signal_name}" if self.signal_name else f"exit code {self.code}"

    def last_lines(self, count: int = 6) -> str:
        """Return the last lines that are not blank, joined by ' | ', each of at most 400 characters."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " | ".join(shortened(line, 400) for line in lines[-count:])


async def _tail(pipe: BinaryIO, kept: bytearray) -> None:
    """Read a pipe to its end and keep the last bytes, so that endless output takes no memory."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        while chunk := await stream.read(65536):
            kept += chunk
            del kept[:-_KEEP]
    finally:
        transport.close()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def run_subprocess(
    argv: Sequence[str | Path],
    *,
    time_limit_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Path = Path(os.devnull),
) -> SubprocessEnd:
    """Run a program until it ends or `time_limit_s` has passed; then kill its process group, on cancellation too.

    `stdin` is a file that the program reads as its standard input.

    Raises: LitefleetError when the program cannot be started; OSError when `stdin` cannot be opened.
    """
    started = time.monotonic()
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        try:
            stdin_fd = os.open(stdin, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(write_end)
            raise
        try:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv),
                stdin=stdin_fd,
                stdout=write_end,
                stderr=write_end,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise LitefleetError(f"{argv[0]} cannot be started: {error.strerror}.") from error
        finally:
            os.close(write_end)
            os.close(stdin_fd)
        timed_out, output = await _read_until_end(process, pipe, time_limit_s)
    return SubprocessEnd(
        process.returncode or 0, output.decode(errors="replace"), time.monotonic() - started, timed_out
    )


async def _read_until_end(
    process: asyncio.subprocess.Process, pipe: BinaryIO, time_limit_s: float
) -> tuple[bool, bytes]:
    """Read until the program ends or its time is up; return whether it timed out, and its last output."""
    output = bytearray()
    reading = asyncio.ensure_future(_tail(pipe, output))
    timed_out = False
    try:
        async with asyncio.timeout(time_limit_s):
            await asyncio.shield(reading)
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        _kill_group(process)
        await process.wait()
        await asyncio.wait([reading], timeout=1)  # a process that left the group may still have the pipe open
        reading.cancel()
        await asyncio.wait([reading])
    return timed_out, bytes(output)
