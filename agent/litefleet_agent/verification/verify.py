"""Validated inference: a model in a child process, its outputs against goldens, a finding for whatever is not right."""

import json
import math
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .. import ARCHIVE_ROOT
from ..errors import AgentError
from ..findings import Finding, finding
from ..formats.nb import NbError, NbModel, read_nb
from ..formats.npz import Array, read_npz
from .child_process import ChildResult, decode, run_child
from .compare import Tolerance, default_tolerance
from .golden_cases import Golden, Runs, check_outputs, exceeded_gates, fits_inputs, latency
from .runner import RESULT, STAGE

__all__ = ["VerifyResult", "VerifySpec", "paddlelite_finding", "verify"]

_LOADER = "import sys; sys.path.insert(0, sys.argv[1]); from litefleet_agent.verification import runner; sys.exit(runner.main())"
_GATES = ("p50_ms", "p90_ms", "p99_ms", "peak_rss_bytes")
# what an import error says -> the finding it stands for, the first that matches
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
    """What is to be verified, and within which limits."""

    nb: str  # path
    golden: Tuple[str, ...]  # paths of .npz files, each with the inputs and the reference outputs of one case
    runtime: str = ""  # folder that holds the paddlelite package; "" = what the interpreter has
    runs: int = 3  # per case
    warmup: int = 1  # per case, not timed
    threads: int = 0  # 0 leaves it to Paddle-Lite
    time_limit_s: float = 120.0  # for everything together
    memory_limit_bytes: Optional[int] = None  # resident; the child is ended above it
    tolerance: Optional[Dict[str, float]] = None  # some of Tolerance's fields; the rest by the model's precision
    gates: Optional[Dict[str, float]] = None  # some of p90_ms, peak_rss_bytes

    @classmethod
    def from_dict(cls, data: Any) -> "VerifySpec":
        """Read the JSON form.  Raises AgentError that names the field."""
        if not isinstance(data, dict):
            raise _bad("the verification must be an object")
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            raise _bad("the verification has no field %s" % ", ".join(unknown))
        given = {name: value for name, value in data.items() if value is not None}
        golden = given.get("golden")
        if not isinstance(golden, (list, tuple)) or not golden or not all(isinstance(p, str) for p in golden):
            raise _bad("golden must be a list of at least one path")
        if not isinstance(given.get("nb"), str) or not isinstance(given.get("runtime", ""), str):
            raise _bad("nb must be a path, runtime a path or empty")
        for name, low, high in _NUMBERS:
            value = given.get(name, low)
            if type(value) not in ((int, float) if name == "time_limit_s" else (int,)) or not low <= value <= high:
                raise _bad("%s is %r; it must be a number from %s to %s" % (name, value, low, high))
        if "tolerance" in given:
            Tolerance.from_dict(given["tolerance"], default_tolerance("fp32"))
        if "gates" in given:
            _check_gates(given["gates"])
        return cls(**dict(given, golden=tuple(golden)))


_NUMBERS = (
    ("runs", 1, 10000),
    ("warmup", 0, 1000),
    ("threads", 0, 256),
    ("time_limit_s", 0.1, 86400),
    ("memory_limit_bytes", 1 << 20, 1 << 50),
)


@dataclass(frozen=True)
class VerifyResult:
    """What was found (empty or without errors: verified), what was measured, and the child's last lines."""

    findings: List[Finding]
    measurements: Dict[str, Any]
    detail: str


def _bad(text: str) -> AgentError:
    return AgentError(text, "bad-request")


def _check_gates(gates: Any) -> None:
    if not isinstance(gates, dict) or not set(gates) <= set(_GATES):
        raise _bad("gates must be an object with some of %s" % ", ".join(_GATES))
    for name, value in gates.items():
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise _bad("gates.%s is %r; it must be a number above 0" % (name, value))


def verify(
    spec: VerifySpec, work_dir: str, on_tick: Optional[Callable[[], None]] = None, python: str = sys.executable
) -> VerifyResult:
    """Run the model in a child of `python` and judge it; `work_dir` is a folder for what the child leaves.

    The file's kernels are not checked against the machine here (see compat).  `on_tick` is called about every second;
    what it raises ends the child.  Raises AgentError only for a work folder or an interpreter that cannot be used.
    """
    try:
        with open(spec.nb, "rb") as stream:
            model = read_nb(stream.read())
        goldens, problems = _goldens(model, spec.golden)
    except OSError as err:
        return VerifyResult([finding("LF900", "%s cannot be read: %s" % (spec.nb, err.strerror))], {}, "")
    except NbError as err:
        return VerifyResult([finding(err.finding_code, str(err))], {}, "")
    if problems:
        return VerifyResult(problems, {}, "")
    _prepare(work_dir)
    child = _run(spec, model, work_dir, on_tick, python)
    report = _report(work_dir)
    findings = _failure(child, report, work_dir)
    if findings or report is None:
        return VerifyResult(findings, {}, child.stderr)
    return _judged(spec, model, goldens, report, work_dir, child)


def _prepare(work_dir: str) -> None:
    """Make the work folder and clear what an earlier run left: an old result must never be taken for a new one."""
    try:
        os.makedirs(work_dir, mode=0o700, exist_ok=True)
        for name in (RESULT, STAGE):
            if os.path.exists(os.path.join(work_dir, name)):
                os.unlink(os.path.join(work_dir, name))
    except OSError as err:
        raise AgentError("the work folder %s cannot be used: %s" % (work_dir, err.strerror), "not-writable") from err


