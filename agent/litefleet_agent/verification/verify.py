"""Validated inference: runs a model in a child process, compares its outputs with goldens, and returns findings."""

import json
import os
import sys
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import ARCHIVE_ROOT
from ..errors import AgentError
from ..findings import Finding, finding
from ..findings.model_file import accelerators
from ..formats.checked import mapping, number, shown, text, texts, whole
from ..formats.engine_settings import NOT_TAKEN, NOTHING_ASKED, EngineSettings, SettingReport
from ..formats.files import address_space_limit, open_regular, read_regular
from ..formats.nb import NbError, NbModel, read_nb
from ..formats.npz import Array, read_npz
from ..releases.archive import keep_bytecode
from .child_process import ChildResult, code_of_error, decode, engine_environment, run_child, without_info
from .comparison import ModelComparison
from .confinement import ConfinementReport
from .engine import BINDING, NATIVE
from .engines import ONLY_BINDING
from .golden_cases import CaseComparison, Golden, Latency, Runs, check_outputs, exceeded_gates, fits_inputs, latency
from .runner import CONFINEMENT, ENGINE, OUTPUTS, RESULT, STAGE, CaseRun, Job, Output, Result

_LOADER = "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.verification import runner; sys.exit(runner.main())"
_NATIVE_KINDS = {"native": "LF315", "no-data": "LF405", "outputs": "LF407"}  # of NativeError -> its finding
_GATES = ("p50_ms", "p90_ms", "p99_ms", "peak_rss_bytes")
# words of an import error -> its finding; the first match counts
_IMPORT_WORDS = (
    ("undefined symbol: _Py", "LF307"),
    ("undefined symbol: Py", "LF307"),
    ("wrong ELF class", "LF308"),
    ("invalid ELF header", "LF308"),
    ("GLIBC_", "LF309"),
    ("GLIBCXX_", "LF309"),
    ("cannot open shared object file", "LF306"),
)


@dataclass(frozen=True)
class VerifySpec:
    """What to verify, and within which limits."""

    nb: str  # path
    golden: Tuple[str, ...]  # paths of .npz files, each with the inputs and the reference outputs of one case
    runtime: str = ""  # folder that holds the paddlelite package; "" = what the interpreter has
    runs: int = 3  # per case
    warmup: int = 1  # per case, not timed
    threads: int = 0  # 0 leaves it to Paddle-Lite
    time_limit_s: float = 120.0  # for everything together
    memory_limit_bytes: Optional[int] = None  # resident; the child is killed above it; None: no limit
    tolerance: Optional[Dict[str, float]] = None  # some of Tolerance's fields; the rest by the model's precision
    device_memory_bytes: Optional[int] = (
        None  # of the device, 0 = unknown: sets a limit where none is given; None: no limit
    )
    gates: Optional[Dict[str, float]] = None  # some of p50_ms, p90_ms, p99_ms, peak_rss_bytes
    outputs: Optional[Dict[str, Any]] = None  # how outputs are compared, by name; the others as tensors
    engine: EngineSettings = NOTHING_ASKED  # what is asked of the engine; its threads count where `threads` is 0
    cache: str = ""  # folder for what accelerators compile; "" = none
    wanted: str = ""  # NATIVE or BINDING: of the release's earlier proof; "": a new proof, native wherever that works

    @classmethod
    def from_dict(cls, data: object) -> "VerifySpec":
        """Read the JSON form; null stands for a field that is left out.  Raises AgentError "bad-request" with the field."""
        try:
            given = {name: value for name, value in mapping(data, "the verification").items() if value is not None}
            return cls._parse(given)
        except ValueError as error:
            raise _bad(str(error)) from None

    @classmethod
    def _parse(cls, given: Dict[str, object]) -> "VerifySpec":
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError("the verification has no field %s" % ", ".join(unknown)[:200])
        golden = texts(given.get("golden"), _MOST_CASES, _LONGEST_PATH, "golden")
        if not golden:
            raise ValueError("golden must be a list of at least one path")
        limit, tolerance = given.get("memory_limit_bytes"), given.get("tolerance")
        device = given.get("device_memory_bytes")
        comparison = ModelComparison.parse(given.get("outputs"), tolerance)
        engine = EngineSettings.parse(given.get("engine"))
        return cls(
            nb=text(given.get("nb"), _LONGEST_PATH, "nb"),
            golden=golden,
            runtime=text(given.get("runtime", ""), _LONGEST_PATH, "runtime"),
            runs=whole(given.get("runs", cls.runs), 1, 10000, "runs"),
            warmup=whole(given.get("warmup", cls.warmup), 0, 1000, "warmup"),
            threads=engine.threads or whole(given.get("threads", cls.threads), 0, 256, "threads"),
            time_limit_s=number(given.get("time_limit_s", cls.time_limit_s), 0.1, 86400, "time_limit_s"),
            memory_limit_bytes=None if limit is None else whole(limit, 1 << 20, 1 << 50, "memory_limit_bytes"),
            device_memory_bytes=None if device is None else whole(device, name="device_memory_bytes"),
            tolerance=None if tolerance is None else _numbers(tolerance, "tolerance"),
            gates=_gates(given["gates"]) if "gates" in given else None,
            outputs=comparison.outputs(),
            engine=engine,
            cache=text(given.get("cache", ""), _LONGEST_PATH, "cache"),
            wanted=text(given.get("wanted", ""), 20, "wanted"),
        )

    @property
    def comparison(self) -> ModelComparison:
        """How the outputs are compared.  Raises AgentError for a specification that is not well formed."""
        return ModelComparison.parse(self.outputs, self.tolerance)


