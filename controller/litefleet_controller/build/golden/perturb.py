"""Damages a model's weights in known ways, so that a golden can be asked whether it would tell: pure, bytes to bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ...common.lazy import numpy as np
from ..conversion.params import read_params
from ..conversion.program import Op, Program
from ..conversion.protobuf import fields

Weights: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"  # a text: numpy is not loaded yet
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
    """Parameters that were changed in one way: a whole combined file, of the original's size.

    `harmless` changes are controls: a golden that rejects them is too strict for the precision it is used at.
    """

    name: str  # "noise", "scaled", "scaled_middle", "int8", "swapped"; harmless: "fp16", "tiny"
    sentence: str  # what was changed, for a report
    harmless: bool
    params: bytes


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


def perturbations(
    program: Program, params: bytes, head: Head | None = None, classes: tuple[int, int] = (0, 1), seed: int = 0
) -> Iterator[Perturbation]:
    """Yield the perturbed copies of a combined parameters file, one at a time (each as large as the file).

    `classes` are the two slices of `head` that change places; without a head, or where they are no slices of it, that
    perturbation is left out, as are all for parameters that hold no 32-bit floats.  Raises: ParamsError.
    """
    places, weights = _places(program, params), weights_of(program, params)
    if not weights:
        return
    last, middle = weights[-1], weights[len(weights) // 2]
    random = np.random.RandomState(seed)
    yield Perturbation("scaled", f"'{last}' times 1.01", False, _changed(params, places, {last: _times(1.01)}))
    if middle != last:
        half = _changed(params, places, {middle: _times(1.01)})
        yield Perturbation("scaled_middle", f"'{middle}' times 1.01", False, half)
    noisy = dict.fromkeys(weights, _noise(random))
    yield Perturbation("noise", "1 % noise on all weights", False, _changed(params, places, noisy))
    rounded = dict.fromkeys(weights, _to_int8)
    yield Perturbation("int8", "all weights rounded to 8 bits", False, _changed(params, places, rounded))
    swapped = _swapped(params, places, head, classes)
    if swapped:
        yield Perturbation("swapped", f"classes {classes[0]} and {classes[1]} swapped", False, swapped)
    halves = dict.fromkeys(places, _to_fp16)
    yield Perturbation("fp16", "all parameters rounded to fp16", True, _changed(params, places, halves))
    tiny = {last: _times(1.0001)}
    yield Perturbation("tiny", f"'{last}' times 1.0001", True, _changed(params, places, tiny))


def weights_of(program: Program, params: bytes) -> list[str]:
    """Return the 32-bit float tensors of two dimensions and more, in the order in which they are used last."""
    places = _places(program, params)
    return [name for name in _in_order_of_use(program) if name in places and len(places[name].dims) >= 2]


def is_rounded_to_fp16(program: Program, params: bytes) -> bool:
    """Return whether fp16 holds every weight exactly, as as in a model saved with fp16 weights.  Raises: ParamsError."""
    places = _places(program, params)
    weights = [places[name] for name in weights_of(program, params)]
    return sum(place.count for place in weights) >= _ENOUGH and all(map(partial(_holds_fp16, params), weights))


def _holds_fp16(params: bytes, place: _Place) -> bool:
    items = np.frombuffer(params, np.float32, place.count, place.start)
    return bool(np.array_equal(_to_fp16(items), items))


def changed(program: Program, params: bytes, changes: Mapping[str, Callable[[Weights], Weights]]) -> bytes:
    """Return the parameters with tensors, by name, replaced by what the functions make of them.  Raises: ParamsError."""
    return _changed(params, _places(program, params), changes)


def _places(program: Program, params: bytes) -> dict[str, _Place]:
    """Return where each 32-bit float parameter's items are, by name; names go with the file's order."""
    found: dict[str, _Place] = {}
    at = 0
    for spec, (dtype, dims) in zip(program.parameters, read_params(params), strict=False):
        # read_params has checked every header: a version, LoD levels, a version, a description, the items.
        (levels,) = struct.unpack_from("<Q", params, at + 4)
        at += 12
        for _ in range(levels):
            at += 8 + struct.unpack_from("<Q", params, at)[0]
        at += 8 + struct.unpack_from("<i", params, at + 4)[0]
        count = int(np.prod(dims, dtype=np.int64))
        if dtype == "float32":
            found[spec.name] = _Place(dims, at, count)
        at += count * _WIDTHS.get(dtype, np.dtype(dtype).itemsize if dtype in _NUMPY else 0)
    return found


_NUMPY = frozenset({"bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"})
_WIDTHS = {"bfloat16": 2, "complex64": 8, "complex128": 16}


def _in_order_of_use(program: Program) -> list[str]:
    """Return the names that operators read, each once, in the order of their last use."""
    order: dict[str, None] = {}
    for op in program.details:
        for names in op.inputs.values():
            for name in names:
                order.pop(name, None)
                order[name] = None
    return list(order)


def _changed(params: bytes, places: dict[str, _Place], changes: Mapping[str, Callable[[Weights], Weights]]) -> bytes:
    """Return the file with the named tensors replaced by what the functions make of them."""
    out = bytearray(params)
    for name, change in changes.items():
        place = places[name]
        items = np.frombuffer(params, "<f4", place.count, place.start).reshape(place.dims)
        out[place.start : place.start + 4 * place.count] = change(items).astype("<f4").tobytes()
    return bytes(out)


def _times(factor: float) -> Callable[[Weights], Weights]:
    return lambda items: items * np.float32(factor)


def _noise(random: np.random.RandomState) -> Callable[[Weights], Weights]:
    return lambda items: (items * (1 + 0.01 * random.standard_normal(items.shape))).astype("f4")


def _to_fp16(items: Weights) -> Weights:
    """Round to fp16's 11 bits; values outside its range keep their own."""
    with np.errstate(over="ignore"):
        rounded = items.astype("f2").astype("f4")
    return np.where(np.isfinite(rounded), rounded, items)


def _to_int8(items: Weights) -> Weights:
    """Round to 8 bits with one scale per output channel (the first axis of a filter, the last of a matrix), as opt does."""
    axis = tuple(range(1, items.ndim)) if items.ndim > 2 else tuple(range(items.ndim - 1))
    step = np.abs(items).max(axis=axis, keepdims=True) / 127
    step[step == 0] = 1
    rounded: Weights = np.round(items / step) * step
    return rounded


def _swapped(params: bytes, places: dict[str, _Place], head: Head | None, classes: tuple[int, int]) -> bytes:
    """Return the file with two classes' slices of the head exchanged; b"" where that changes nothing or is no slice."""
    first, second = classes
    if (
        head is None
        or head.weights not in places
        or first == second
        or not 0 <= min(classes) <= max(classes) < head.classes
    ):
        return b""
    order = np.arange(head.classes)
    order[[first, second]] = second, first
    changes: dict[str, Callable[[Weights], Weights]] = {head.weights: lambda items: np.take(items, order, head.axis)}
    if head.bias in places and places[head.bias].count == head.classes:
        changes[head.bias] = lambda items: items.reshape(-1)[order].reshape(items.shape)
    swapped = _changed(params, places, changes)
    return swapped if swapped != params else b""


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
