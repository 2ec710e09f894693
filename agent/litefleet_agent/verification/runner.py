"""The verification job.  Runs only in a child process: reads a JSON job on stdin, leaves files in a work folder.

It opens these files, confines itself, and only then imports Paddle-Lite, which can write to them and to nothing else.
Paddle-Lite prints to stdout and stderr, so neither carries anything of ours.
"""

import hashlib
import json
import os
import sys
import time
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..formats.checked import items, mapping, number, shortened, text, texts, whole
from ..formats.engine_settings import EngineSettings, SettingReport, parse_reports
from ..formats.nb import Tensor
from ..formats.npz import Array, read_npz
from ..releases.archive import keep_bytecode
from .child_process import die_with_parent, end_process, peak_rss
from .confinement import confine_model
from .engine import NATIVE, PaddleLiteError
from .engines import choose_engine

RESULT = "result.json"
STAGE = "stage"  # its first line names the step the child is at
OUTPUTS = "outputs.bin"  # the outputs' bytes, one after the other
ENGINE = "engine"  # the kind of the engine that was chosen
CONFINEMENT = "sandbox.json"  # a ConfinementReport; closed before Paddle-Lite is imported
_KEPT_RUNS = 3  # differing runs of one case whose bytes are kept
_LONG = 10000  # characters of a path or name
_LEAST_ROOM = 256 << 20  # bytes of OUTPUTS and of RESULT, at least


class Job(NamedTuple):
    """What a child is to do."""

    nb: str  # path
    runtime: str  # folder that holds the paddlelite package, "" = what the interpreter has
    inputs: List[str]  # paths of .npz files, one per case
    declared: List[Tensor]  # the model's inputs
    output_names: List[str]
    runs: int  # timed runs per case
    warmup: int  # runs before them
    threads: int  # 0 leaves it to Paddle-Lite
    work: str  # folder for what the child leaves
    parent: int  # process id
    memory_limit: int = 0  # bytes, resident; 0 = none
    accelerated: bool = False  # the model has kernels of an accelerator
    output_bytes: int = 0  # of all references together
    engine: Mapping[str, object] = {}  # what is asked of the engine, as EngineSettings.to_dict gives it
    cache: str = ""  # folder for what accelerators compile, which this process may write to; "" = none
    wanted: str = NATIVE  # the kind of engine, see choose_engine


class Output(NamedTuple):
    """One output of one run; `at` and `size` are its place in OUTPUTS, -1 and 0 for bytes that an earlier run gave too."""

    dtype: str
    shape: Tuple[int, ...]
    sha256: str
    at: int
    size: int

    @classmethod
    def parse(cls, value: object) -> "Output":
        """Read the JSON form; ValueError or KeyError for one that is not well formed."""
        entry = mapping(value)
        shape = tuple(whole(dim, 0) for dim in items(entry["shape"], 64))
        sha256 = text(entry["sha256"], 64)
        return cls(text(entry["dtype"], 20), shape, sha256, whole(entry["at"], -1), whole(entry["size"]))


class CaseRun(NamedTuple):
    """One timed run of one case."""

    ms: float
    outputs: List[Output]


class Result(NamedTuple):
    """What a child that did its work reports."""

    load_ms: float
    cases: List[List[CaseRun]]
    peak_rss_bytes: int
    runtime_version: str  # "" when Paddle-Lite does not say
    numpy_version: str  # "" without numpy
    output_names: List[str]
    threads: int
    threads_set_by: str  # "set_threads", "environment" or ""
    engine: str  # BINDING or NATIVE
    settings: Sequence[SettingReport] = ()  # what came of each setting that was asked for
    not_native: str = ""  # why the binding was taken in the place of the native engine; "" when it was not

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        cases = [
            {"runs": [{"ms": r.ms, "outputs": [o._asdict() for o in r.outputs]} for r in case]} for case in self.cases
        ]
        return dict(self._asdict(), cases=cases, settings=[report.to_dict() for report in self.settings])

    @classmethod
    def parse(cls, data: Dict[str, object]) -> "Result":
        """Read the JSON form; ValueError or KeyError for one that is not well formed: a broken runtime shares the process."""
        return cls(
            number(data["load_ms"], 0),
            [_case(case) for case in items(data["cases"], 100000)],
            whole(data["peak_rss_bytes"]),
            text(data["runtime_version"], 1000),
            text(data["numpy_version"], 1000),
            list(texts(data["output_names"], 100000, _LONG)),
            whole(data["threads"]),
            text(data["threads_set_by"], 100),
            text(data["engine"], 100),
            parse_reports(data["settings"]),
            text(data["not_native"], 2000),
        )


def _case(value: object) -> List[CaseRun]:
    runs = [mapping(run) for run in items(mapping(value)["runs"], 100000)]
    return [
        CaseRun(number(run["ms"], 0), [Output.parse(output) for output in items(run["outputs"], 100000)])
        for run in runs
    ]