_MOST_CASES = 1000
_BASE_LIMIT = 1 << 30  # bytes; the interpreter, numpy, Paddle-Lite and MKL take under 0.1 GB of it
_LONGEST_PATH = 4096  # PATH_MAX of Linux
_MAX_REPORT = 16 << 20  # bytes of result.json
_MAX_CONFINEMENT = 64 << 10  # bytes of sandbox.json


def _numbers(value: object, name: str) -> Dict[str, float]:
    return {key: float(number(entry, name="%s.%s" % (name, key))) for key, entry in mapping(value, name).items()}


def _gates(value: object) -> Dict[str, float]:
    gates = mapping(value, "gates")
    if not set(gates) <= set(_GATES):
        raise ValueError("gates must be an object with some of %s" % ", ".join(_GATES))
    return {name: _above_zero(limit, "gates.%s" % name) for name, limit in gates.items()}


def _above_zero(value: object, name: str) -> float:
    limit = number(value, -sys.float_info.max, sys.float_info.max, name)
    if limit <= 0:
        raise ValueError("%s must be a number above 0, not %s" % (name, shown(value)))
    return limit


class Measurements(NamedTuple):
    """What a verification measured."""

    load_ms: float
    latency_ms: Latency
    peak_rss_bytes: int
    outputs: List[CaseComparison]  # per output and case
    runtime_version: str
    numpy_version: str
    threads: int
    threads_set_by: str  # "set_threads", "environment" or ""
    engine: str = BINDING  # what drove Paddle-Lite, or NATIVE
    sandbox: Optional[ConfinementReport] = None  # how the model's process was confined; None when it did not report it
    settings: Sequence[SettingReport] = ()  # what came of each setting that was asked for

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form; without `sandbox` when that is None, and without `settings` where none was asked for."""
        outputs = [one.to_dict() for one in self.outputs]
        data = dict(self._asdict(), latency_ms=self.latency_ms._asdict(), outputs=outputs)
        del data["sandbox"], data["settings"]
        if self.settings:
            data["settings"] = [report.to_dict() for report in self.settings]
        return data if self.sandbox is None else dict(data, sandbox=self.sandbox.to_dict())


class VerifyResult(NamedTuple):
    """The findings (none of severity error: verified), the measurements if it ran, and the child's last lines.

    `sandbox`: how the child was confined, None when it was not started or ended before it reported that.
    """

    findings: List[Finding]
    measurements: Optional[Measurements] = None
    detail: str = ""
    sandbox: Optional[ConfinementReport] = None
    seconds: float = 0.0  # that the child ran


def _bad(text: str) -> AgentError:
    return AgentError(text, "bad-request")


def verify(
    spec: VerifySpec, work_dir: str, on_tick: Optional[Callable[[], None]] = None, python: str = sys.executable
) -> VerifyResult:
    """Run the model in a child of `python` and check its outputs; `work_dir` is a folder for the child's files.

    The file's kernels are not checked against the machine here (see findings.model_file).  `on_tick` is called about every
    second; an exception that it raises ends the child.  Raises AgentError for a work folder or interpreter that is unusable.
    """
    try:
        with open_regular(spec.nb) as stream:
            model = read_nb(stream.read())
        goldens, problems = _goldens(model, spec.golden)
    except OSError as err:
        return VerifyResult([finding("LF115", "%s cannot be read: %s" % (spec.nb, err.strerror))])
    except NbError as err:
        return VerifyResult([finding(err.finding_code, str(err))])
    if problems:
        return VerifyResult(problems)
    _prepare(work_dir)
    keep_bytecode()  # the child needs much of it
    limited = _limited(spec, model, goldens)
    attempt = _Attempt(limited, model, goldens, _job(limited, model, goldens, work_dir), on_tick, python)
    result = attempt.run()
    return attempt.by_binding(result) if attempt.may_be_the_engine(result) else result


# Ends of a run that another engine would not change: no kernel wrote an output, a limit of time or memory.
_NOT_THE_ENGINE = ("LF405", "LF408", "LF411")
_LEAST_S = 1.0  # for a second attempt


class _Attempt(NamedTuple):
    """A verification whose files were read and fit each other."""

    spec: VerifySpec
    model: NbModel
    goldens: List[Golden]
    job: Job
    on_tick: Optional[Callable[[], None]]
    python: str

    def run(self) -> VerifyResult:
        """Run the model in a child and check its outputs."""
        work_dir = self.job.work
        _prepare(work_dir)
        child = _run(self.spec, self.job, self.on_tick, self.python)
        report, sandbox = _report(work_dir), _sandbox(work_dir)
        findings = _failure(child, report, work_dir)
        if findings or report is None or report.result is None:
            result = VerifyResult(findings, detail=without_info(child.stderr), sandbox=sandbox)
        else:
            result = _check(self.spec, self.model, self.goldens, report.result, work_dir, child, sandbox)
        return result._replace(seconds=child.seconds)

    def may_be_the_engine(self, result: VerifyResult) -> bool:
        """Return whether the native engine, which no earlier proof names, may itself be why there are no outputs to compare."""
        if self.spec.wanted or result.measurements is not None or not result.findings:
            return False
        return result.findings[0].code not in _NOT_THE_ENGINE and _first_line(self.job.work, ENGINE) == NATIVE

    def by_binding(self, native: VerifyResult) -> VerifyResult:
        """Run it again through the binding, in what is left of the time; return its result where it differs from `native`.

        The two drive the same library: what ends alike is the model's or the library's own.
        """
        left = self.spec.time_limit_s - native.seconds
        if left < _LEAST_S:
            return native
        spec, job = replace(self.spec, time_limit_s=left), self.job._replace(wanted=ONLY_BINDING)
        result = self._replace(spec=spec, job=job).run()
        report = _report(self.job.work)
        if report is not None and report.error[0] == "no-binding":
            return native
        if [f.code for f in result.findings] == [f.code for f in native.findings]:
            return native
        return result._replace(findings=[_binding_used(native.findings[0].observed), *result.findings])


def _binding_used(reason: str) -> Finding:
    return finding("LF328", "The Python binding ran the model, not the native engine: %s" % reason)


def _limited(spec: VerifySpec, model: NbModel, goldens: Sequence[Golden]) -> VerifySpec:
    """Return the spec with the default memory limit where it has none and names the device's memory."""
    if spec.memory_limit_bytes is not None or spec.device_memory_bytes is None:
        return spec
    largest = max(sum(len(value.data) for value in golden.inputs.values()) for golden in goldens)
    limit = default_memory_limit(model.estimated_memory_bytes, largest, spec.device_memory_bytes)
    return replace(spec, memory_limit_bytes=limit)


