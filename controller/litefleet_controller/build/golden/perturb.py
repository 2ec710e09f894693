"""Damages a model's weights in known ways, so that a golden can be asked whether it would tell.

Parameters are read and written in pieces of some megabytes, so that a large model takes no more memory than a small one.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

from ...common.lazy import numpy as np
from ..conversion.params import ParamsReader, read_tensors
from ..conversion.program import Op, Program
from ..conversion.protobuf import fields

Weights: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"  # a text: numpy is not loaded yet
# Yields a tensor in pieces along its first axis, from the beginning at each call; yields the changed pieces.
Pieces: TypeAlias = Callable[[], Iterator[Weights]]
Change: TypeAlias = Callable[[Pieces], Iterator[Weights]]
_PIECE = 1 << 20  # items of a tensor that are in memory at once
# Operators that hand class scores on, so that the class axis before them is the class axis after them.
_KEEPS_CLASSES = frozenset(
    {
        "scale",
        "assign",
        "softmax",
        "log_softmax",
        "sigmoid",
        "arg_max",
        "top_k_v2",
        "top_k",
        "dropout",
        "cast",
        "relu",
        "bilinear_interp_v2",
        "nearest_interp_v2",
    }
)
_ENOUGH = 64  # weights that all are fp16 numbers by design: by chance one in 8,192 is
_MAX_STEPS = 64  # operators walked back from an output


@dataclass(frozen=True)
class Perturbation:
    """Parameters that are changed in one way; the combined file is of the original's size, and made when it is asked for.

    `harmless` changes are controls: a golden that rejects them is too strict for the precision it is used at.
    """

    name: str  # "noise", "scaled", "scaled_middle", "int8", "swapped"; harmless: "fp16", "tiny"
    sentence: str  # what was changed, for a report
    harmless: bool
    original: bytes | Path
    places: Mapping[str, _Place]
    changes: Callable[[], Mapping[str, Change]]

    @property
    def params(self) -> bytes:
        """The changed file."""
        out = io.BytesIO(_whole(self.original))
        self._change(out)
        return out.getvalue()

    def write(self, path: Path) -> None:
        """Write the changed file.  Raises: OSError."""
        if isinstance(self.original, Path):
            shutil.copyfile(self.original, path)
        else:
            path.write_bytes(self.original)
        with path.open("r+b") as out:
            self._change(out)

    def _change(self, out: IO[bytes]) -> None:
        """Replace the tensors' items in a copy of the original."""
        with _opened(self.original) as source:
            for name, change in self.changes().items():
                place = self.places[name]
                at = place.start
                for piece in change(place.pieces(source)):
                    data = piece.astype("<f4").tobytes()
                    out.seek(at)
                    out.write(data)
                    at += len(data)


@dataclass(frozen=True)
class Head:
    """The weights whose slices along `axis` are classes, and the bias that belongs to them ("" for none)."""

    weights: str
    axis: int
    bias: str
    classes: int