def _goldens(model: NbModel, paths: Sequence[str]) -> Tuple[List[Golden], List[Finding]]:
    goldens: List[Golden] = []
    problems: List[Finding] = []
    for number, path in enumerate(paths):
        label = "Case %d (%s)" % (number + 1, os.path.basename(path)[:24])
        try:
            golden, found = fits_inputs(model, read_npz(path), label)
        except AgentError as err:
            golden, found = None, [finding("LF412", str(err))]
        problems += found
        goldens += [golden] if golden else []
    return goldens, problems


def _run(
    spec: VerifySpec, model: NbModel, work_dir: str, on_tick: Optional[Callable[[], None]], python: str
) -> ChildResult:
    job = {
        "nb": os.path.abspath(spec.nb),
        "runtime": os.path.abspath(spec.runtime) if spec.runtime else "",
        "inputs": [os.path.abspath(path) for path in spec.golden],
        "input_names": [t.name for t in model.inputs],
        "output_names": [t.name for t in model.outputs],
        "runs": spec.runs,
        "warmup": spec.warmup,
        "threads": spec.threads,
        "work": os.path.abspath(work_dir),
        "parent": os.getpid(),
    }
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1")  # numpy only moves bytes here
    if spec.threads:
        env.update(OMP_NUM_THREADS=str(spec.threads), MKL_NUM_THREADS=str(spec.threads))
    argv = [python, "-I", "-c", _LOADER, ARCHIVE_ROOT]
    return run_child(argv, json.dumps(job).encode("ascii"), spec.time_limit_s, spec.memory_limit_bytes, on_tick, env)


def _report(work_dir: str) -> Optional[Dict[str, Any]]:
    try:
        with open(os.path.join(work_dir, RESULT), "rb") as stream:
            report = json.loads(stream.read(16 << 20).decode("utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def _stage(work_dir: str) -> str:
    try:
        with open(os.path.join(work_dir, STAGE), encoding="utf-8") as stream:
            return stream.read(200)
    except (OSError, ValueError):
        return "starting"


def _failure(child: ChildResult, report: Optional[Dict[str, Any]], work_dir: str) -> List[Finding]:
    """Return why there is nothing to judge: the child's own error, or how it died; empty when it did its work."""
    stage = _stage(work_dir)
    if report is not None and "error" in report and not child.signal_name:
        return [paddlelite_finding(report["error"]["kind"], report["error"]["text"], stage)]
    if child.exit_code == 0 and report is None and not child.timed_out and not child.over_memory:
        return [finding("LF900", "The model's process ended early with exit code 0, while %s." % stage)]
    return decode(child, "The model's process, while %s," % stage)


def paddlelite_finding(kind: str, text: str, stage: str) -> Finding:
    """Return the finding for an EngineError's kind and text; `stage` says what the child was at."""
    if kind == "numpy-2":
        return finding("LF304", "The runtime has numpy %s, and a tensor did not give back what was put into it." % text)
    if kind == "round-trip":
        return finding("LF305", "An input tensor read back differs from what was set (numpy %s)." % (text or "absent"))
    if kind == "inputs":
        return finding("LF412", text)
    if kind != "import":
        return finding("LF900", "While %s: %s" % (stage, text))
    for words, code in _IMPORT_WORDS:
        if words in text:
            return finding(code, text)
    return finding("LF315", text)


def _judged(
    spec: VerifySpec, model: NbModel, goldens: List[Golden], report: Dict[str, Any], work_dir: str, child: ChildResult
) -> VerifyResult:
    cases = report["cases"]
    counts = {len(run["outputs"]) for case in cases for run in case["runs"]}
    if counts != {len(model.outputs)}:
        seen = "The file declares %d outputs, the runtime gave %s." % (len(model.outputs), sorted(counts))
        return VerifyResult([finding("LF407", seen)], {}, child.stderr)
    runs = [_outputs(case["runs"], work_dir) for case in cases]
    output_check = check_outputs(model, goldens, runs, spec.tolerance)
    times = latency([run["ms"] for case in cases for run in case["runs"]])
    peak_rss = max(int(report["peak_rss_bytes"]), child.max_rss_bytes)
    measurements = {
        "load_ms": report["load_ms"],
        "latency_ms": times,
        "peak_rss_bytes": peak_rss,
        "outputs": output_check.comparisons,
        "runtime_version": report["runtime_version"],
        "numpy_version": report["numpy_version"],
        "threads": report["threads"],
        "threads_set_by": report["threads_set_by"],
    }
    notes = [] if report["numpy_version"] else [finding("LF317", "The inputs were set as lists.")]
    notes += _sizes(goldens)
    findings = notes + output_check.findings + exceeded_gates(spec.gates or {}, times, peak_rss)
    return VerifyResult(findings, measurements, child.stderr)


def _sizes(goldens: List[Golden]) -> List[Finding]:
    """Say that cases of other sizes were run after the model was loaded anew: an application has to do the same."""
    seen = sorted({tuple(value.shape[1:] for value in golden.inputs.values()) for golden in goldens})
    if len(seen) < 2:
        return []
    text = " and ".join("; ".join(" x ".join(map(str, dims)) for dims in sizes) for sizes in seen[:3])
    return [
        finding("LF420", "The cases have %d input sizes (%s); the model was loaded anew for each." % (len(seen), text))
    ]


def _outputs(runs: List[Dict[str, Any]], work_dir: str) -> Runs:
    """Read what the child kept: the first run's outputs, and each later one whose bytes were new."""

    def load(entry: Dict[str, Any]) -> Array:
        with open(os.path.join(work_dir, os.path.basename(entry["file"])), "rb") as stream:
            return Array(entry["dtype"], tuple(entry["shape"]), stream.read())

    first = [load(entry) for entry in runs[0]["outputs"]]
    later = [(i, load(entry)) for run in runs[1:] for i, entry in enumerate(run["outputs"]) if entry["file"]]
    return first, later