def default_memory_limit(estimate: int, inputs: int, total: int) -> int:
    """Return the resident bytes that a model's process may take.

    `estimate` is the file's (`NbModel.estimated_memory_bytes`), a lower bound with free dims as 1; `inputs` the bytes of the
    largest case's inputs, with which activations grow; `total` the device's memory, 0 = unknown.  On x86_64, PP-OCR's cls, det
    and rec peak at 88, 208 and 236 MiB, with limits of 1253, 1690 and 1697 MiB; a hostile file (paddings of 65,536) took 1.9 GB
    in 16 s without a limit.  At least an eighth of the device's memory, and 32 MiB, stay for the rest of the device.
    """
    limit = _BASE_LIMIT + 8 * estimate + 256 * inputs
    if total:
        limit = min(limit, total - max(total // 8, 32 << 20))
    return max(limit, 64 << 20)


def _prepare(work_dir: str) -> None:
    """Make the work folder and remove an earlier run's files: an old result must never be taken for a new one."""
    try:
        os.makedirs(work_dir, mode=0o700, exist_ok=True)
        for name in (CONFINEMENT, ENGINE, OUTPUTS, RESULT, STAGE):
            if os.path.lexists(os.path.join(work_dir, name)):
                os.unlink(os.path.join(work_dir, name))
    except OSError as err:
        raise AgentError("the work folder %s is unusable: %s" % (work_dir, err.strerror), "not-writable") from err


def _goldens(model: NbModel, paths: Sequence[str]) -> Tuple[List[Golden], List[Finding]]:
    goldens: List[Golden] = []
    problems: List[Finding] = []
    for place, path in enumerate(paths):
        label = "Case %d (%s)" % (place + 1, os.path.basename(path)[:24])
        try:
            golden, found = fits_inputs(model, read_npz(path), label)
        except AgentError as err:
            golden, found = None, [finding("LF412", str(err))]
        problems += found
        goldens += [golden] if golden else []
    return goldens, problems


def _job(spec: VerifySpec, model: NbModel, goldens: Sequence[Golden], work_dir: str) -> Job:
    return Job(
        nb=os.path.abspath(spec.nb),
        runtime=os.path.abspath(spec.runtime) if spec.runtime else "",
        inputs=[os.path.abspath(path) for path in spec.golden],
        declared=list(model.inputs),
        output_names=[t.name for t in model.outputs],
        runs=spec.runs,
        warmup=spec.warmup,
        threads=spec.threads,
        work=os.path.abspath(work_dir),
        parent=os.getpid(),
        memory_limit=spec.memory_limit_bytes or 0,
        accelerated=bool(accelerators(model)),
        output_bytes=sum(len(output.data) for golden in goldens for output in golden.outputs),
        engine=spec.engine.to_dict(),
        cache=spec.cache,
        wanted=spec.wanted or NATIVE,
    )


def _run(spec: VerifySpec, job: Job, on_tick: Optional[Callable[[], None]], python: str) -> ChildResult:
    env = engine_environment(os.environ, job.runtime, spec.threads)
    argv = [python, "-I", "-c", _LOADER, ARCHIVE_ROOT]
    data = json.dumps(job._asdict()).encode("ascii")
    return run_child(argv, data, spec.time_limit_s, spec.memory_limit_bytes, on_tick, env)


class _Report(NamedTuple):
    """What the child left: a result, or the kind and text of its error."""

    result: Optional[Result]
    error: Tuple[str, str] = ("", "")


def _report(work_dir: str) -> Optional[_Report]:
    """Return what the child left, None when it left nothing that is well formed."""
    try:
        report = _read_json(work_dir, RESULT, _MAX_REPORT)
        if "error" in report:
            error = mapping(report["error"])
            return _Report(None, (text(error["kind"], 100), text(error["text"], 2000)))
        return _Report(Result.parse(report))
    except (OSError, ValueError, KeyError, RecursionError):
        return None


def _sandbox(work_dir: str) -> Optional[ConfinementReport]:
    try:
        return ConfinementReport.parse(_read_json(work_dir, CONFINEMENT, _MAX_CONFINEMENT))
    except (OSError, ValueError, KeyError, RecursionError):
        return None


def _read_json(work_dir: str, name: str, most: int) -> Dict[str, object]:
    """Read a file of the child, which may have run anything: it is no link, and no larger than `most` bytes."""
    return mapping(json.loads(read_regular(os.path.join(work_dir, name), most, follow=False).decode("utf-8")))


def _first_line(work_dir: str, name: str) -> str:
    try:
        return read_regular(os.path.join(work_dir, name), 200, follow=False).decode("utf-8").split("\n")[0]
    except (OSError, ValueError):
        return ""


def _failure(child: ChildResult, report: Optional[_Report], work_dir: str) -> List[Finding]:
    """Return why there is no result: the child's own error, or how it ended; empty when it did its work."""
    stage = _first_line(work_dir, STAGE) or "starting"
    if report is not None and report.result is None and not child.signal_name:
        return [paddlelite_finding(report.error[0], report.error[1], stage)]
    if child.exit_code == 0 and report is None and not child.timed_out and not child.over_memory:
        return [finding("LF900", "The model's process ended early with exit code 0, while %s." % stage)]
    return decode(child, "The model's process, while %s," % stage, stage)


def paddlelite_finding(kind: str, message: str, stage: str) -> Finding:
    """Return the finding for a PaddleLiteError's kind and text; `stage` names the step at which it was raised."""
    if kind == "numpy-2":
        return finding("LF304", "The runtime has numpy %s, and a tensor did not return what was put into it." % message)
    if kind in _NATIVE_KINDS:
        return finding(_NATIVE_KINDS[kind], message)
    if kind == "round-trip" and " " in message:  # the native engine's sentence
        return finding("LF305", "An input tensor read back differs from what was set: %s." % message)
    if kind == "round-trip":
        return finding(
            "LF305", "An input tensor read back differs from what was set (numpy %s)." % (message or "absent")
        )
    if kind == "inputs":
        return finding("LF412", message)
    if kind != "import":
        return finding(code_of_error(stage), "While %s: %s" % (stage, message))
    if "failed to map segment" in message and address_space_limit():
        return finding("LF514", "%s (%s)" % (message, address_space_limit()))
    for words, code in _IMPORT_WORDS:
        if words in message:
            return finding(code, message)
    return finding("LF315", message)


def _check(
    spec: VerifySpec,
    model: NbModel,
    goldens: List[Golden],
    result: Result,
    work_dir: str,
    child: ChildResult,
    sandbox: Optional[ConfinementReport],
) -> VerifyResult:
    counts = {len(run.outputs) for case in result.cases for run in case}
    if counts != {len(model.outputs)}:
        observed = "The file declares %d outputs, the runtime gave %s." % (len(model.outputs), sorted(counts))
        return VerifyResult([finding("LF407", observed)], detail=without_info(child.stderr), sandbox=sandbox)
    try:
        runs = _read_outputs(result.cases, work_dir)
    except (OSError, AgentError) as error:
        observed = "The outputs that the model's process kept cannot be read: %s." % error
        return VerifyResult([finding("LF900", observed)], detail=without_info(child.stderr), sandbox=sandbox)
    output_check = check_outputs(model, goldens, runs, spec.comparison)
    times = latency([run.ms for case in result.cases for run in case])
    peak_rss = max(result.peak_rss_bytes, child.max_rss_bytes)
    measurements = Measurements(
        result.load_ms,
        times,
        peak_rss,
        output_check.comparisons,
        result.runtime_version,
        result.numpy_version,
        result.threads,
        result.threads_set_by,
        result.engine,
        sandbox,
        result.settings,
    )
    lists = result.engine == BINDING and not result.numpy_version
    notes = [finding("LF317", "The inputs were set as lists.")] if lists else []
    notes += [_binding_used("%s." % result.not_native.rstrip("."))] if result.not_native else []
    notes += _input_sizes(goldens) + settings_findings(result.settings)
    findings = notes + output_check.findings + exceeded_gates(spec.gates or {}, times, peak_rss)
    return VerifyResult(findings, measurements, without_info(child.stderr), sandbox)


def settings_findings(reports: Sequence[SettingReport]) -> List[Finding]:
    """Return LF433 when a setting that was asked for is not in force."""
    missed = [report.words for report in reports if report.state == NOT_TAKEN]
    return [finding("LF433", "%s." % "; ".join(missed))] if missed else []


def _input_sizes(goldens: List[Golden]) -> List[Finding]:
    """Return LF420 when the cases have several input sizes: the model was loaded again for each, an application must too."""
    sizes = sorted({tuple(value.shape[1:] for value in golden.inputs.values()) for golden in goldens})
    if len(sizes) < 2:
        return []
    words = " and ".join("; ".join(" x ".join(map(str, dims)) for dims in case) for case in sizes[:3])
    observed = "The cases have %d input sizes (%s); the model was loaded again for each." % (len(sizes), words)
    return [finding("LF420", observed)]


def _read_outputs(cases: Sequence[Sequence[CaseRun]], work_dir: str) -> List[Runs]:
    """Read the outputs that the child kept: those of each case's first run, and each later one whose bytes were new.

    Raises OSError or AgentError for a place outside of its file, or bytes that do not fit their shape.
    """
    with open_regular(os.path.join(work_dir, OUTPUTS), follow=False) as stream:
        room = os.fstat(stream.fileno()).st_size

        def load(entry: Output) -> Array:
            nonlocal room
            room -= entry.size  # each byte is read once: an altered result cannot have more than the file read
            if entry.at < 0 or room < 0:
                raise AgentError("a place is outside of %s" % OUTPUTS)
            stream.seek(entry.at)
            return Array(entry.dtype, entry.shape, stream.read(entry.size))

        return [_load_case(runs, load) for runs in cases]


def _load_case(runs: Sequence[CaseRun], load: Callable[[Output], Array]) -> Runs:
    first = [load(entry) for entry in runs[0].outputs]
    later = [(i, load(entry)) for run in runs[1:] for i, entry in enumerate(run.outputs) if entry.at >= 0]
    return first, later
