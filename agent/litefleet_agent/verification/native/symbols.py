"""The functions of Paddle-Lite's C++ interface that are called, by their mangled names (Itanium C++ ABI, libstdc++).

The names were read from the published x86_64 wheels (2.10, 2.12, 2.13rc0) and from an aarch64 library of v2.13-rc.  A name
contains every parameter's type, so a function of another signature or string ABI has another name and is simply missing.
"""

import ctypes
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from .errors import explain_missing

WORD = ctypes.sizeof(ctypes.c_void_p)  # bytes of a pointer
_LONG = ctypes.sizeof(ctypes.c_long) == 8
_INT64, _UINT64 = ("l", "m") if _LONG else ("x", "y")  # int64_t is long on 64-bit Linux, long long on 32-bit
_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_API = "6paddle8lite_api"

Function = Callable[..., Any]


class Result(ctypes.Structure):
    """Room for a C++ class that a function returns: vector (3 words), string (2 words and 16 bytes), shared_ptr, unique_ptr.

    More than 16 bytes, so that libffi passes a hidden pointer to the result, which is what C++ does for every class with a
    destructor, however small.  libffi copies the result afterwards: a pointer into it (a short string's) is stale.
    """

    _fields_ = [("words", ctypes.c_void_p * 8)]


class Dtype(NamedTuple):
    """One type of items: `name` as numpy has it, Paddle-Lite's PrecisionType, the mangled letter, bytes of one item."""

    name: str
    precision: int
    letter: str
    size: int


# PrecisionType as lite/api/paddle_place.h numbers it since 2.6.  float16 is only read (letter v: const void* data<void>()).
_DTYPES = (
    Dtype("float32", 1, "f", 4),
    Dtype("int8", 2, "a", 1),
    Dtype("int32", 3, "i", 4),
    Dtype("float16", 5, "v", 2),
    Dtype("bool", 6, "b", 1),
    Dtype("int64", 7, _INT64, 8),
    Dtype("int16", 8, "s", 2),
    Dtype("uint8", 9, "h", 1),
    Dtype("float64", 10, "d", 8),
)
DTYPE_OF: Dict[int, Dtype] = {dtype.precision: dtype for dtype in _DTYPES}
_REQUIRED_DTYPE = "float32"  # a build may lack the functions of the others as long as no model asks for them


class Functions(NamedTuple):
    """The library's functions, ready to call; None for an optional one that it lacks."""

    construct_config: Function  # (config, power mode, threads)
    set_model_from_file: Function  # (config, const std::string*)
    create_predictor: Function  # (config) -> shared_ptr
    resize: Function  # (tensor, const std::vector<int64_t>*)
    shape: Function  # (tensor) -> std::vector<int64_t>
    precision: Function  # (tensor) -> int
    delete: Function  # operator delete of the libstdc++ that the library uses
    read: Dict[str, Function]  # by dtype: (tensor) -> address of the data
    write: Dict[str, Function]  # by dtype: (tensor, target) -> address of room for the data
    is_initialized: Optional[Function] = None  # (tensor) -> bool
    set_lod: Optional[Function] = None  # (tensor, const std::vector<std::vector<uint64_t>>*)
    lod: Optional[Function] = None  # (tensor) -> the same
    set_x86_threads: Optional[Function] = None  # (config, threads): of MKL; only builds for x86 have it
    x86_threads: Optional[Function] = None  # (config) -> int
    accelerators: Mapping[str, Function] = {}  # those of _ACCELERATORS that it exports, by their plain names


_P, _INT = ctypes.c_void_p, ctypes.c_int
# field of Functions -> (mangled names, any of which will do; result; arguments)
_Signature = Tuple[Tuple[str, ...], Any, Tuple[Any, ...]]
_REQUIRED: Dict[str, _Signature] = {
    "construct_config": (
        ("_ZN%s10ConfigBaseC2ENS0_9PowerModeEi" % _API, "_ZN%s10ConfigBaseC1ENS0_9PowerModeEi" % _API),
        None,
        (_P, _INT, _INT),
    ),
    "set_model_from_file": (("_ZN%s12MobileConfig19set_model_from_fileERK%s" % (_API, _STRING),), None, (_P, _P)),
    "create_predictor": (
        ("_ZN%s21CreatePaddlePredictorINS0_12MobileConfigEEESt10shared_ptrINS0_15PaddlePredictorEERKT_" % _API,),
        Result,
        (_P,),
    ),
    "resize": (("_ZN%s6Tensor6ResizeERKSt6vectorI%sSaI%sEE" % (_API, _INT64, _INT64),), None, (_P, _P)),
    "shape": (("_ZNK%s6Tensor5shapeEv" % _API,), Result, (_P,)),
    "precision": (("_ZNK%s6Tensor9precisionEv" % _API,), _INT, (_P,)),
    "delete": (("_ZdlPv",), None, (_P,)),
}
_OPTIONAL: Dict[str, _Signature] = {
    "is_initialized": (("_ZNK%s6Tensor13IsInitializedEv" % _API,), ctypes.c_bool, (_P,)),
    "set_lod": (
        ("_ZN%s6Tensor6SetLoDERKSt6vectorIS2_I%sSaI%sEESaIS4_EE" % (_API, _UINT64, _UINT64),),
        None,
        (_P, _P),
    ),
    "lod": (("_ZNK%s6Tensor3lodEv" % _API,), Result, (_P,)),
    "set_x86_threads": (("_ZN%s10ConfigBase24set_x86_math_num_threadsEi" % _API,), None, (_P, _INT)),
    "x86_threads": (("_ZNK%s10ConfigBase20x86_math_num_threadsEv" % _API,), _INT, (_P,)),
}

