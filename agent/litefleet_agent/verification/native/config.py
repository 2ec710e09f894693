"""Paddle-Lite's MobileConfig, in memory of ours: its size and the place of its file name are found at run time.

Its constructor and most of its setters are inline, so no library exports them.  What is exported is the constructor of its
base class, ConfigBase (457 bytes in 2.10, 480 in 2.12, 528 in 2.13 on x86_64, other sizes on 32 bits), and
set_model_from_file.  Both are called on prepared memory, and what they change tells where things are:

- the base class ends at the last byte that its constructor wrote;
- set_model_from_file assigns to a std::string.  In memory where every word holds one and the same pointer, whatever place
  is taken for that string looks like one with much room, so that the assignment writes the characters to that pointer's
  target and their number into one word: the string's second.
"""

import ctypes
import os
import struct
from typing import Optional

from ...formats.engine_settings import POWER_MODES, EngineSettings
from ..accelerators import apply_accelerators
from .cxx import STRING_SIZE, CxxString, CxxTexts, empty_string_at, text_at, texts_at, word_at
from .errors import NativeError, unknown_layout
from .symbols import WORD, Functions

_MODES = {"LITE_POWER_" + word: number for number, word in enumerate(POWER_MODES)}  # lite/api/paddle_place.h
NO_BIND = 3  # what Paddle-Lite uses by default
_ROOM = 8192  # bytes that are prepared
_LARGEST = 4096  # bytes that the base class may take
_BETWEEN = 64  # bytes that may lie between the base class and the file name: two small fields, or a pointer and a size
_MOST_THREADS = 1024
_MARK = 0xA5  # what the constructor is not expected to write as a last byte
_NAME = b"/find/where/this/name/goes"  # longer than a short string; its length is what is looked for


class MobileConfig:
    """The configuration of predictors that load one file.

    `threads_set_by` says which function took the number of threads, `threads_taken` how many, `power_mode_taken` which mode
    ("" and 0 where nothing took them, or nothing was asked for), `accelerator_reports` what came of the other settings.
    It is never destroyed: its strings and lists cost some hundred bytes, once for an engine.
    """

    def __init__(self, functions: Functions, nb: str, settings: EngineSettings, cache: str = "") -> None:
        threads, power_mode = settings.threads, settings.power_mode
        if power_mode and power_mode not in _MODES:
            text = "%s is no power mode of Paddle-Lite; there are %s"
            raise NativeError("native", text % (power_mode, ", ".join(_MODES)))
        self.threads_set_by = self.power_mode_taken = ""
        self.threads_taken = 0
        name_at = _find_name(functions)
        self._memory = _Memory(bytes([_MARK]) * _ROOM)
        self.address = self._memory.address
        functions.construct_config(self.address, _MODES.get(power_mode, NO_BIND), threads or 1)
        self.base_size = self._check_base(name_at)
        self._finish(functions, name_at, nb)
        if functions.set_x86_threads is None:
            self._see_taken(threads, power_mode)
        elif threads:
            self._set_x86_threads(functions, threads)
        self.accelerator_reports = apply_accelerators(_Exported(functions, self.address), settings, cache)

    def _check_base(self, name_at: int) -> int:
        """Return the size of the base class.  Raises NativeError when it does not fit the file name's place."""
        size = len(ctypes.string_at(self.address, _ROOM).rstrip(bytes([_MARK])))
        if not STRING_SIZE <= size <= _LARGEST or not size <= name_at <= size + _BETWEEN:
            raise unknown_layout("ConfigBase takes %d bytes, and the file's name is at %d" % (size, name_at))
        return size

    def _finish(self, functions: Functions, name_at: int, nb: str) -> None:
        """Do what the inline constructor does: all other members are zero, the strings empty; then set the file."""
        ctypes.memset(self.address + self.base_size, 0, _ROOM - self.base_size)
        empty_string_at(self.address + name_at)
        path = os.fsencode(nb)
        functions.set_model_from_file(self.address, CxxString(path))
        if text_at(self.address + name_at) != path:
            raise unknown_layout("the configuration does not hold the file's name that was set")

    def _see_taken(self, threads: int, power_mode: str) -> None:
        """Check how the constructor of a build for ARM stored the settings.

        It takes no more threads than there are cores (of the kind that the mode names), and another mode for one that the
        cores do not have.  The two fields follow the model's folder, the first std::string, in all versions.
        """
        count, mode = struct.unpack("@ii", ctypes.string_at(self.address + STRING_SIZE, 8))
        names = [name for name, number in _MODES.items() if number == mode]
        if not names or not 0 < count <= _MOST_THREADS:
            return
        # 1 is also what a constructor leaves there that takes nothing.
        if count == threads or 1 < count < threads or (threads and os.cpu_count() == 1):
            self.threads_set_by, self.threads_taken = "set_threads", count
        if power_mode:
            self.power_mode_taken = names[0]

    def _set_x86_threads(self, functions: Functions, threads: int) -> None:
        """Set MKL's threads.

        A build for x86 sets them at each load to this number, 1 unless it was set, whatever the environment says: measured on
        the wheels of 2.12 and 2.13rc0.
        """
        assert functions.set_x86_threads is not None
        functions.set_x86_threads(self.address, threads)
        if functions.x86_threads is not None and functions.x86_threads(self.address) == threads:
            self.threads_set_by, self.threads_taken = "set_x86_math_num_threads", threads


