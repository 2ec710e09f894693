"""The only module that uses Paddle-Lite: import, load, set inputs, run, read outputs.  Runs in a child process only.

A wrong call may kill the process, and one that returns proves nothing: outputs count only when they match a golden.
"""

import array
import importlib
import os
import sys
import time
from collections import OrderedDict
from typing import Any, Callable, Hashable, List, Mapping, Optional, Sequence, Tuple

from ..formats.npz import DTYPES, Array, native

__all__ = ["PaddleLite", "PaddleLiteError", "PredictorCache", "resident_bytes"]


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes, 0 when it cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class PredictorCache:
    """The predictor in use, and others for other input sizes.

    `load()` makes a predictor.  At most `most` are kept, and fewer where another one would not fit into `limit` bytes of
    memory (0 = no limit), judged by the largest one so far.
    """

    def __init__(
        self, load: Callable[[], Any], most: int = 1, limit: int = 0, resident: Callable[[], int] = resident_bytes
    ) -> None:
        self.loads = 0
        self.current: Any = None
        self._load, self._most, self._limit, self._resident = load, most, limit, resident
        self._sizes: Optional[Hashable] = None  # that the current one ran with; None: it has not run yet
        self._cached: "OrderedDict[Hashable, Any]" = OrderedDict()  # the latest last
        self._rss_before = self._largest = 0  # bytes resident before the latest load; that a predictor took

    def reload(self) -> None:
        """Drop all predictors, then make a new one: two at once would hold the weights twice."""
        self._cached.clear()
        self._make()

    def _make(self) -> None:
        self.current, self._sizes = None, None
        self._rss_before = self._resident()
        self.current = self._load()
        self.loads += 1

    def select(self, sizes: Hashable) -> None:
        """Make a predictor current that never ran with other input sizes than `sizes`."""
        if self.current is not None and self._sizes in (None, sizes):
            self._sizes = sizes
            return
        if self.current is not None:
            self._largest = max(self._largest, self._resident() - self._rss_before)
            self._cached[self._sizes] = self.current
        self.current = self._cached.pop(sizes, None)
        if self.current is None:
            self._evict()
            self._make()
        self._sizes = sizes

    def _evict(self) -> None:
        while len(self._cached) >= self._most:
            self._cached.popitem(last=False)
        if self._cached and self._over_memory():
            self._cached.popitem(last=False)  # the system may not get the memory back, but the next predictor uses it

    def _over_memory(self) -> bool:
        return bool(self._limit) and self._resident() + self._largest > self._limit


_LIST_SETTERS = {"float32": "f", "int32": "i", "int8": "b", "uint8": "B"}  # dtype -> array code
_PRECISIONS = {"INT32": "int32", "INT8": "int8", "UINT8": "uint8"}