_CONFIG = "_ZN%s10ConfigBase" % _API
_CONST_CONFIG = "_ZNK%s10ConfigBase" % _API
_SIZE, _SIZE_T = ("m", ctypes.c_uint64) if _LONG else ("j", ctypes.c_uint32)
# Settings of accelerators.  All are optional: the setters of NNAdapter are inline in the header and exported by few builds, and
# set_opencl_tune has had other parameters, which is another name.
_ACCELERATORS: Dict[str, _Signature] = {
    "IsOpenCLBackendValid": (("_ZN%s20IsOpenCLBackendValidEb" % _API,), ctypes.c_bool, (ctypes.c_bool,)),
    "set_opencl_tune": (
        ("%s15set_opencl_tuneENS0_10CLTuneModeERK%sSA_%s" % (_CONFIG, _STRING, _SIZE),),
        None,
        (_P, _INT, _P, _P, _SIZE_T),
    ),
    "set_opencl_precision": (("%s20set_opencl_precisionENS0_15CLPrecisionTypeE" % _CONFIG,), None, (_P, _INT)),
    "set_opencl_binary_path_name": (
        ("%s27set_opencl_binary_path_nameERK%sS9_" % (_CONFIG, _STRING),),
        None,
        (_P, _P, _P),
    ),
    "check_nnadapter_device_name": (
        ("%s27check_nnadapter_device_nameERK%s" % (_CONFIG, _STRING),),
        ctypes.c_bool,
        (_P, _P),
    ),
    "set_nnadapter_device_names": (
        ("%s26set_nnadapter_device_namesERKSt6vectorI%sSaIS8_EE" % (_CONFIG, _STRING),),
        None,
        (_P, _P),
    ),
    "set_nnadapter_context_properties": (
        ("%s32set_nnadapter_context_propertiesERK%s" % (_CONFIG, _STRING),),
        None,
        (_P, _P),
    ),
    "set_nnadapter_model_cache_dir": (
        ("%s29set_nnadapter_model_cache_dirERK%s" % (_CONFIG, _STRING),),
        None,
        (_P, _P),
    ),
    "nnadapter_device_names": (("%s22nnadapter_device_namesB5cxx11Ev" % _CONST_CONFIG,), _P, (_P,)),
    "nnadapter_context_properties": (("%s28nnadapter_context_propertiesB5cxx11Ev" % _CONST_CONFIG,), _P, (_P,)),
    "nnadapter_model_cache_dir": (("%s25nnadapter_model_cache_dirB5cxx11Ev" % _CONST_CONFIG,), _P, (_P,)),
}


def resolve(library: ctypes.CDLL, path: str) -> Functions:
    """Find the functions in a loaded library.  Raises NativeError "native" with what is missing, and why."""
    missing: List[str] = []
    found: Dict[str, Any] = {}
    for field, signature in _REQUIRED.items():
        function = _find(library, signature)
        if function is None:
            missing.append(signature[0][0])
        found[field] = function
    for field, signature in _OPTIONAL.items():
        found[field] = _find(library, signature)
    exported = {name: _find(library, signature) for name, signature in _ACCELERATORS.items()}
    found["accelerators"] = {name: function for name, function in exported.items() if function is not None}
    found["read"], found["write"] = _data_functions(library, missing)
    if missing:
        raise explain_missing(path, missing, lambda name: _find(library, ((name,), None, ())) is not None)
    return Functions(**found)


def _data_functions(library: ctypes.CDLL, missing: List[str]) -> Tuple[Dict[str, Function], Dict[str, Function]]:
    """Return data<T>() and mutable_data<T>() by dtype; those of rarer types may be absent."""
    read: Dict[str, Function] = {}
    write: Dict[str, Function] = {}
    for dtype in _DTYPES:
        wanted: List[Tuple[Dict[str, Function], str, Tuple[Any, ...]]] = []
        wanted.append((read, "_ZNK%s6Tensor4dataI%sEEPKT_v" % (_API, dtype.letter), (_P,)))
        if dtype.letter != "v":
            name = "_ZNK%s6Tensor12mutable_dataI%sEEPT_NS0_10TargetTypeE" % (_API, dtype.letter)
            wanted.append((write, name, (_P, _INT)))
        for functions, name, arguments in wanted:
            function = _find(library, ((name,), _P, arguments))
            if function is not None:
                functions[dtype.name] = function
            elif dtype.name == _REQUIRED_DTYPE:
                missing.append(name)
    return read, write


def _find(library: ctypes.CDLL, signature: _Signature) -> Optional[Function]:
    names, result, arguments = signature
    for name in names:
        try:
            function = getattr(library, name)
        except AttributeError:
            continue
        function.restype, function.argtypes = result, list(arguments)
        found: Function = function
        return found
    return None
