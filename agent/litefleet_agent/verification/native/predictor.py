"""One model loaded by the C++ library: PaddlePredictor through its virtual functions, Tensor through exported ones."""

import ctypes
import weakref
from contextlib import contextmanager
from typing import Any, Iterator, List, Sequence, Tuple

from ...formats.npz import DTYPES, MAX_TOTAL, Array, native
from .config import MobileConfig
from .cxx import CxxLod, CxxShape, read_int64s, read_lod, read_text, read_texts, word_at
from .errors import NativeError, unknown_layout
from .library import Library
from .selfcheck import SLOTS, check_shared_pointer, check_slots, check_version, has_shrink_memory
from .symbols import DTYPE_OF, WORD, Functions, Result

_HOST = 1  # TargetType kHost: memory of the CPU
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_INDEXED = ctypes.CFUNCTYPE(Result, _POINTER, _INT)
_RETURNING = ctypes.CFUNCTYPE(Result, _POINTER)
_PLAIN = ctypes.CFUNCTYPE(None, _POINTER)
_TESTING = ctypes.CFUNCTYPE(ctypes.c_bool, _POINTER)


class Tensor:
    """An input or output of a predictor; `label` names it in sentences.  Valid until the predictor is released."""

    def __init__(self, functions: Functions, address: int, label: str) -> None:
        self._functions, self._address, self._label = functions, address, label

    def write(self, value: Array) -> None:
        """Resize the tensor and copy the items in.  Raises NativeError "inputs" for a type that the library lacks."""
        room = self._functions.write.get(value.dtype)
        if room is None:
            raise NativeError("inputs", "the library has no inputs of type %s (%s)" % (value.dtype, self._label))
        self._functions.resize(self._address, CxxShape(value.shape))
        target = room(self._address, _HOST)
        if value.data:
            if not target:
                raise NativeError(
                    "inputs", "the library allocated no memory for %d bytes (%s)" % (len(value.data), self._label)
                )
            ctypes.memmove(target, native(value.data, DTYPES[value.dtype]), len(value.data))

    def read(self) -> Array:
        """Return a copy of the items.  Raises NativeError "no-data", or "outputs" for what cannot be read."""
        initialized = self._functions.is_initialized
        shape = self.shape()
        # A detector that finds nothing resizes its output to no rows, and takes no memory for them.
        if initialized is not None and not initialized(self._address) and 0 not in shape:
            raise NativeError("no-data", "%s holds no data: no kernel wrote it" % self._label)
        precision = self._functions.precision(self._address)
        dtype = DTYPE_OF.get(precision)
        read = self._functions.read.get(dtype.name) if dtype is not None else None
        if dtype is None or read is None:
            raise NativeError(
                "outputs", "%s has a type that cannot be read (PrecisionType %d)" % (self._label, precision)
            )
        size = _bytes_of(shape, dtype.size, self._label)
        source = read(self._address)
        if size and not source:
            raise NativeError("no-data", "%s has no memory" % self._label)
        data = ctypes.string_at(source, size) if size else b""
        return Array(dtype.name, shape, native(data, dtype.size))

    def shape(self) -> Tuple[int, ...]:
        """Return the dimensions."""
        return read_int64s(self._functions.shape(self._address), self._functions.delete)

    def set_lod(self, levels: Sequence[Sequence[int]]) -> None:
        """Set the LoD: for each level the offsets at which its sequences begin, and the end.  Raises NativeError "inputs"."""
        if self._functions.set_lod is None:
            raise NativeError("inputs", "the library has no SetLoD (%s)" % self._label)
        for level in levels:
            if len(level) < 2 or level[0] != 0 or list(level) != sorted(level):
                raise NativeError(
                    "inputs", "a level of a LoD must rise from 0 (%s: %s)" % (self._label, list(level)[:9])
                )
        self._functions.set_lod(self._address, CxxLod(levels))

    def lod(self) -> List[List[int]]:
        """Return the LoD, [] when there is none or the library does not report it."""
        if self._functions.lod is None:
            return []
        return read_lod(self._functions.lod(self._address), self._functions.delete)


