"""Runs a child process within limits and reports in findings how it ended.

Paddle-Lite aborts and segfaults, which must not affect the agent, so it only ever runs behind `run_child`.
What decodes its last lines is imported only where a child failed: its patterns take 20 ms to compile.
"""

import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

from ..errors import AgentError
from ..facts.cxx_library import library_in
from ..findings import Finding, Severity, finding
from ..formats.files import exceeded_limit

MAX_STDOUT = 1 << 20  # bytes kept; the rest is read and dropped, so that the child never blocks
STDERR_TAIL = 4096  # bytes
_POLL_S = 0.1
_TICK_S = 1.0
_DRAIN_S = 0.5  # how long pipes may stay open after the child's end (another process inherited them)
_DATA_SLACK = 256 << 20  # bytes of private mappings that are reserved and never touched: thread stacks, BLAS buffers
_PR_SET_PDEATHSIG = 1
_PIPE = subprocess.PIPE


@dataclass(frozen=True)
class ChildResult:
    """How a child ended.  `exit_code` is negative for a signal, as in subprocess; `signal_name` is "SIGSEGV" or ""."""

    exit_code: int
    signal_name: str
    stdout: bytes  # the first MiB
    stderr: str  # the last 4 KiB
    seconds: float
    timed_out: bool = False
    max_rss_bytes: int = 0  # the highest observed
    over_memory: bool = False  # killed for exceeding memory_limit_bytes


def engine_environment(environ: Mapping[str, str], runtime: str, threads: int) -> Dict[str, str]:
    """Return the environment of a process that runs a model; `runtime` is its folder, `threads` 0 leaves it to Paddle-Lite."""
    env = dict(environ, OPENBLAS_NUM_THREADS="1")  # numpy only moves bytes here
    if threads:
        env.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    if runtime and library_in(runtime):  # it loads MKL, or an accelerator's driver, by name
        places = [runtime, os.path.join(runtime, "libs")] + env.get("LD_LIBRARY_PATH", "").split(os.pathsep)
        env["LD_LIBRARY_PATH"] = os.pathsep.join(place for place in places if place)
    return env


def run_child(
    argv: Sequence[str],
    stdin_bytes: bytes,
    time_limit_s: float,
    memory_limit_bytes: Optional[int] = None,
    on_tick: Optional[Callable[[], None]] = None,
    env: Optional[Dict[str, str]] = None,
) -> ChildResult:
    """Run a child in a process group of its own and wait; past a limit the whole group is killed.

    `on_tick` is called about every second; an exception that it raises ends the child and is raised here.
    Raises AgentError when the program cannot be started.
    """
    try:
        process = subprocess.Popen(list(argv), stdin=_PIPE, stdout=_PIPE, stderr=_PIPE, start_new_session=True, env=env)
    except OSError as err:
        limit = exceeded_limit(err)
        words = "%s cannot be started: %s" % (argv[0], err.strerror)
        raise AgentError("%s (%s)" % (words, limit) if limit else words, "limit" if limit else "no-program") from err
    monitor = _ChildMonitor(process, stdin_bytes, time_limit_s, memory_limit_bytes, on_tick)
    try:
        set_limits(process.pid, memory_limit_bytes)
        monitor.run()
    finally:
        _kill_group(process)
        process.wait()
        monitor.close()
    code = process.returncode
    return ChildResult(
        code, signal_name(code), bytes(monitor.out), bytes(monitor.err).decode("utf-8", "replace"),
        time.monotonic() - monitor.begun, monitor.timed_out, monitor.max_rss, monitor.over_memory,
    )  # fmt: skip


