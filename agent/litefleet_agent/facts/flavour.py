"""Finds how a Paddle-Lite library was built: small or full, which operators, fp16.  Reads its bytes, never loads it.

The macro that registers an operator also defines a function `touch_op_NAME`.  Builds export these functions unless they were
stripped down to Java's entry points; where they are exported, the list of operators is exact.
That an operator's bare name is missing proves nothing: compilers turn short texts into instructions.
"""

import mmap
import re
from dataclasses import dataclass
from typing import FrozenSet, Optional

from ..formats.elf import ElfError, read_elf
from ..formats.files import mapped

_TOUCH = re.compile(rb"_Z(\d{1,3})touch_op_(\w{1,120})v\0")
_FULL_SONAME, _LIGHT_SONAME = "libpaddle_full_api_shared", "libpaddle_light_api_shared"
_FULL_BINDING, _LIGHT_BINDING = b"\0CxxPredictor\0", b"\0LightPredictor\0"  # classes of the Python binding
_ARM, _ARM_HALF = b"N6paddle4lite3arm4math", b"N6paddle4lite3arm4math4fp16"  # namespaces in exported names

# In every build, and in those with extra operators only, since 2.6.
_BASIC = frozenset(("conv2d", "pool2d", "softmax", "concat", "feed", "fetch"))
_EXTRA = frozenset(("while", "beam_search", "gru", "lookup_table", "sequence_pool", "crf_decoding"))


@dataclass(frozen=True)
class Flavour:
    """What one build of Paddle-Lite supports; empty or None where its bytes do not show it."""

    kind: str = ""  # "full" (reads source models too) or "tiny" (.nb files only)
    extra_ops: Optional[bool] = None  # whether the extra operators are in
    fp16: Optional[bool] = None  # whether fp16 kernels for ARM CPUs are in; None on x86
    ops: FrozenSet[str] = frozenset()  # every registered operator; empty = unknown


def describe_flavour(path: str) -> Flavour:
    """Describe the library at `path` (lite.so, libpaddle_light_api_shared.so); empty when it cannot be read.

    Reads the whole file once: a tenth of a second for 40 MB on a PC, so callers ask for it only when they check a model.
    """
    try:
        program = read_elf(path)
        with mapped(path) as data:
            ops = _operators(data)
            return Flavour(
                kind=_kind(data, program.soname),
                extra_ops=bool(ops & _EXTRA) if ops >= _BASIC else None,
                fp16=_half(data) if program.machine in ("aarch64", "armv7l") else None,
                ops=ops if ops >= _BASIC else frozenset(),
            )
    except (ElfError, OSError, ValueError):  # ValueError: an empty file
        return Flavour()


def _operators(data: mmap.mmap) -> FrozenSet[str]:
    """Return the operators whose `touch_op_` functions are exported."""
    pairs = ((int(found.group(1)), found.group(2)) for found in _TOUCH.finditer(data))
    return frozenset(name.decode("ascii") for length, name in pairs if length == len("touch_op_") + len(name))


def _kind(data: mmap.mmap, soname: str) -> str:
    if soname.startswith(_FULL_SONAME) or data.find(_FULL_BINDING) >= 0:
        return "full"
    if soname.startswith(_LIGHT_SONAME) or data.find(_LIGHT_BINDING) >= 0:
        return "tiny"
    return ""


def _half(data: mmap.mmap) -> Optional[bool]:
    if data.find(_ARM_HALF) >= 0:
        return True
    return False if data.find(_ARM) >= 0 else None