def _bytes_of(shape: Sequence[int], item: int, label: str) -> int:
    size = item
    for dim in shape:
        size = min(size * max(dim, 0), MAX_TOTAL + 1)
    if size > MAX_TOTAL or any(dim < 0 for dim in shape):
        raise NativeError("outputs", "%s has the shape %s; at most %d bytes are read" % (label, list(shape), MAX_TOTAL))
    return size


class Predictor:
    """A loaded model.  It is released, with its memory, when nobody refers to it any more.

    Raises NativeError "native" when the predictor's functions are not where they are known to be.
    """

    def __init__(self, library: Library, config: MobileConfig) -> None:
        self._library, self._functions = library, library.functions
        made = library.functions.create_predictor(config.address)
        self._address, control = made.words[0] or 0, made.words[1] or 0
        if not self._address:
            raise NativeError("native", "the library gave no predictor for the model")
        table = word_at(self._address)
        check_slots(library, table)
        self._slots = {name: word_at(table + WORD * slot) for name, slot in SLOTS.items()}
        self._get_input: Any = _INDEXED(self._slots["GetInput"])
        self._get_output: Any = _INDEXED(self._slots["GetOutput"])
        self._run: Any = _PLAIN(self._slots["Run"])
        if control and check_shared_pointer(library, control):
            weakref.finalize(self, _release, control).atexit = False
        self.version = check_version(self._text("GetVersion"))
        self.input_names = self._names("GetInputNames")
        self.output_names = self._names("GetOutputNames")
        self.can_shrink = has_shrink_memory(library, table, self.version)

    def _text(self, slot: str) -> bytes:
        return read_text(_RETURNING(self._slots[slot])(self._address), self._functions.delete)

    def _names(self, slot: str) -> List[str]:
        texts = read_texts(_RETURNING(self._slots[slot])(self._address), self._functions.delete)
        try:
            return [text.decode("utf-8") for text in texts]
        except UnicodeDecodeError as err:
            raise unknown_layout("a name is %r" % texts[0][:40], self.version) from err

    @contextmanager
    def input(self, index: int) -> Iterator[Tensor]:
        """Return the input at a position: a number outside the model's inputs would end the process."""
        with self._tensor(self._get_input, index, self.input_names, "the input") as tensor:
            yield tensor

    @contextmanager
    def output(self, index: int) -> Iterator[Tensor]:
        """Return the output at a position, likewise."""
        with self._tensor(self._get_output, index, self.output_names, "the output") as tensor:
            yield tensor

    @contextmanager
    def _tensor(self, get: Any, index: int, names: Sequence[str], what: str) -> Iterator[Tensor]:
        if not 0 <= index < len(names):
            raise NativeError("inputs", "the model has no %s %d" % (what.split()[-1], index))
        label = "%s %s" % (what, names[index][:80])
        address = get(self._address, index).words[0]
        if not address:
            raise NativeError("native", "the library gave no tensor for %s" % label)
        try:
            yield Tensor(self._functions, address, label)
        finally:
            self._functions.delete(address)

    def run(self) -> None:
        """Run the model on the inputs as they were last set.  What fails in it ends the process."""
        self._run(self._address)

    def shrink_memory(self) -> bool:
        """Have the library give back to the system what runs took; False where it cannot, or does not."""
        if not self.can_shrink:
            return False
        done = bool(_TESTING(self._slots["TryShrinkMemory"])(self._address))
        self._library.return_free_memory()
        return done


def _release(control: int) -> None:
    """Release a std::shared_ptr without another owner, by its control block: dispose of the object, destroy the block.

    What libstdc++ does in _Sp_counted_base::_M_release: that function is inline, so only some builds export it.
    """
    table = word_at(control)
    counts = (ctypes.c_int32 * 2).from_address(control + WORD)
    if tuple(counts) != (1, 1):
        return  # another owner holds it: its memory stays
    counts[0] = 0
    _PLAIN(word_at(table + 2 * WORD))(control)
    counts[1] = 0
    _PLAIN(word_at(table + 3 * WORD))(control)