def main() -> int:
    """Do the job that stdin describes; exit code 0 when result.json holds figures, 3 when it holds an error."""
    job = Job(**json.load(sys.stdin))
    job = job._replace(declared=[Tensor(name, dtype, tuple(dims)) for name, dtype, dims in job.declared])
    die_with_parent(job.parent)
    keep_bytecode()
    work = _Work(job.work)
    work.report(_confine(job))
    try:
        result = _Run(job, work).run().to_dict()
        code = 0
    except PaddleLiteError as err:
        result, code = _error(err.kind, str(err)), 3
    except Exception as err:  # the binding raises any type, and the parent needs a sentence
        result, code = _error("unexpected", "%s: %s" % (type(err).__name__, err)), 3
    work.finish(result)
    end_process(code)


def _error(kind: str, message: str) -> Dict[str, object]:
    return {"error": {"kind": kind, "text": shortened(message, 1900)}}


def _confine(job: Job) -> Dict[str, object]:
    reads = [job.nb] + job.inputs
    room = _LEAST_ROOM + 2 * (_KEPT_RUNS + 1) * job.output_bytes  # twice what outputs of the references' sizes take
    return confine_model(reads, job.runtime, job.memory_limit, job.accelerated, room, job.cache).to_dict()


class _Work:
    """The files of the work folder, opened before this process can no longer open any."""

    def __init__(self, folder: str) -> None:
        self._confinement, self._stage, self._engine, self._outputs, self._result = (
            os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            for name in (CONFINEMENT, STAGE, ENGINE, OUTPUTS, RESULT)
        )
        self._size = 0

    def report(self, confinement: Dict[str, object]) -> None:
        """Write how this process is confined."""
        _write(self._confinement, json.dumps(confinement).encode("ascii"))
        os.close(self._confinement)

    def engine(self, kind: str) -> None:
        """Name the engine, before anything is loaded."""
        _write(self._engine, kind.encode("ascii"))

    def stage(self, words: str) -> None:
        """Name the step that begins."""
        os.pwrite(self._stage, words.encode("utf-8") + b"\n", 0)

    def keep(self, data: bytes) -> int:
        """Append an output's bytes and return where they begin."""
        at = self._size
        _write(self._outputs, data)
        self._size += len(data)
        return at

    def finish(self, result: Dict[str, object]) -> None:
        """Write the result."""
        _write(self._result, json.dumps(result).encode("ascii"))


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class _Run:
    """One model, loaded once, run for every case."""

    def __init__(self, job: Job, work: _Work) -> None:
        self.job, self.work = job, work
        asked = EngineSettings.parse(job.engine)
        self._asked = {name for name, _ in asked.asked()}  # `threads` may also come from elsewhere
        self.paddlelite = choose_engine(
            job.runtime,
            job.nb,
            job.declared,
            job.output_names,
            asked._replace(threads=job.threads),
            cache=job.cache,
            on_stage=work.stage,
            wanted=job.wanted,
        )
        work.engine(self.paddlelite.kind)

    def run(self) -> Result:
        """Return the figures of all cases.  Raises PaddleLiteError."""
        self.work.stage("importing Paddle-Lite")
        self.paddlelite.import_runtime()
        self.work.stage("loading the model")
        load_ms = self.paddlelite.load()
        cases = [self._case(place, path) for place, path in enumerate(self.job.inputs)]
        return Result(
            load_ms,
            cases,
            peak_rss(os.getpid()),
            self.paddlelite.runtime_version,
            self.paddlelite.numpy_version,
            self.paddlelite.loaded_output_names,
            self.job.threads,
            self.paddlelite.threads_set_by,
            self.paddlelite.kind,
            [report for report in self.paddlelite.setting_reports() if report.name in self._asked],
            self.paddlelite.not_native,
        )

    def _case(self, place: int, path: str) -> List[CaseRun]:
        self.work.stage("setting the inputs of case %d" % (place + 1))
        arrays = read_npz(path)
        inputs = {name: arrays[name] for name in (tensor.name for tensor in self.job.declared)}
        self.paddlelite.select_predictor(inputs)
        self.paddlelite.set_inputs(inputs, check=True)
        self.work.stage("running case %d" % (place + 1))
        runs: List[CaseRun] = []
        stored: Dict[int, List[str]] = {}
        for turn in range(-self.job.warmup, self.job.runs):
            self.paddlelite.set_inputs(inputs)  # each time: kernels may work in place
            begun = time.perf_counter()
            self.paddlelite.run()
            ms = (time.perf_counter() - begun) * 1e3
            if turn >= 0:
                runs.append(CaseRun(ms, self._store_outputs(self.paddlelite.outputs(), stored)))
        return runs

    def _store_outputs(self, values: List[Array], stored: Dict[int, List[str]]) -> List[Output]:
        """Write the outputs whose bytes no earlier run of the case gave; `stored` holds the hashes by output."""
        entries = []
        for index, value in enumerate(values):
            digest, at, size = hashlib.sha256(value.data).hexdigest(), -1, 0
            known = stored.setdefault(index, [])
            if digest not in known and len(known) <= _KEPT_RUNS:
                known.append(digest)
                at, size = self.work.keep(value.data), len(value.data)
            entries.append(Output(value.dtype, value.shape, digest, at, size))
        return entries