class _ChildMonitor:
    """One running child: feeds and drains its pipes and enforces its limits."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        stdin_bytes: bytes,
        time_limit_s: float,
        memory_limit: Optional[int],
        on_tick: Optional[Callable[[], None]],
    ) -> None:
        self.process, self.memory_limit, self.on_tick = process, memory_limit, on_tick
        self.out, self.err = bytearray(), bytearray()
        self.begun = time.monotonic()
        self.end = self.begun + time_limit_s
        self.timed_out = self.over_memory = False
        self.max_rss = 0
        self._rest = memoryview(stdin_bytes)
        self._selector = selectors.DefaultSelector()
        for pipe, call in ((process.stdout, self._read_out), (process.stderr, self._read_err)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, call)
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        self._selector.register(process.stdin, selectors.EVENT_WRITE, self._write)

    def run(self) -> None:
        """Return when the child has ended or is past a limit."""
        next_tick = self.begun + _TICK_S
        ended_at = 0.0
        while True:
            now = time.monotonic()
            ended = has_ended(self.process.pid)
            ended_at = ended_at or (now if ended else 0.0)
            if ended and (self._pipes_closed() or now - ended_at > _DRAIN_S):
                return
            if not ended and self._over_limit(now):
                return
            if self.on_tick is not None and now >= next_tick:
                next_tick = now + _TICK_S
                self.on_tick()
            self._serve()

    def _over_limit(self, now: float) -> bool:
        self.max_rss = max(self.max_rss, peak_rss(self.process.pid))
        self.over_memory = self.memory_limit is not None and self.max_rss > self.memory_limit
        self.timed_out = not self.over_memory and now >= self.end
        return self.over_memory or self.timed_out

    def _pipes_closed(self) -> bool:
        left = [key.fileobj for key in self._selector.get_map().values()]
        return all(pipe is self.process.stdin for pipe in left)

    def _serve(self) -> None:
        if not self._selector.get_map():
            time.sleep(_POLL_S / 10)
        for key, _ in self._selector.select(_POLL_S) if self._selector.get_map() else ():
            key.data(key.fileobj)

    def _write(self, pipe: "IO[bytes]") -> None:
        try:
            self._rest = self._rest[os.write(pipe.fileno(), self._rest[:65536]) :]
        except BlockingIOError:
            return
        except OSError:  # the child closed its end
            self._rest = self._rest[:0]
        if not self._rest:
            self._selector.unregister(pipe)
            pipe.close()

    def _read(self, pipe: "IO[bytes]") -> bytes:
        data = os.read(pipe.fileno(), 65536)
        if not data:
            self._selector.unregister(pipe)
        return data

    def _read_out(self, pipe: "IO[bytes]") -> None:
        self.out += self._read(pipe)[: max(0, MAX_STDOUT - len(self.out))]

    def _read_err(self, pipe: "IO[bytes]") -> None:
        self.err += self._read(pipe)
        del self.err[:-STDERR_TAIL]

    def close(self) -> None:
        """Close the pipes."""
        self._selector.close()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # unsent bytes for a child that has ended
                    pass


def has_ended(pid: int) -> bool:
    """Return whether the child has ended, without reaping it, so that its process group's number is not reused."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def data_limit(memory_limit: int) -> int:
    """Return the limit of private memory (RLIMIT_DATA, bytes) for a process whose resident memory has this limit."""
    return memory_limit + _DATA_SLACK


def set_limits(pid: int, memory_limit: Optional[int]) -> None:
    """Forbid core dumps (devices have little storage), and private memory far above the limit (bytes, None: no limit)."""
    wanted = [(resource.RLIMIT_CORE, 0)]
    if memory_limit is not None:
        wanted.append((resource.RLIMIT_DATA, data_limit(memory_limit)))
    for limit, value in wanted:
        try:
            resource.prlimit(pid, limit, (value, value))
        except (OSError, ValueError):  # already gone, or a tighter limit is set
            pass


def peak_rss(pid: int) -> int:
    """Return the highest resident memory of a process so far in bytes (VmHWM of /proc), 0 when it cannot be read."""
    try:
        with open("/proc/%d/status" % pid, "rb") as stream:
            for line in stream:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent ends; call it in the child.  False where that is unavailable."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        done: bool = libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (ImportError, OSError, AttributeError):  # a minimal Python, or not Linux
        return False
    if os.getppid() != parent_pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
    return done


