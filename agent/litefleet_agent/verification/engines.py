"""Chooses how a process drives Paddle-Lite: through the Python binding of a wheel, or natively through its C++ library.

Both are an Engine.  A new proof takes the native engine wherever the library can be driven by it, and a release keeps the
engine of its proof: its gates, limits and answers were measured with that one.
"""

import sys
from typing import Callable, Sequence

from ..facts import this_process
from ..facts.cxx_library import REMEDY_OF, interface_of
from ..facts.packages import find_package
from ..facts.runtime import binary_of, describe_runtime, python_tags
from ..formats.engine_settings import NOTHING_ASKED, EngineSettings
from .engine import BINDING, NATIVE, Declared, Engine, PaddleLiteError
from .native import NativeError, NativePaddleLite
from .paddlelite import PaddleLite

ONLY_BINDING = "only-binding"  # a wanted engine: no other, where that cannot be had


def binding_fits(runtime: str, tag: str) -> bool:
    """Return whether the binding in the folder `runtime` ("" = the interpreter's) works in an interpreter ("cp310").

    It does not without numpy, or with numpy 2 where it was built for an earlier one.  Tags that are unknown count as fitting.
    """
    own = [runtime] if runtime else []
    package, numpy = find_package("paddlelite", own or sys.path), find_package("numpy", own + sys.path)
    if not package.path or not numpy.path:
        return False
    tags = python_tags(package.path, binary_of(package.path))
    if tags and tag not in tags:
        return False
    major = numpy.version.partition(".")[0]
    new = major.isdigit() and int(major) >= 2
    return not new or describe_runtime(runtime or None).numpy_2_ready  # reads the whole library: only where it matters


def choose_engine(
    runtime: str,
    nb: str,
    inputs: Sequence[Declared],
    outputs: Sequence[str],
    settings: EngineSettings = NOTHING_ASKED,
    sizes: int = 1,
    memory_limit: int = 0,
    cache: str = "",
    on_stage: Callable[[str], None] = lambda words: None,
    wanted: str = BINDING,
) -> Engine:
    """Return the engine for a model in this process; see Engine for the arguments.

    `wanted` NATIVE or BINDING is taken where it can be had, else the other one; a binding in the place of the native engine
    has the reason in `not_native`.  `inputs` are as the model's file declares them; the native engine checks what is set
    against them.  `on_stage` is called with the step that begins where the native engine tries something that may end the
    process.

    Raises PaddleLiteError "no-binding" for ONLY_BINDING where the binding does not fit.
    """
    names = [tensor.name for tensor in inputs]
    arguments = (runtime, nb, names, outputs, settings, sizes, memory_limit, cache)
    reason = _native_problem(runtime) if wanted == NATIVE else ""
    if wanted != NATIVE or reason:
        fits = binding_fits(runtime, this_process().tag)
        if wanted == ONLY_BINDING and not fits:
            raise PaddleLiteError("no-binding", "the runtime has no binding for this interpreter and its numpy")
        if fits or not _has_library(runtime):
            binding = PaddleLite(*arguments)
            binding.not_native = reason
            return binding
    return NativePaddleLite(*arguments, declared=inputs, on_stage=on_stage)


def _native_problem(runtime: str) -> str:
    """Return why the native engine cannot drive the library in `runtime`, as far as its bytes tell; "" where it can."""
    try:
        from .native.library import find_library

        path = find_library(runtime)
    except ImportError as error:  # a minimal Python
        return "this Python has no ctypes (%s)" % error
    except NativeError as error:
        return str(error)
    return REMEDY_OF.get(interface_of(path), "").partition(". ")[0]


def _has_library(runtime: str) -> bool:
    """Return whether there is a C++ library and the means to drive it; if not, the binding's import says what is missing."""
    try:
        from .native.library import find_library

        find_library(runtime)
    except (ImportError, NativeError):  # a minimal Python has no ctypes
        return False
    return True
