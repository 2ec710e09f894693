"""One worker's process: started with a socket and a pipe, limited, watched, ended and reaped.  Never waits."""

import os
import signal
import socket
import subprocess
import time
from typing import Dict, List, Mapping

from ... import ARCHIVE_ROOT
from ...verification.child_process import STDERR_TAIL, ChildResult, has_ended, set_limits, signal_name
from ..event_loop import READ, EventLoop
from ..systemd import without_manager
from .plan import WorkerPlan

__all__ = ["Process", "environment", "own_code"]

_LOADER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.service.workers import main; "
    "sys.exit(main.main(int(sys.argv[2]), int(sys.argv[3])))"
)
_OWN_CODE = os.path.realpath(ARCHIVE_ROOT)  # as it was at the start
_PAGE = os.sysconf("SC_PAGE_SIZE")


def environment(plan: WorkerPlan, environ: Mapping[str, str]) -> Dict[str, str]:
    """Return a worker's environment: threads where only OpenMP's variables count, and nothing of systemd's for the daemon."""
    env = without_manager(environ)
    env["OPENBLAS_NUM_THREADS"] = "1"  # numpy only moves bytes here
    if plan.threads:
        env.update(OMP_NUM_THREADS=str(plan.threads), MKL_NUM_THREADS=str(plan.threads))
    return env


class Process:
    """A child in a process group of its own.  Raises OSError when it cannot be started."""

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
        self._statm = _statm_of(self.pid)  # kept open: it is looked at after every run
        set_limits(self.pid, plan.memory_limit_bytes or None)
        os.set_blocking(self._output, False)
        loop.watch(self._output, READ, self._ready)

    @property
    def tail(self) -> str:
        """The last of what it printed."""
        return bytes(self._tail).decode("utf-8", "replace")

    def _ready(self, ready: int) -> None:
        self._read()

    def _read(self) -> bool:
        """Take what it printed; False when there is no more now."""
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
        """Whether it is over; it is not reaped yet, so its number is still its own."""
        return self._popen.returncode is not None or has_ended(self.pid)

    def kill(self) -> None:
        """End the whole group."""
        if self._popen.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def reap(self) -> ChildResult:
        """Return how it ended, once it has; whatever it left running in its group is ended too."""
        self.kill()
        code = self._popen.wait()
        for _ in range(64):  # somebody may have inherited the pipe and still print
            if not self._read():
                break
        self._loop.forget(self._output)
        os.close(self._output)
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
        return ChildResult(code, signal_name(code), b"", self.tail, time.monotonic() - self.begun)

    def rss_bytes(self) -> int:
        """Return how much memory is resident, 0 when that can't be told."""
        try:
            return int(os.pread(self._statm, 200, 0).split()[1]) * _PAGE if self._statm >= 0 else 0
        except (OSError, ValueError, IndexError):
            return 0


def _statm_of(pid: int) -> int:
    """Return a descriptor of a process's memory figures, -1 where there is none to be had."""
    try:
        return os.open("/proc/%d/statm" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _argv(plan: WorkerPlan) -> List[str]:
    if plan.argv:
        return list(plan.argv)
    return [plan.python, "-I", "-c", _LOADER, own_code()]


def own_code() -> str:
    """Return the package's own folder, or the very .pyz that this process was started from: either is an entry of sys.path.

    Not the link by which it was started: a newer agent may have taken that name.
    """
    return _OWN_CODE