@dataclass(frozen=True)
class _Place:
    """Where a 32-bit float tensor's items are in the file."""

    dims: tuple[int, ...]
    start: int
    count: int

    def pieces(self, source: IO[bytes]) -> Pieces:
        """Return what reads the tensor: [rows, ...] of some rows each; one piece where it has a single dimension."""
        row = max(1, self.count // max(1, self.dims[0] if self.dims else 1))
        rows = max(1, _PIECE // row)
        dims = self.dims if len(self.dims) > 1 else (1, self.count)

        def read() -> Iterator[Weights]:
            for first in range(0, dims[0], rows) if self.count else ():
                count = min(rows, dims[0] - first)
                source.seek(self.start + 4 * row * first if len(self.dims) > 1 else self.start)
                items = np.frombuffer(source.read(4 * (self.count // dims[0]) * count), "<f4")
                yield items.reshape((count, *dims[1:]) if len(self.dims) > 1 else self.dims)

        return read


def perturbations(
    program: Program, params: bytes | Path, head: Head | None = None, classes: tuple[int, int] = (0, 1), seed: int = 0
) -> Iterator[Perturbation]:
    """Yield the perturbations of a combined parameters file, given as its bytes or as its path.

    `classes` are the two slices of `head` that change places; without a head, or where they are no slices of it, that
    perturbation is left out, as are all for parameters that hold no 32-bit floats.  Raises: ParamsError.
    """
    places = _places(program, params)
    weights = _weights(program, places)
    if not weights:
        return

    def of(name: str, sentence: str, harmless: bool, changes: Callable[[], Mapping[str, Change]]) -> Perturbation:
        return Perturbation(name, sentence, harmless, params, places, changes)

    last, middle = weights[-1], weights[len(weights) // 2]
    yield of("scaled", f"'{last}' times 1.01", False, lambda: {last: _times(1.01)})
    if middle != last:
        yield of("scaled_middle", f"'{middle}' times 1.01", False, lambda: {middle: _times(1.01)})
    noisy = "1 % noise on all weights"
    yield of("noise", noisy, False, lambda: dict.fromkeys(weights, _noise(np.random.RandomState(seed))))
    yield of("int8", "all weights rounded to 8 bits", False, lambda: dict.fromkeys(weights, _to_int8))
    exchange = _exchange(places, head, classes)
    swapped = of("swapped", f"classes {classes[0]} and {classes[1]} swapped", False, lambda: exchange)
    if _alters(swapped):
        yield swapped
    yield of("fp16", "all parameters rounded to fp16", True, lambda: dict.fromkeys(places, _each(_to_fp16)))
    yield of("tiny", f"'{last}' times 1.0001", True, lambda: {last: _times(1.0001)})


def _alters(perturbation: Perturbation) -> bool:
    """Return whether a perturbation changes any item."""
    with _opened(perturbation.original) as source:
        for name, change in perturbation.changes().items():
            pieces = perturbation.places[name].pieces(source)
            before = (np.array(piece) for piece in pieces())
            if any(not np.array_equal(old, new) for old, new in zip(before, change(pieces), strict=True)):
                return True
    return False


def weights_of(program: Program, params: bytes | Path) -> list[str]:
    """Return the 32-bit float tensors of two dimensions and more, in the order in which they are used last."""
    return _weights(program, _places(program, params))


def _weights(program: Program, places: Mapping[str, _Place]) -> list[str]:
    return [name for name in _in_order_of_use(program) if name in places and len(places[name].dims) >= 2]


def is_rounded_to_fp16(program: Program, reader: ParamsReader) -> bool:
    """Return whether fp16 holds every weight exactly, as in a model saved with fp16 weights.  Raises: ParamsError."""
    used, count = frozenset(_in_order_of_use(program)), 0
    for spec, tensor in zip(program.parameters, read_tensors(reader, halves=True), strict=False):
        if spec.name in used and tensor.dtype == "float32" and len(tensor.dims) >= 2:
            if not tensor.halves:
                return False
            count += tensor.size // 4
    return count >= _ENOUGH


def changed(program: Program, params: bytes, changes: Mapping[str, Callable[[Weights], Weights]]) -> bytes:
    """Return the parameters with tensors, by name, replaced by what the functions make of them.  Raises: ParamsError."""

    def whole(change: Callable[[Weights], Weights]) -> Change:
        return lambda pieces: iter([change(np.concatenate(list(pieces())))])

    made = {name: whole(change) for name, change in changes.items()}
    return Perturbation("", "", False, params, _places(program, params), lambda: made).params


def _opened(params: bytes | Path) -> BinaryIO:
    return params.open("rb") if isinstance(params, Path) else io.BytesIO(params)


def _whole(params: bytes | Path) -> bytes:
    return params.read_bytes() if isinstance(params, Path) else params


def _places(program: Program, params: bytes | Path) -> dict[str, _Place]:
    """Return where each 32-bit float parameter's items are, by name; names go with the file's order.  Raises: ParamsError."""
    found: dict[str, _Place] = {}
    with _opened(params) as stream:
        size = params.stat().st_size if isinstance(params, Path) else len(params)
        tensors = read_tensors(ParamsReader(iter([stream]), size))
        for spec, tensor in zip(program.parameters, tensors, strict=False):
            if tensor.dtype == "float32":
                found[spec.name] = _Place(tensor.dims, tensor.start, tensor.size // 4)
    return found


def _in_order_of_use(program: Program) -> list[str]:
    """Return the names that operators read, each once, in the order of their last use."""
    order: dict[str, None] = {}
    for op in program.details:
        for names in op.inputs.values():
            for name in names:
                order.pop(name, None)
                order[name] = None
    return list(order)


def _each(change: Callable[[Weights], Weights]) -> Change:
    return lambda pieces: map(change, pieces())


def _times(factor: float) -> Change:
    return _each(lambda items: items * np.float32(factor))


def _noise(random: np.random.RandomState) -> Change:
    return _each(lambda items: (items * (1 + 0.01 * random.standard_normal(items.shape))).astype("f4"))


def _to_fp16(items: Weights) -> Weights:
    """Round to fp16's 11 bits; values outside its range keep their own."""
    with np.errstate(over="ignore"):
        rounded = items.astype("f2").astype("f4")
    return np.where(np.isfinite(rounded), rounded, items)


def _to_int8(pieces: Pieces) -> Iterator[Weights]:
    """Round to 8 bits with one scale per output channel (the first axis of a filter, the last of a matrix), as opt does."""
    columns: Any = None  # the largest magnitude of each column of a matrix
    for items in pieces():
        if items.ndim > 2:
            break
        most = np.abs(items).max(axis=0, keepdims=True)
        columns = most if columns is None else np.maximum(columns, most)
    for items in pieces():
        axis = tuple(range(1, items.ndim))
        step = (np.abs(items).max(axis=axis, keepdims=True) if items.ndim > 2 else columns) / 127
        step[step == 0] = 1
        rounded: Weights = np.round(items / step) * step
        yield rounded


def _exchange(places: Mapping[str, _Place], head: Head | None, classes: tuple[int, int]) -> dict[str, Change]:
    """Return what exchanges two classes' slices of the head; nothing where they are no slices of it."""
    if head is None or head.weights not in places or not 0 <= min(classes) <= max(classes) < head.classes:
        return {}
    changes = {head.weights: _swap(classes, head.axis)}
    if head.bias in places and places[head.bias].count == head.classes:
        changes[head.bias] = _each(lambda items: _reordered(items.reshape(-1), classes, 0).reshape(items.shape))
        if len(places[head.bias].dims) > 1:  # in pieces along the first axis, which may not be the classes'
            whole = changes[head.bias]
            changes[head.bias] = lambda pieces: whole(lambda: iter([np.concatenate(list(pieces()))]))
    return changes


def _reordered(items: Weights, classes: tuple[int, int], axis: int) -> Weights:
    order = np.arange(items.shape[axis])
    order[list(classes)] = classes[::-1]
    return np.take(items, order, axis)


def _swap(classes: tuple[int, int], axis: int) -> Change:
    if axis:
        return _each(lambda items: _reordered(items, classes, axis))

    def rows(pieces: Pieces) -> Iterator[Weights]:
        kept: dict[int, Weights] = {}
        for first, items in _numbered(pieces):
            kept.update({row: np.array(items[row - first]) for row in classes if 0 <= row - first < len(items)})
        for first, items in _numbered(pieces):
            swapped = np.array(items)
            for row, other in (classes, classes[::-1]):
                if 0 <= row - first < len(items):
                    swapped[row - first] = kept[other]
            yield swapped

    return rows


def _numbered(pieces: Pieces) -> Iterator[tuple[int, Weights]]:
    """Yield each piece with the number of its first row."""
    first = 0
    for items in pieces():
        yield first, items
        first += len(items)


def find_head(program: Program, output: str) -> Head | None:
    """Return the weights that make an output's classes, None where the program does not show it for certain.

    The last operators before a classifier's or a segmentation model's output are walked back: whatever keeps the class axis,
    an addition of a parameter (the bias), and the matrix product or convolution that ends the walk.
    """
    made = {name: op for op in program.details for names in op.outputs.values() for name in names}
    shapes = {spec.name: spec.dims for spec in program.parameters}
    bias, name = "", output
    for _ in range(_MAX_STEPS):
        op = made.get(name)
        if op is None:
            return None
        if op.kind in _KEEPS_CLASSES:
            name = _first(op, "X")
        elif op.kind == "elementwise_add" and not bias:
            bias, name = _added(op, made, shapes), _first(op, "X")
            if not bias:
                return None
        else:
            return _head_of(op, shapes, bias)
    return None


def _first(op: Op, slot: str) -> str:
    return next(iter(op.inputs.get(slot, ())), "")


def _added(op: Op, made: Mapping[str, Op], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the parameter that an addition adds, reshaped or not; "" where it adds something else."""
    name = _first(op, "Y")
    shaped = made.get(name)
    if shaped is not None and shaped.kind in ("reshape2", "reshape", "unsqueeze2"):
        name = _first(shaped, "X")
    return name if name in shapes else ""


def _head_of(op: Op, shapes: Mapping[str, tuple[int, ...]], bias: str) -> Head | None:
    """Return the head that a matrix product or convolution is."""
    if op.kind in ("conv2d", "depthwise_conv2d"):
        slot, bias = "Filter", bias or _first(op, "Bias")
    elif op.kind in ("matmul_v2", "matmul", "mul"):
        slot = "Y"
    else:
        return None
    weights = _first(op, slot)
    dims = shapes.get(weights, ())
    if len(dims) < 2:
        return None
    axis = 0 if slot == "Filter" or _is_transposed(op) else len(dims) - 1
    return Head(weights, axis, bias, dims[axis])


def _is_transposed(op: Op) -> bool:
    """Return whether a matrix product takes its second factor transposed: then the classes are its first axis."""
    for name in ("trans_y", "transpose_Y"):
        attribute = op.attributes.get(name)
        if attribute is not None and any(number == 10 and value for number, value in fields(attribute)):
            return True
    return False


def classes_to_swap(outputs: Sequence[np.ndarray[Any, Any]], classes: int) -> tuple[int, int] | None:
    """Return two of a head's `classes` whose exchange changes the answers of all cases, None where none is found.

    From scores ([..., classes]): the first case's leading class and another case's, else the first case's second.  From
    labels (whole numbers): the two most frequent ones.
    """
    if all(value.dtype.kind in "iu" for value in outputs):
        labels = np.concatenate([value.astype(np.int64).reshape(-1) for value in outputs] or [np.zeros(0, np.int64)])
        counts = np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=2)
        most = np.argsort(-counts, kind="stable")[:2]
        return (int(most[0]), int(most[1])) if counts[most[0]] else None
    if not outputs or any(value.ndim < 1 or value.shape[-1] != classes or not value.size for value in outputs):
        return None
    ranks = [np.argsort(-value.reshape(-1, classes)[0].astype(np.float64), kind="stable")[:2] for value in outputs]
    first = int(ranks[0][0])
    others = [int(rank[0]) for rank in ranks[1:]] + [int(one) for one in ranks[0][1:]]
    return next(((first, other) for other in others if other != first), None)
