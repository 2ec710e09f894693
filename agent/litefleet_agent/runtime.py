"""The one contact with Paddle-Lite.  Runs only in a child: reads a JSON job on stdin, leaves result.json in a folder.

Paddle-Lite prints to stdout and stderr as it likes, so neither carries anything of ours.
"""

import array
import hashlib
import importlib
import json
import os
import sys
import time
from typing import Any, Dict, List, Sequence, Tuple

from .child import die_with_parent
from .npz import DTYPES, Array, native, read_npz

__all__ = ["RESULT", "STAGE", "main"]

RESULT = "result.json"
STAGE = "stage"  # what the child was at when it died, in words
_LIST_SETTERS = {"float32": "f", "int32": "i", "int8": "b", "uint8": "B"}  # dtype -> array code
_KEPT_RUNS = 3  # differing runs of one case whose bytes are kept


class RunError(Exception):
    """A step that failed without killing the process; `kind` is a short word the parent maps to a finding."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def main() -> int:
    """Do the job that stdin describes; 0 when result.json holds figures, 3 when it holds an error."""
    job = json.load(sys.stdin)
    die_with_parent(job["parent"])
    try:
        result = _Run(job).run()
        code = 0
    except RunError as err:
        result, code = _error(err.kind, str(err)), 3
    except Exception as err:  # the binding raises what it likes, and the parent wants a sentence
        result, code = _error("unexpected", "%s: %s" % (type(err).__name__, err)), 3
    _write(os.path.join(job["work"], RESULT), json.dumps(result).encode("ascii"))
    sys.stdout.flush()
    # Destructors of a half-broken runtime may crash after the work is done; nothing here needs them.
    os._exit(code)


def _error(kind: str, text: str) -> Dict[str, Any]:
    return {"error": {"kind": kind, "text": text[:2000]}}


def _write(path: str, data: bytes) -> None:
    with open(path + ".tmp", "wb") as stream:
        stream.write(data)
    os.replace(path + ".tmp", path)


class _Run:
    """One model, loaded once, run for every case."""

    def __init__(self, job: Dict[str, Any]) -> None:
        self.job = job
        self.numpy: Any = None
        self.predictor: Any = None
        self.threads_set_by = "environment" if job["threads"] else ""

    def run(self) -> Dict[str, Any]:
        """Return the figures of all cases.  Raises RunError."""
        self._stage("importing Paddle-Lite")
        lite = self._import()
        self._stage("loading the model")
        begun = time.perf_counter()
        self.predictor = self._load(lite)
        load_ms = (time.perf_counter() - begun) * 1e3
        outputs = self._output_count()
        cases = [self._case(number, path, outputs) for number, path in enumerate(self.job["inputs"])]
        return {
            "load_ms": load_ms,
            "cases": cases,
            "peak_rss_bytes": _peak_rss(),
            "runtime_version": self._version(),
            "numpy_version": self.numpy.__version__ if self.numpy else "",
            "output_names": self._names("get_output_names"),
            "threads": self.job["threads"],
            "threads_set_by": self.threads_set_by,
        }

    def _stage(self, words: str) -> None:
        _write(os.path.join(self.job["work"], STAGE), words.encode("utf-8"))

    def _import(self) -> Any:
        if self.job["runtime"]:
            sys.path.insert(0, self.job["runtime"])
        try:
            self.numpy = importlib.import_module("numpy")
        except ImportError as err:
            # Absent is fine; present and broken is not, since Paddle-Lite itself would trip over it.
            if getattr(err, "name", "") != "numpy":
                raise RunError("import", "numpy: %s" % err) from err
        try:
            return importlib.import_module("paddlelite.lite")
        except ImportError as err:
            raise RunError("import", str(err)) from err

    def _load(self, lite: Any) -> Any:
        config = lite.MobileConfig()
        config.set_model_from_file(self.job["nb"])
        # Bound on ARM only; elsewhere OpenMP's variable counts, which the parent set.
        if self.job["threads"] and hasattr(config, "set_threads"):
            config.set_threads(self.job["threads"])
            self.threads_set_by = "set_threads"
        return lite.create_paddle_predictor(config)

    def _version(self) -> str:
        return str(self.predictor.get_version()) if hasattr(self.predictor, "get_version") else ""

    def _names(self, method: str) -> List[str]:
        return [str(n) for n in getattr(self.predictor, method)()] if hasattr(self.predictor, method) else []

    def _output_count(self) -> int:
        return len(self._names("get_output_names")) or len(self.job["output_names"])

    def _case(self, number: int, path: str, outputs: int) -> Dict[str, Any]:
        self._stage("setting the inputs of case %d" % (number + 1))
        held = read_npz(path)
        tensors = self._tensors([(name, held[name]) for name in self.job["input_names"]])
        for tensor, value in tensors:
            self._set(tensor, value)
            self._round_trip(tensor, value)
        self._stage("running case %d" % (number + 1))
        runs: List[Dict[str, Any]] = []
        seen: Dict[str, bool] = {}
        for turn in range(-self.job["warmup"], self.job["runs"]):
            for tensor, value in tensors:  # again each time: kernels may work in place
                self._set(tensor, value)
            begun = time.perf_counter()
            self.predictor.run()
            ms = (time.perf_counter() - begun) * 1e3
            if turn >= 0:
                # Copied at once: what the predictor hands out is overwritten by its next run.
                values = [self._get(i) for i in range(outputs)]
                runs.append({"ms": ms, "outputs": self._keep(number, turn, values, seen)})
        return {"runs": runs}

    def _tensors(self, inputs: Sequence[Tuple[str, Array]]) -> List[Tuple[Any, Array]]:
        names = self._names("get_input_names")
        if names and sorted(names) != sorted(name for name, _ in inputs):
            raise RunError("inputs", "the loaded model has the inputs %s" % ", ".join(names))
        # By index, never get_input_by_name: for a name that is not there it returns an object around a null pointer.
        order = names or [name for name, _ in inputs]
        return [(self.predictor.get_input(order.index(name)), value) for name, value in inputs]

    def _set(self, tensor: Any, value: Array) -> None:
        data = native(value.data, DTYPES[value.dtype])
        if self.numpy is not None:
            tensor.from_numpy(self.numpy.frombuffer(data, value.dtype).reshape(value.shape).copy())
            return
        if value.dtype not in _LIST_SETTERS:
            raise RunError("inputs", "without numpy an input of type %s cannot be set" % value.dtype)
        items = array.array(_LIST_SETTERS[value.dtype])
        items.frombytes(data)
        tensor.resize(list(value.shape))
        getattr(tensor, "set_%s_data" % value.dtype.replace("float32", "float"))(items.tolist())

    def _round_trip(self, tensor: Any, value: Array) -> None:
        """Read an input back before anything is believed: a binding that does not fit its numpy copies garbage."""
        got = self._read(tensor, value.dtype)
        if got.shape != value.shape or got.data != value.data:
            version = self.numpy.__version__ if self.numpy else ""
            raise RunError("numpy-2" if version and int(version.split(".")[0]) >= 2 else "round-trip", version)

    def _get(self, index: int) -> Array:
        tensor = self.predictor.get_output(index)
        precision = str(tensor.precision()).rsplit(".", 1)[-1] if hasattr(tensor, "precision") else "FP32"
        return self._read(tensor, {"INT32": "int32", "INT8": "int8", "UINT8": "uint8"}.get(precision, "float32"))

    def _read(self, tensor: Any, dtype: str) -> Array:
        """Copy a tensor out; `dtype` is only needed without numpy."""
        if self.numpy is not None:
            value = self.numpy.ascontiguousarray(tensor.numpy())
            return Array(value.dtype.name, tuple(tensor.shape()), native(value.tobytes(), value.dtype.itemsize))
        items = array.array(_LIST_SETTERS[dtype], getattr(tensor, "%s_data" % dtype.replace("float32", "float"))())
        return Array(dtype, tuple(tensor.shape()), native(items.tobytes(), items.itemsize))

    def _keep(self, number: int, turn: int, values: List[Array], seen: Dict[str, bool]) -> List[Dict[str, Any]]:
        kept = []
        for index, value in enumerate(values):
            digest = hashlib.sha256(value.data).hexdigest()
            entry: Dict[str, Any] = {"dtype": value.dtype, "shape": list(value.shape), "sha256": digest, "file": ""}
            key = "%d %s" % (index, digest)
            if key not in seen and sum(k.startswith("%d " % index) for k in seen) <= _KEPT_RUNS:
                seen[key] = True
                entry["file"] = "case%d-run%d-out%d.bin" % (number, turn, index)
                _write(os.path.join(self.job["work"], entry["file"]), value.data)
            kept.append(entry)
        return kept


def _peak_rss() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
