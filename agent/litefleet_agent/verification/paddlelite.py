"""The engine that drives Paddle-Lite through the Python binding of a wheel.

A wrong call may kill the process, and one that returns proves nothing: outputs count only when they match a golden.
"""

import array
import importlib
import sys
from typing import Any, List, Mapping, Optional, Tuple

from ..formats.checked import shortened
from ..formats.npz import DTYPES, Array, native
from .accelerators import apply_accelerators
from .engine import BINDING, Engine, PaddleLiteError

_LIST_SETTERS = {"float32": "f", "int32": "i", "int8": "b", "uint8": "B"}  # dtype -> array code
_ENUMS = {"set_opencl_tune": "CLTuneMode", "set_opencl_precision": "CLPrecisionType"}  # of the first argument
_PRECISIONS = {"INT32": "int32", "INT8": "int8", "UINT8": "uint8"}


class PaddleLite(Engine):
    """An engine whose `runtime` is the folder that holds the paddlelite package, "" = what the interpreter has.

    Settings count only where the binding has their functions, see `setting_reports`: threads and power mode on ARM alone.
    """

    kind = BINDING
    _lite: Any = None
    _output_count = 0

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
        else:
            self.numpy_version = str(getattr(self.numpy, "__version__", ""))
            if not self.numpy_version:  # a folder named numpy that an uninstalled one left: a namespace, and no numpy
                self.numpy = None
        try:
            self._lite = importlib.import_module("paddlelite.lite")
        except ImportError as err:
            raise PaddleLiteError("import", str(err)) from err

    def _create(self) -> Any:
        config = self._lite.MobileConfig()
        config.set_model_from_file(self.nb)
        self._configure(config)
        predictor = self._lite.create_paddle_predictor(config)
        # By index, never get_input_by_name: for an unknown name it returns an object around a null pointer.
        self._order = _names(predictor, "get_input_names") or self.input_names
        if sorted(self._order) != sorted(self.input_names):
            raise PaddleLiteError("inputs", "the loaded model has the inputs %s" % ", ".join(self._order))
        self._output_count = len(_names(predictor, "get_output_names")) or len(self.output_names)
        return predictor

    def _configure(self, config: Any) -> None:
        """Pass the settings to the configuration, and see what it gives back."""
        threads, power_mode = self.settings.threads, self.settings.power_mode
        if threads and hasattr(config, "set_threads"):
            config.set_threads(threads)
            self.threads_set_by = "set_threads"
        mode = getattr(getattr(self._lite, "PowerMode", None), power_mode or "-", None)
        if mode is not None and hasattr(config, "set_power_mode"):
            config.set_power_mode(mode)
            held = config.power_mode() if hasattr(config, "power_mode") else mode
            self.power_mode_set = str(getattr(held, "name", power_mode))
        if self.threads_set_by == "set_threads" and hasattr(config, "threads"):  # the power mode may have changed them
            self.threads_taken = int(config.threads())
        self.accelerator_reports = apply_accelerators(_Bound(self._lite, config), self.settings, self.cache_folder)

    @property
    def runtime_version(self) -> str:
        """The version that the loaded Paddle-Lite reports, "" when it reports none."""
        return str(self._predictor.get_version()) if hasattr(self._predictor, "get_version") else ""

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
            self._set_lod(name, tensor, values[name])
            if check:
                self._round_trip(tensor, values[name])

    def outputs(self) -> List[Array]:
        """Return copies of the outputs, in the order of the model's fetches: the next run overwrites the originals."""
        return [self._get(index) for index in range(self._output_count)]

    def output_lods(self) -> List[List[List[int]]]:
        """Return the sequences (LoD) of each output, [] for one without, and where the binding does not say."""
        tensors = [self._predictor.get_output(index) for index in range(self._output_count)]
        return [[list(level) for level in tensor.lod()] if hasattr(tensor, "lod") else [] for tensor in tensors]

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

    def _set_lod(self, name: str, tensor: Any, value: Array) -> None:
        """Set the sequences of an input; () clears those of the request before it."""
        if not value.lod and name not in self._with_lod:
            return
        if not hasattr(tensor, "set_lod"):
            raise PaddleLiteError(
                "inputs", "this Paddle-Lite's Python binding cannot set the sequences (LoD) of %s" % name[:80]
            )
        tensor.set_lod([list(level) for level in value.lod])
        self._with_lod.add(name)

    def _round_trip(self, tensor: Any, value: Array) -> None:
        """Read an input back: a binding that does not fit its numpy copies garbage."""
        got = self._read(tensor, value.dtype)
        if got.shape != value.shape or got.data != value.data:
            version = self.numpy_version
            raise PaddleLiteError("numpy-2" if version and int(version.split(".")[0]) >= 2 else "round-trip", version)

    def _get(self, index: int) -> Array:
        tensor = self._predictor.get_output(index)
        return self._read(tensor, _PRECISIONS.get(_precision(tensor), "float32"))

    def _read(self, tensor: Any, dtype: str) -> Array:
        """Copy a tensor out; `dtype` is only needed without numpy."""
        shape: Tuple[int, ...] = tuple(tensor.shape())
        if _precision(tensor) == "BOOL":  # numpy() of every published wheel gives zeros for it
            return Array("bool", shape, array.array("b", tensor.int8_data()).tobytes())
        if self.numpy is not None:
            value = self.numpy.ascontiguousarray(tensor.numpy())
            return Array(value.dtype.name, shape, native(value.tobytes(), value.dtype.itemsize))
        items = array.array(_LIST_SETTERS[dtype], getattr(tensor, "%s_data" % dtype.replace("float32", "float"))())
        return Array(dtype, shape, native(items.tobytes(), items.itemsize))


def _precision(tensor: Any) -> str:
    """Return the name of a tensor's PrecisionType, "FP32" where the binding does not say."""
    return str(tensor.precision()).rsplit(".", 1)[-1] if hasattr(tensor, "precision") else "FP32"


class _Bound:
    """The binding's functions of one configuration, as `accelerators.Setters`."""

    def __init__(self, lite: Any, config: Any) -> None:
        self._lite, self._config = lite, config

    def call(self, function: str, *arguments: object) -> str:
        """Call a function, and return "", or why that cannot be done."""
        known = getattr(self._config, function, None)
        if known is None:
            return "this binding has no %s" % function
        given: List[Any] = [list(value) if isinstance(value, tuple) else value for value in arguments]
        try:
            if function in _ENUMS:
                given[0] = getattr(self._lite, _ENUMS[function])(given[0])
            known(*given)
        except (AttributeError, TypeError, ValueError) as err:
            return "%s of this binding takes other arguments (%s)" % (function, shortened(str(err).split("\n")[0], 200))
        return ""

    def opencl_valid(self) -> Optional[bool]:
        """Return None: no published binding has a function that says whether OpenCL works."""
        return None

    def has_device(self, name: str) -> Optional[bool]:
        """Return whether it has this NNAdapter device; None where it does not say."""
        check = getattr(self._config, "check_nnadapter_device_name", None)
        return None if check is None else bool(check(name))

    def value_of(self, getter: str) -> object:
        """Return what a function gives back; None where the binding has none."""
        known = getattr(self._config, getter, None)
        return None if known is None else known()


def _names(predictor: Any, method: str) -> List[str]:
    """Return the names of inputs or outputs that the binding reports, [] where it does not."""
    return [str(n) for n in getattr(predictor, method)()] if hasattr(predictor, method) else []
