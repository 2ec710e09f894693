"""One worker's process: started with a socket and a pipe, limited, watched, ended and reaped.  Never waits."""

import os
import signal
import socket
import subprocess
import time
from typing import Dict, List, Mapping

from ..child import STDERR_TAIL, ChildResult, _has_ended, _limit
from .loop import READ, Loop
from .plan import WorkerPlan

__all__ = ["Process", "environment"]

_LOADER = (
    "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.service import worker; "
    "sys.exit(worker.main(int(sys.argv[2]), int(sys.argv[3])))"
)
_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def environment(plan: WorkerPlan, environ: Mapping[str, str]) -> Dict[str, str]:
    """Return a worker's environment: threads where only OpenMP's variables count, and nothing of systemd's for the daemon."""
    env = {name: value for name, value in environ.items() if name not in _SYSTEMD}
    env["OPENBLAS_NUM_THREADS"] = "1"  # numpy only moves bytes here
    if plan.threads:
        env.update(OMP_NUM_THREADS=str(plan.threads), MKL_NUM_THREADS=str(plan.threads))
    return env


class Process:
    """A child in a process group of its own.  Raises OSError when it cannot be started."""

    def __init__(self, loop: Loop, plan: WorkerPlan) -> None:
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
        _limit(self.pid, plan.memory_limit_bytes or None)
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
        return self._popen.returncode is not None or _has_ended(self.pid)

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
        return ChildResult(code, _signal_name(code), b"", self.tail, time.monotonic() - self.begun)

    def rss_bytes(self) -> int:
        """Return how much memory is resident, 0 when that can't be told."""
        try:
            with open("/proc/%d/statm" % self.pid, "rb") as stream:
                return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return 0


def _argv(plan: WorkerPlan) -> List[str]:
    if plan.argv:
        return list(plan.argv)
    # The package's own folder, or the .pyz it was started from: both serve as an entry of sys.path.
    here = os.path.abspath(__file__)
    root = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    return [plan.python, "-I", "-c", _LOADER, root]


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return "signal %d" % -code
