"""Chooses how a process drives Paddle-Lite: through the Python binding of a wheel, or natively through its C++ library.

Both are an Engine.  The binding is used where it fits the interpreter and its numpy; everywhere else the native
engine, which needs neither.
"""

import sys
from typing import Callable, Sequence

from ..facts import this_process
from ..facts.packages import find_package
from ..facts.runtime import binary_of, describe_runtime, python_tags
from ..formats.engine_settings import NOTHING_ASKED, EngineSettings
from .engine import Declared, Engine
from .native import NativeError, NativePaddleLite
from .paddlelite import PaddleLite


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
) -> Engine:
    """Return the engine for a model in this process; see Engine for the arguments.

    `inputs` are as the model's file declares them; the native engine checks what is set against them.  `on_stage` is called
    with the step that begins where the native engine tries something that may end the process.
    """
    names = [tensor.name for tensor in inputs]
    if binding_fits(runtime, this_process().tag) or not _has_library(runtime):
        return PaddleLite(runtime, nb, names, outputs, settings, sizes, memory_limit, cache)
    return NativePaddleLite(
        runtime, nb, names, outputs, settings, sizes, memory_limit, cache, declared=inputs, on_stage=on_stage
    )


def _has_library(runtime: str) -> bool:
    """Return whether there is a C++ library and the means to drive it; if not, the binding's import says what is missing."""
    try:
        from .native.library import find_library

        find_library(runtime)
    except (ImportError, NativeError):  # a minimal Python has no ctypes
        return False
    return True