def end_process(code: int) -> NoReturn:
    """End this child with an exit code, without destructors: those of a half-broken runtime may crash, and nothing needs them."""
    for stream in (sys.stdout, sys.stderr):  # Python before 3.9 also holds back what is written to stderr
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            pass
    os._exit(code)


# --- findings for the end


_INFO = re.compile(r"^\[I\s+\d.*(?:\n|$)", re.MULTILINE)  # glog's: [I 11/28 11:33:42.435 ...cl_runtime.cc:69 Init] ...


def without_info(text: str) -> str:
    """Return a program's last lines without Paddle-Lite's INFO lines: a runtime for ARM prints about 17 at each load."""
    return _INFO.sub("", text)


def last_line(text: str) -> str:
    """Return the most informative of a program's last lines: the last fatal one, else the last that is not empty."""
    from ..findings.crashlog.decode import decisive_line

    return decisive_line(text)


def code_of_error(stage: str) -> str:
    """Return the code for an error at this step that nothing explains.

    LF315 while Paddle-Lite is imported, LF423 while it has the model or its inputs.
    """
    if stage.startswith("importing"):
        return "LF315"
    return "LF423" if stage.startswith(("loading the model", "setting the inputs", "running")) else "LF900"


def decode(
    result: ChildResult, label: str = "the model", stage: str = "", memory_limit_bytes: int = 0
) -> List[Finding]:
    """Return the findings for a child's end, none for exit code 0.

    `label` names the child and its step in the sentences; `stage` is that step, where it is known; `memory_limit_bytes` is
    named where an allocation failed (0: no limit), since the kernel refuses what exceeds it before the child is measured.
    """
    if result.over_memory:
        return [finding("LF411", "%s was killed at %d MiB, its memory limit" % (label, result.max_rss_bytes >> 20))]
    if result.timed_out:
        return [finding("LF408", "%s was still running after %.0f s" % (label, result.seconds))]
    if result.exit_code == 0:
        return []
    from ..findings.crashlog.decode import causes
    from ..findings.crashlog.text import LogText

    found = [cause for cause in causes(LogText(result.stderr)) if cause.severity is Severity.ERROR]
    if found and not (result.signal_name == "SIGKILL" and found[0].code != "LF411"):
        return [
            finding(c.code, _end(result, label, c.code, c.place.text, memory_limit_bytes), c.certainty) for c in found
        ]
    return [finding(_general(result, stage), _end(result, label, "", last_line(result.stderr)))]


def _end(result: ChildResult, label: str, code: str, message: str, memory_limit_bytes: int = 0) -> str:
    tail = ": %s" % message if message else " without a message"
    if code == "LF411":
        limit = " (its limit is %d MiB)" % (memory_limit_bytes >> 20) if memory_limit_bytes else ""
        return "%s ran out of memory%s%s" % (label, limit, tail)
    if result.signal_name:
        return "%s died with %s%s" % (label, result.signal_name, tail)
    return "%s ended with exit code %d%s" % (label, result.exit_code, tail)


def _general(result: ChildResult, stage: str) -> str:
    """Return the finding's code for an end that the output does not explain."""
    if result.signal_name == "SIGKILL":
        return "LF411"
    if not result.signal_name:
        return code_of_error(stage)
    from ..findings.crashlog.decode import is_check

    return "LF402" if result.signal_name == "SIGABRT" or is_check(result.stderr) else "LF401"


def signal_name(code: int) -> str:
    """Return the signal behind an exit code: -11 (subprocess), 139 (a shell between us and the child)."""
    if code == 0:
        return ""
    from ..findings.crashlog.decode import signal_of

    if code >= 0 or signal_of(code):  # only those of a crash are certainly no ordinary exit code
        return signal_of(code)
    try:
        return signal.Signals(-code).name
    except ValueError:
        return "signal %d" % -code
