"""The measured process: loads one release's model once, and runs it on request.  Runs only in a child.

Paddle-Lite prints to stdout and stderr; the frames have a socket of their own.

    bench -> process   {"id":0,"op":"start",...}; then {"id":n,"op":"run","runs","until","at"?,"skip"?},
                       {"id":n,"op":"outputs","of":"first" or "last"}
    process -> bench   {"event":"stage","words"}; {"re":n,"result":{...}} + body, or {"re":n,"error":{"kind","text"}}
"""

import gc
import os
import signal
import time
from array import array
from typing import Dict, List, NamedTuple, Tuple

from ..formats.checked import shortened
from ..formats.engine_settings import EngineSettings
from ..formats.nb import Tensor
from ..formats.npz import Array, read_npz
from ..protocol import BlockingStream
from ..verification.child_process import die_with_parent, end_process
from ..verification.confinement import confine_model
from ..verification.engine import PaddleLiteError
from ..verification.engines import choose_engine

LOADER = (
    "import sys, time; begun = time.monotonic(); sys.path.insert(0, sys.argv[1]); "
    "from litefleet_agent.bench import worker_main; "
    "sys.exit(worker_main.main(int(sys.argv[2]), int(sys.argv[3]), begun))"
)
MOST_RUNS = 1 << 16  # of one block
_NICE = 10
_PAGE = os.sysconf("SC_PAGE_SIZE")

Answer = Tuple[Dict[str, object], List[bytes]]


def main(fd: int, parent_pid: int, begun: float) -> int:
    """Serve one bench over the socket `fd` until it closes; `begun` is the monotonic time at which this interpreter ran.

    Does not return.  The kernel kills this process when the process `parent_pid` ends.
    """
    os.set_inheritable(fd, False)
    for number in (signal.SIGTERM, signal.SIGINT):  # a terminal signals the whole group; the bench decides
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent_pid)
    try:
        _serve(BlockingStream(fd, fd), begun)
    except OSError:  # the bench is gone
        pass
    end_process(0)


def _serve(stream: BlockingStream, begun: float) -> None:
    frame = stream.read()
    if frame is None:
        return
    model = _Model(stream, StartRequest.from_header(frame[0]), begun)
    while frame is not None:
        header = frame[0]
        try:
            result, parts = model.answer(header)
        except PaddleLiteError as error:
            stream.send({"re": header["id"], "error": {"kind": error.kind, "text": shortened(str(error), 1900)}})
        except Exception as error:  # the binding raises any type, and the bench needs a finding
            text = "%s: %s" % (type(error).__name__, shortened(str(error), 1900))
            stream.send({"re": header["id"], "error": {"kind": "unexpected", "text": text}})
        else:
            stream.send({"re": header["id"], "result": result}, parts)
        frame = stream.read()


def _rss() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def _read_bytes() -> int:
    """Return the bytes that this process read from storage; 0 where the kernel does not count them."""
    try:
        with open("/proc/self/io", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"read_bytes:"))
    except (OSError, StopIteration):
        return 0


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1e3, 4)


class StartRequest(NamedTuple):
    """The bench's first message to the process; paths are absolute.  The fields are the frame's keys."""

    nb: str
    runtime: str  # "" = the interpreter's own
    inputs: List[Tensor]  # as the model's file declares them
    outputs: List[str]  # names
    golden: List[str]
    low_priority: bool
    memory_limit: int  # bytes; 0 = no limit
    accelerated: bool  # the model has kernels of an accelerator
    engine: Dict[str, object]  # what is asked of the engine, as EngineSettings.to_dict gives it
    cache: str  # folder for what accelerators compile; "" = none
    wanted: str  # the kind of engine, see choose_engine

    def header(self) -> Dict[str, object]:
        """Return the frame's header."""
        return dict(self._asdict(), op="start")

    @classmethod
    def from_header(cls, header: Dict[str, object]) -> "StartRequest":
        """Read the frame's header, which this same agent wrote; TypeError when a key is missing or unknown."""
        request = cls(**{name: value for name, value in header.items() if name not in ("op", "id")})  # type: ignore[arg-type]
        return request._replace(inputs=[Tensor(name, dtype, tuple(dims)) for name, dtype, dims in request.inputs])


class RunRequest(NamedTuple):
    """A request for a block of runs; times are on the monotonic clock, in seconds."""

    runs: int
    until: float  # no run begins after it
    at: float = 0.0  # the first run begins then
    skip: int = 0  # runs before the first that counts


