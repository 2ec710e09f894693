"""The one contact with Paddle-Lite: import, load, set inputs, run, read outputs.  Only ever used in a child process.

A wrong step may kill the process, and a clean one proves nothing: what comes out counts only against a golden.
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
    """Return how much memory this process holds, 0 when that can't be told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class PredictorCache:
    """One predictor at work, and others set aside.

    `load()` makes another one.  At most `most` are held, and fewer where another one would not fit into `limit` bytes of
    memory (0 = no limit), by what the largest so far took.
    """

    def __init__(
        self, load: Callable[[], Any], most: int = 1, limit: int = 0, resident: Callable[[], int] = resident_bytes
    ) -> None:
        self.loads = 0
        self.current: Any = None
        self._load, self._most, self._limit, self._resident = load, most, limit, resident
        self._sizes: Optional[Hashable] = None  # that the current one ran with; None = it has not run yet
        self._cached: "OrderedDict[Hashable, Any]" = OrderedDict()  # the latest last
        self._rss_before = self._largest = 0  # bytes resident before the latest load; that a predictor took

    def reload(self) -> None:
        """Make a new one and let go of all others: before, since a second one beside it would hold the weights twice."""
        self._cached.clear()
        self._make()

    def _make(self) -> None:
        self.current, self._sizes = None, None
        self._rss_before = self._resident()
        self.current = self._load()
        self.loads += 1

    def select(self, sizes: Hashable) -> None:
        """Have a predictor at work that never ran with other sizes than these."""
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
            self._cached.popitem(last=False)  # the system may not get that back, but the next one uses it

    def _over_memory(self) -> bool:
        return bool(self._limit) and self._resident() + self._largest > self._limit


_LIST_SETTERS = {"float32": "f", "int32": "i", "int8": "b", "uint8": "B"}  # dtype -> array code
_PRECISIONS = {"INT32": "int32", "INT8": "int8", "UINT8": "uint8"}


class PaddleLiteError(Exception):
    """A step that failed without killing the process; `kind` is a short word that stands for a finding."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class PaddleLite:
    """One model in this process's Paddle-Lite.

    `runtime` is the folder that holds the paddlelite package, "" = what the interpreter has.  `threads` 0 and `power_mode`
    "" leave it to Paddle-Lite; both count only where the binding has them (ARM), as `threads_set_by` and `power_mode_set` tell.
    `sizes` is for how many sizes of its inputs the model stays loaded, as far as they fit into `memory_limit` bytes (0 = any).
    """

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
        """Import numpy, where there is one, and Paddle-Lite.  Raises EngineError "import"."""
        if self.runtime:
            sys.path.insert(0, self.runtime)
        try:
            self.numpy = importlib.import_module("numpy")
        except ImportError as err:
            # Absent is fine; present and broken is not, since Paddle-Lite itself would trip over it.
            if getattr(err, "name", "") != "numpy":
                raise PaddleLiteError("import", "numpy: %s" % err) from err
        try:
            self._lite = importlib.import_module("paddlelite.lite")
        except ImportError as err:
            raise PaddleLiteError("import", str(err)) from err

    def load(self) -> float:
        """Load the model and return the milliseconds it took.  Raises EngineError "inputs" when its inputs are others."""
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
        # By index, never get_input_by_name: for a name that is not there it returns an object around a null pointer.
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
        """How many times the model was loaded."""
        return self._cache.loads

    @property
    def runtime_version(self) -> str:
        """What the loaded Paddle-Lite calls itself, "" when it does not say."""
        return str(self._predictor.get_version()) if hasattr(self._predictor, "get_version") else ""

    @property
    def numpy_version(self) -> str:
        """The version of numpy, "" where there is none."""
        return str(self.numpy.__version__) if self.numpy is not None else ""

    @property
    def loaded_output_names(self) -> List[str]:
        """The outputs' names as the runtime tells them; empty when it does not."""
        return _names(self._predictor, "get_output_names")

    def set_inputs(self, values: Mapping[str, Array], check: bool = False) -> None:
        """Set every input.  `check` reads each back.

        Raises EngineError: "inputs" for a type that can't be set, "numpy-2" or "round-trip" when one reads back otherwise.
        """
        for index, name in enumerate(self._order):
            tensor = self._predictor.get_input(index)
            self._set(tensor, values[name])
            if check:
                self._round_trip(tensor, values[name])

    def select_predictor(self, values: Mapping[str, Array]) -> None:
        """Turn to a predictor that never ran with inputs that differ in more than their first dimension from these.

        Paddle-Lite 2.13rc0 (x86) keeps memory laid out for the earlier sizes: it gave wrong answers without a word, or broke
        its heap, for the second of two image sizes.  Another batch size came out right in all that was tried.
        """
        sizes = [(name, value.dtype, len(value.shape), value.shape[1:]) for name, value in sorted(values.items())]
        self._cache.select(tuple(sizes))

    def run(self) -> None:
        """Run the model on the inputs as they were last set."""
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
        """Read an input back before anything is believed: a binding that does not fit its numpy copies garbage."""
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
    """Return what the binding tells of inputs or outputs, [] where it does not."""
    return [str(n) for n in getattr(predictor, method)()] if hasattr(predictor, method) else []
