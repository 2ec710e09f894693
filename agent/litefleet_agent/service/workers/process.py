"""One worker's process: started with a socket and a pipe, limited, killed and reaped.  Never blocks but in `reap`."""

import os
import signal
import socket
import subprocess
import time
from typing import Dict, List, Mapping

from ... import ARCHIVE_ROOT
from ...verification.child_process import (
    STDERR_TAIL,
    ChildResult,
    engine_environment,
    has_ended,
    set_limits,
    signal_name,
)
from ..event_loop import READ, EventLoop
from ..systemd import without_manager
from .plan import WorkerPlan

_LOADER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.service.workers import main; "
    "sys.exit(main.main(int(sys.argv[2]), int(sys.argv[3])))"
)
_OWN_CODE = os.path.realpath(ARCHIVE_ROOT)  # resolved at the start: the link may name a newer agent later
_PAGE = os.sysconf("SC_PAGE_SIZE")


def environment(plan: WorkerPlan, environ: Mapping[str, str]) -> Dict[str, str]:
    """Return a worker's environment: threads for runtimes that read OpenMP's variables, and no variables of systemd."""
    return engine_environment(without_manager(environ), plan.runtime, plan.threads)


class Process:
    """A child in a process group of its own; its last two arguments are its end of `socket` and our pid.

    Raises OSError when it cannot be started.
    """

    def __init__(self, loop: EventLoop, plan: WorkerPlan) -> None:
        self._loop = loop
        self.begun = loop.now()
        self._tail = bytearray()
        ours, theirs = socket.socketpair()
        try:
            self._output, write = os.pipe()
        except OSError:
            ours.close()
            theirs.close()
            raise
        try:
            self._popen = subprocess.Popen(
                _argv(plan) + [str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment(plan, os.environ),
            )
        except OSError:
            ours.close()
            os.close(self._output)
            raise
        finally:
            theirs.close()
            os.close(write)
        self.socket, self.pid = ours, self._popen.pid
        self._statm = _statm_of(self.pid)  # kept open: it is read after every run
        set_limits(self.pid, plan.memory_limit_bytes or None)
        os.set_blocking(self._output, False)
        loop.watch(self._output, READ, self._ready)

    @property
    def tail(self) -> str:
        """The last 4 KiB that it printed."""
        return bytes(self._tail).decode("utf-8", "replace")

    def _ready(self, ready: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Read once from its output; return False when there is no more now."""
        try:
            data = os.read(self._output, 65536)
        except OSError:
            return False
        if not data:
            self._loop.forget(self._output)
            return False
        self._tail += data
        del self._tail[:-STDERR_TAIL]
        return True

    @property
    def ended(self) -> bool:
        """Whether it has ended; until it is reaped, its pid is not reused."""
        return self._popen.returncode is not None or has_ended(self.pid)

    def kill(self) -> None:
        """Kill the whole group."""
        if self._popen.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def reap(self) -> ChildResult:
        """Kill what is left of its group, wait, and return how it ended."""
        self.kill()
        code = self._popen.wait()
        for _ in range(64):  # bounded: a process that inherited the pipe may continue to print
            if not self._read():
                break
        self._loop.forget(self._output)
        os.close(self._output)
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
        return ChildResult(code, signal_name(code), b"", self.tail, time.monotonic() - self.begun)

    def rss_bytes(self) -> int:
        """Return its resident memory in bytes, 0 when the kernel does not report it."""
        try:
            return int(os.pread(self._statm, 200, 0).split()[1]) * _PAGE if self._statm >= 0 else 0
        except (OSError, ValueError, IndexError):
            return 0


def _statm_of(pid: int) -> int:
    """Return a descriptor of /proc/PID/statm, -1 when it cannot be opened."""
    try:
        return os.open("/proc/%d/statm" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _argv(plan: WorkerPlan) -> List[str]:
    if plan.argv:
        return list(plan.argv)
    return [plan.python, "-I", "-c", _LOADER, own_code()]


def own_code() -> str:
    """Return the entry of sys.path with this process's own code: the package's folder, or the .pyz it was started from.

    Not the link that named it at the start: that may name a newer agent now.
    """
    return _OWN_CODE