class _Model:
    """The model of this process; its runs take the golden cases in turn."""

    def __init__(self, stream: BlockingStream, job: StartRequest, begun: float) -> None:
        self._stream, self._job, self._begun = stream, job, begun
        if job.low_priority:
            os.nice(_NICE)
        confine_model([job.nb, *job.golden], job.runtime, job.memory_limit, job.accelerated, cache=job.cache)
        self._paddlelite = choose_engine(
            job.runtime,
            job.nb,
            job.inputs,
            job.outputs,
            EngineSettings.parse(job.engine),
            cache=job.cache,
            on_stage=stream.stage,
            wanted=job.wanted,
        )
        self._cases: List[Dict[str, Array]] = []
        self._first: List[List[Array]] = []
        self._last: List[List[Array]] = []
        self._turn = 0

    def answer(self, header: Dict[str, object]) -> Answer:
        """Carry out one request of the bench."""
        if header["op"] == "start":
            return self._start(), []
        if header["op"] == "outputs":
            return self._outputs(self._first if header["of"] == "first" else self._last)
        names = RunRequest._fields
        return self._block(RunRequest(**{name: header[name] for name in names if name in header}))  # type: ignore[arg-type]

    def _start(self) -> Dict[str, object]:
        """Import, load and run once; return the duration of each step (ms) and the memory after it (bytes)."""
        paddlelite, cases = self._paddlelite, [read_npz(path) for path in self._job.golden]
        self._cases = [
            {name: arrays[name] for name in (tensor.name for tensor in self._job.inputs)} for arrays in cases
        ]
        rss = {"before_import": _rss()}
        record: Dict[str, object] = {"begun": self._begun, "rss": rss}
        self._stream.stage("importing Paddle-Lite")
        begun = time.perf_counter()
        paddlelite.import_runtime()
        record["import_ms"] = _since(begun)
        rss["after_import"] = _rss()
        self._stream.stage("loading the model")
        begun = time.perf_counter()
        paddlelite.load()
        record["load_ms"] = _since(begun)
        rss["after_load"] = _rss()
        self._stream.stage("running for the first time")
        begun = time.perf_counter()
        self._first.append(self._infer(0))
        record["first_run_ms"] = _since(begun)
        rss["after_first_run"] = _rss()
        record["read_bytes"] = _read_bytes()
        paddlelite.set_inputs(self._cases[0], check=True)  # a binding that does not fit its numpy copies garbage
        self._first += [self._infer(number) for number in range(1, len(self._cases))]
        self._last = list(self._first)
        self._stream.stage("running")
        return dict(
            record,
            runtime_version=paddlelite.runtime_version[:100],
            numpy_version=paddlelite.numpy_version[:100],
            threads_set_by=paddlelite.threads_set_by,
            engine=paddlelite.kind,
        )

    def _infer(self, case: int) -> List[Array]:
        self._paddlelite.set_inputs(self._cases[case])
        self._paddlelite.run()
        return self._paddlelite.outputs()

    def _block(self, request: RunRequest) -> Answer:
        """Run `runs` times, or until the monotonic time `until`.

        The body holds doubles: the milliseconds of each run alone, then of each with inputs set and outputs copied.
        """
        times, whole = array("d"), array("d")
        time.sleep(max(0.0, request.at - time.monotonic()))
        for _ in range(request.skip):
            self._one(array("d"), array("d"))
        gc.disable()  # a collection during a run is not part of the model
        spent, begun = time.process_time(), time.monotonic()
        while len(times) < min(request.runs, MOST_RUNS) and time.monotonic() < request.until:
            self._one(times, whole)
        record: Dict[str, object] = {"begun": begun, "ended": time.monotonic(), "runs": len(times)}
        record["cpu_s"] = time.process_time() - spent
        gc.enable()
        return record, [times.tobytes(), whole.tobytes()]

    def _one(self, times: "array[float]", whole: "array[float]") -> None:
        case = self._turn % len(self._cases)
        self._turn += 1
        start = time.perf_counter()
        self._paddlelite.set_inputs(self._cases[case])
        middle = time.perf_counter()
        self._paddlelite.run()
        times.append((time.perf_counter() - middle) * 1e3)
        self._last[case] = self._paddlelite.outputs()
        whole.append((time.perf_counter() - start) * 1e3)

    @staticmethod
    def _outputs(cases: List[List[Array]]) -> Answer:
        described = [[{"dtype": value.dtype, "shape": list(value.shape)} for value in outputs] for outputs in cases]
        return {"cases": described}, [value.data for outputs in cases for value in outputs]