class PaddleLiteError(Exception):
    """A step that failed without killing the process; `kind` is a short word that maps to a finding."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class PaddleLite:
    """One model in this process's Paddle-Lite.

    `runtime` is the folder that holds the paddlelite package, "" = what the interpreter has.  `threads` 0 and `power_mode`
    "" leave it to Paddle-Lite; both count only where the binding has them (ARM), see `threads_set_by` and `power_mode_set`.
    `sizes` is the number of input sizes for which the model stays loaded, within `memory_limit` bytes (0 = no limit).
    """

    kind = "binding"

    def __init__(
        self,
        runtime: str,
        nb: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        threads: int = 0,
        power_mode: str = "",
        sizes: int = 1,
        memory_limit: int = 0,
    ) -> None:
        self.runtime, self.nb = runtime, nb
        self.input_names, self.output_names = list(input_names), list(output_names)
        self.threads, self.power_mode = threads, power_mode
        self.threads_set_by = (
            "environment" if threads else ""
        )  # without a setter OpenMP's variable counts: the parent's
        self.power_mode_set = ""
        self.numpy: Any = None
        self._lite: Any = None
        self._cache = PredictorCache(self._create, sizes, memory_limit)
        self._order: List[str] = []
        self._output_count = 0

    def import_runtime(self) -> None:
        """Import numpy, if it is installed, and Paddle-Lite.  Raises PaddleLiteError "import"."""
        if self.runtime:
            sys.path.insert(0, self.runtime)
        try:
            self.numpy = importlib.import_module("numpy")
        except ImportError as err:
            # Without numpy all works; a broken one is an error, since Paddle-Lite itself imports it.
            if getattr(err, "name", "") != "numpy":
                raise PaddleLiteError("import", "numpy: %s" % err) from err
        try:
            self._lite = importlib.import_module("paddlelite.lite")
        except ImportError as err:
            raise PaddleLiteError("import", str(err)) from err

    def load(self) -> float:
        """Load the model and return the milliseconds that took.  Raises PaddleLiteError "inputs" when it has other inputs."""
        begun = time.perf_counter()
        self._cache.reload()
        return (time.perf_counter() - begun) * 1e3

    def _create(self) -> Any:
        config = self._lite.MobileConfig()
        config.set_model_from_file(self.nb)
        if self.threads and hasattr(config, "set_threads"):
            config.set_threads(self.threads)
            self.threads_set_by = "set_threads"
        mode = getattr(getattr(self._lite, "PowerMode", None), self.power_mode or "-", None)
        if mode is not None and hasattr(config, "set_power_mode"):
            config.set_power_mode(mode)
            self.power_mode_set = self.power_mode
        predictor = self._lite.create_paddle_predictor(config)
        # By index, never get_input_by_name: for an unknown name it returns an object around a null pointer.
        self._order = _names(predictor, "get_input_names") or self.input_names
        if sorted(self._order) != sorted(self.input_names):
            raise PaddleLiteError("inputs", "the loaded model has the inputs %s" % ", ".join(self._order))
        self._output_count = len(_names(predictor, "get_output_names")) or len(self.output_names)
        return predictor

    @property
    def _predictor(self) -> Any:
        return self._cache.current

    @property
    def loads(self) -> int:
        """Number of times that the model was loaded."""
        return self._cache.loads

    @property
    def runtime_version(self) -> str:
        """The version that the loaded Paddle-Lite reports, "" when it reports none."""
        return str(self._predictor.get_version()) if hasattr(self._predictor, "get_version") else ""

    @property
    def numpy_version(self) -> str:
        """The version of numpy, "" where there is none."""
        return str(self.numpy.__version__) if self.numpy is not None else ""

    @property
    def loaded_output_names(self) -> List[str]:
        """The outputs' names as the runtime reports them; empty when it does not."""
        return _names(self._predictor, "get_output_names")

    def set_inputs(self, values: Mapping[str, Array], check: bool = False) -> None:
        """Set every input; `check` reads each one back.

        Raises PaddleLiteError: "inputs" for an unsupported type, "numpy-2" or "round-trip" when an input reads back changed.
        """
        for index, name in enumerate(self._order):
            tensor = self._predictor.get_input(index)
            self._set(tensor, values[name])
            if check:
                self._round_trip(tensor, values[name])

    def select_predictor(self, values: Mapping[str, Array]) -> None:
        """Use a predictor that never ran with inputs that differ from these in more than their first dimension.

        Paddle-Lite 2.13rc0 (x86) keeps memory laid out for the earlier sizes: for the second of two image sizes it gave wrong
        outputs without an error, or corrupted its heap.  Another batch size gave right outputs in every test.
        """
        sizes = [(name, value.dtype, len(value.shape), value.shape[1:]) for name, value in sorted(values.items())]
        self._cache.select(tuple(sizes))

    def run(self) -> None:
        """Run the model on the inputs that were set last."""
        self._predictor.run()

    def outputs(self) -> List[Array]:
        """Return copies of the outputs, in the order of the model's fetches: the next run overwrites the originals."""
        return [self._get(index) for index in range(self._output_count)]

    def _set(self, tensor: Any, value: Array) -> None:
        data = native(value.data, DTYPES[value.dtype])
        if self.numpy is not None:
            tensor.from_numpy(self.numpy.frombuffer(data, value.dtype).reshape(value.shape).copy())
            return
        if value.dtype not in _LIST_SETTERS:
            raise PaddleLiteError("inputs", "without numpy an input of type %s cannot be set" % value.dtype)
        items = array.array(_LIST_SETTERS[value.dtype])
        items.frombytes(data)
        tensor.resize(list(value.shape))
        getattr(tensor, "set_%s_data" % value.dtype.replace("float32", "float"))(items.tolist())

    def _round_trip(self, tensor: Any, value: Array) -> None:
        """Read an input back: a binding that does not fit its numpy copies garbage."""
        got = self._read(tensor, value.dtype)
        if got.shape != value.shape or got.data != value.data:
            version = self.numpy_version
            raise PaddleLiteError("numpy-2" if version and int(version.split(".")[0]) >= 2 else "round-trip", version)

    def _get(self, index: int) -> Array:
        tensor = self._predictor.get_output(index)
        precision = str(tensor.precision()).rsplit(".", 1)[-1] if hasattr(tensor, "precision") else "FP32"
        return self._read(tensor, _PRECISIONS.get(precision, "float32"))

    def _read(self, tensor: Any, dtype: str) -> Array:
        """Copy a tensor out; `dtype` is only needed without numpy."""
        shape: Tuple[int, ...] = tuple(tensor.shape())
        if self.numpy is not None:
            value = self.numpy.ascontiguousarray(tensor.numpy())
            return Array(value.dtype.name, shape, native(value.tobytes(), value.dtype.itemsize))
        items = array.array(_LIST_SETTERS[dtype], getattr(tensor, "%s_data" % dtype.replace("float32", "float"))())
        return Array(dtype, shape, native(items.tobytes(), items.itemsize))


def _names(predictor: Any, method: str) -> List[str]:
    """Return the names of inputs or outputs that the binding reports, [] where it does not."""
    return [str(n) for n in getattr(predictor, method)()] if hasattr(predictor, method) else []