class _Exported:
    """The functions of one configuration that the library exports, as `accelerators.Setters`."""

    def __init__(self, functions: Functions, address: int) -> None:
        self._known, self._address = functions.accelerators, address

    def call(self, function: str, *arguments: object) -> str:
        """Call a function, and return "", or that the library does not export it."""
        known = self._known.get(function)
        if known is None:
            return "this library does not export %s" % function
        known(self._address, *[_cxx(value) for value in arguments])
        return ""

    def opencl_valid(self) -> Optional[bool]:
        """Return what IsOpenCLBackendValid says; None where it is not exported."""
        known = self._known.get("IsOpenCLBackendValid")
        return None if known is None else bool(known(False))

    def has_device(self, name: str) -> Optional[bool]:
        """Return whether it has this NNAdapter device; None where it does not say."""
        known = self._known.get("check_nnadapter_device_name")
        return None if known is None else bool(known(self._address, CxxString(name.encode("ascii"))))

    def value_of(self, getter: str) -> object:
        """Return what a function gives back: a reference to a text or to a list of texts; None where it is not exported."""
        known = self._known.get(getter)
        if known is None:
            return None
        if getter == "nnadapter_device_names":
            return [text.decode("utf-8", "replace") for text in texts_at(known(self._address))]
        return text_at(known(self._address)).decode("utf-8", "replace")


def _cxx(value: object) -> object:
    """Return a value as the C++ function takes it: std::string, std::vector<std::string>, or a number."""
    if isinstance(value, str):
        return CxxString(os.fsencode(value))
    return CxxTexts([os.fsencode(text) for text in value]) if isinstance(value, tuple) else value


class _Memory:
    """Memory with that content, aligned as operator new aligns."""

    def __init__(self, content: bytes) -> None:
        self._buffer = ctypes.create_string_buffer(len(content) + 16)
        self.address = (ctypes.addressof(self._buffer) + 15) // 16 * 16
        ctypes.memmove(self.address, content, len(content))


def _find_name(functions: Functions) -> int:
    """Return at how many bytes from a MobileConfig's begin its file name is, a std::string.  Raises NativeError."""
    target = _Memory(bytes(len(_NAME) + 1))
    word = struct.pack("@N", target.address)
    memory = _Memory(word * (_ROOM // WORD))
    functions.set_model_from_file(memory.address, CxxString(_NAME))
    changed = [at for at in range(0, _ROOM, WORD) if word_at(memory.address + at) != target.address]
    lengths = [at for at in changed if word_at(memory.address + at) == len(_NAME)]
    if len(changed) != 1 or changed != lengths or ctypes.string_at(target.address, len(_NAME)) != _NAME:
        seen = "set_model_from_file changed %d words, %d of them to the name's length" % (len(changed), len(lengths))
        raise unknown_layout(seen)
    return lengths[0] - WORD
