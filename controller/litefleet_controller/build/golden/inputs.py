"""The inputs of golden cases: what litefleet.yaml states of them, what the program states, and defaults by name and dtype.

The rules, in their order: a value or a range in litefleet.yaml; token ids below the rows of the table that they index; names
that models use with one meaning (PaddleDetection's im_shape and scale_factor, BERT's token_type_ids, lengths); the dtype.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...common.errors import ConfigError, UsageError
from ...common.lazy import numpy as np
from ...config.choices import InputSpec, Numbers
from .files import LIMIT_BYTES, LOD, Array, Tensor, offsets_of

Range = tuple[float, float]  # lowest and highest value, both included for whole numbers
_SEQUENCES = (7, 4)  # lengths of the sequences of an input with LoD, where litefleet.yaml states none
_SEGMENTS = 2  # BERT's segments: token_type_ids are 0 or 1
_WORDS = re.compile(r"[^a-z0-9]+")
_SEGMENT_NAMES = ("token_type", "segment", "sent_id", "sentence_id", "type_id")
_PATCH = 16  # pixels
_PIXELS = {"uint8": (0, 255), "int8": (-128, 127), "bool": (0, 1)}


@dataclass(frozen=True)
class PlannedInput:
    """How one input of every case is made.

    `dims` are numbers; `value` is the same in every case; without it values lie in `bounds`, drawn by `how`: "random" each,
    "lengths" whole numbers whose first is the highest, "prefix" ones that are followed by zeros.  `lengths` are those of
    the sequences that the first dimension consists of (LoD level 1), empty without.
    """

    name: str
    dtype: np.dtype[np.generic]
    dims: tuple[int, ...]
    value: Array | None = None
    bounds: Range = (0, 1)
    how: str = "random"
    lengths: tuple[int, ...] = ()


InputPlan = Mapping[str, PlannedInput]  # by name, in the order of the model's inputs


def plan_inputs(
    inputs: Sequence[Tensor],
    given: Mapping[str, InputSpec],
    model: str,
    vocabularies: Mapping[str, int] | None = None,
) -> dict[str, PlannedInput]:
    """Return how every input is made; `vocabularies` holds the rows of the tables that token ids index, by input.

    Raises: ConfigError with all problems, each with what to write.
    """
    names = [tensor.name for tensor in inputs]
    problems = [
        f"models.{model}.inputs: the model has no input '{name}'; it has {', '.join(names) or 'none'}."
        for name in sorted(set(given) - set(names))
    ]
    planned: dict[str, PlannedInput] = {}
    sizes = _picture_size(inputs, given)
    for tensor in inputs:
        spec = settled(tensor, given.get(tensor.name, InputSpec()))
        rows = (vocabularies or {}).get(tensor.name, 0)
        try:
            planned[tensor.name] = _planned(tensor, spec, model, rows, sizes)
        except _InputError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    lengths = [p.name for p in planned.values() if p.how == "lengths"]
    if lengths:  # of sequences in another input: its second dimension bounds them
        longest = max((p.dims[1] for p in planned.values() if len(p.dims) > 1 and p.name not in lengths), default=1)
        for name in lengths:
            planned[name] = _with_bounds(planned[name], (max(1, longest // 2), longest))
    return planned


class _InputError(Exception):
    """What is wrong with one input, as a sentence."""


def settled(tensor: Tensor, spec: InputSpec) -> InputSpec:
    """Return the spec with a plain list as dims where it fits them, as the value where it only fits the last dimension."""
    if not spec.plain:
        return spec
    own = tensor.dims
    if len(spec.plain) != len(own) or not all(d in (-1, n) for d, n in zip(own, spec.plain, strict=True)):
        of_one = len(own) > 1 or own == (len(spec.plain),)
        if of_one and own[-1] in (-1, len(spec.plain)) and all(d in (-1, 1) for d in own[:-1]):
            return InputSpec(value=spec.plain, lengths=spec.lengths)
    whole = tuple(int(n) for n in spec.plain)
    return InputSpec(dims=whole if whole == spec.plain else spec.plain, range=spec.range, lengths=spec.lengths)


def _planned(tensor: Tensor, spec: InputSpec, model: str, rows: int, picture: tuple[int, int] | None) -> PlannedInput:
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        raise UsageError(f"input '{tensor.name}' is {tensor.dtype}, which no golden can hold.") from None
    lengths = _lengths(tensor, spec, model)
    dims = _dims(tensor, spec, model, lengths)
    if int(np.prod(dims, dtype=np.float64)) * dtype.itemsize > LIMIT_BYTES:
        raise UsageError(f"input '{tensor.name}' with dims {list(dims)} is larger than {LIMIT_BYTES} bytes.")
    if dtype.kind not in "fiub":
        raise UsageError(
            f"input '{tensor.name}' is {tensor.dtype}; give golden files for it (`golden: {{files: [...]}}`)."
        )
    plan = PlannedInput(tensor.name, dtype, dims, lengths=lengths)
    if spec.value is not None:
        return _with_value(plan, spec.value, model)
    if spec.range is not None:
        return _with_bounds(plan, _checked_range(spec.range, plan, model, rows))
    return _by_name(plan, rows, picture)


def _dims(tensor: Tensor, spec: InputSpec, model: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
    own, want = tensor.dims, spec.dims
    if want:
        if len(want) != len(own) or any(d not in (-1, w) or w < 1 for d, w in zip(own, want, strict=True)):
            raise _InputError(
                f"models.{model}.inputs.{tensor.name}: {list(want)} does not fit the model's {list(own)} (-1: free)."
            )
        if lengths and spec.lengths and sum(lengths) != want[0]:
            raise _InputError(
                f"models.{model}.inputs.{tensor.name}: the lengths {list(lengths)} make {sum(lengths)} rows; dims has {want[0]}."
            )
        return tuple(int(d) for d in want)
    if spec.value is not None:  # a value of the right shape gives the free sizes
        shape = np.shape(spec.value)
        own = own[: len(own) - len(shape)] + tuple(
            n if d < 0 else d for d, n in zip(own[-len(shape) or len(own) :], shape, strict=False)
        )
    first = sum(lengths) if lengths else 1
    dims = tuple(first if i == 0 and d == -1 else d for i, d in enumerate(own))
    if any(d < 1 for d in dims):
        sample = ", ".join(str(d) if d > 0 else "N" for d in dims)
        raise _InputError(
            f"models.{model}: input '{tensor.name}' has free dims {list(tensor.dims)}; "
            f"write `inputs: {{{tensor.name}: [{sample}]}}` with a number for each N "
            f"under `{model}:` in litefleet.yaml."
        )
    return dims


def _lengths(tensor: Tensor, spec: InputSpec, model: str) -> tuple[int, ...]:
    """Return the lengths of an input's sequences, () for one without LoD."""
    level = getattr(tensor, "lod_level", 0)
    if level > 1:
        raise _InputError(
            f"models.{model}.inputs.{tensor.name}: its sequences are nested (LoD level {level}), which litefleet does not "
            "make; it takes level 1."
        )
    if spec.lengths and not level:
        raise _InputError(
            f"models.{model}.inputs.{tensor.name}: it takes no sequences (no LoD), so `lengths` does not go with it."
        )
    if not level or spec.lengths:
        return spec.lengths
    if spec.dims:
        return (int(spec.dims[0]),)
    return _SEQUENCES if tensor.dims and tensor.dims[0] < 0 else tensor.dims[:1]


def _with_value(plan: PlannedInput, given: Numbers, model: str) -> PlannedInput:
    try:
        value = np.broadcast_to(np.array(given, plan.dtype), plan.dims).copy()
    except (ValueError, OverflowError, TypeError):
        raise _InputError(
            f"models.{model}.inputs.{plan.name}: the value does not make {plan.dtype.name} {list(plan.dims)}."
        ) from None
    return PlannedInput(plan.name, plan.dtype, plan.dims, value, lengths=plan.lengths)


def _with_bounds(plan: PlannedInput, bounds: Range, how: str = "") -> PlannedInput:
    return PlannedInput(plan.name, plan.dtype, plan.dims, None, bounds, how or plan.how, plan.lengths)


def _checked_range(bounds: Range, plan: PlannedInput, model: str, rows: int) -> Range:
    """Return a range of litefleet.yaml; for token ids its end is excluded, so that `[0, 18000]` is a vocabulary of 18000."""
    low, high = bounds
    where = f"models.{model}.inputs.{plan.name}: the range [{low:g}, {high:g}]"
    if plan.dtype.kind in "iub":
        limits = np.iinfo(plan.dtype.name) if plan.dtype.kind != "b" else None
        if low != int(low) or high != int(high) or (limits and not limits.min <= low <= high <= limits.max):
            raise _InputError(f"{where} does not fit {plan.dtype.name}.")
        if rows and high == rows:
            high -= 1
        if rows and not 0 <= low <= high < rows:
            raise _InputError(f"{where} goes beyond the {rows} rows of the table that it indexes (0 to {rows - 1}).")
    return low, high


def _by_name(plan: PlannedInput, rows: int, picture: tuple[int, int] | None) -> PlannedInput:
    """Return the default of an input that litefleet.yaml says nothing of."""
    words = _WORDS.sub("_", plan.name.lower()).strip("_")
    if picture and (value := _about_picture(words, plan, picture)) is not None:
        return PlannedInput(plan.name, plan.dtype, plan.dims, value)
    if plan.dtype.kind == "f":
        return plan
    if plan.dtype.name in _PIXELS:
        return _with_bounds(plan, _PIXELS[plan.dtype.name])
    if any(name in words for name in _SEGMENT_NAMES):
        return _with_bounds(plan, (0, min(rows or _SEGMENTS, _SEGMENTS) - 1))
    if "mask" in words:
        return _with_bounds(plan, (0, 1), "prefix")
    if re.search(r"(^|_)pos(ition)?(_|$|s_|itions?)", words) and len(plan.dims) > 1:
        row = np.arange(plan.dims[-1]) % (rows or plan.dims[-1])
        return PlannedInput(plan.name, plan.dtype, plan.dims, np.broadcast_to(row, plan.dims).astype(plan.dtype))
    if re.search(r"(^|_)(seq_?)?len(s|gth|gths)?$", words) and not rows:
        return _with_bounds(plan, (1, 1), "lengths")
    return _with_bounds(plan, (0, (rows or 10) - 1))


def _about_picture(words: str, plan: PlannedInput, size: tuple[int, int]) -> Array | None:
    """Return what PaddleDetection's inputs beside the picture are for a picture of its own size."""
    last = plan.dims[-1] if plan.dims else 0
    if words == "scale_factor" and last == 2:
        return np.ones(plan.dims, plan.dtype)
    if words in ("im_shape", "im_size", "img_size", "image_shape", "ori_shape", "origin_shape") and last == 2:
        return np.broadcast_to(np.array(size), plan.dims).astype(plan.dtype)
    if words in ("im_info", "im_shape") and last == 3:
        return np.broadcast_to(np.array([*size, 1]), plan.dims).astype(plan.dtype)
    return None


def picture_input(inputs: Sequence[Tensor], layout: str = "") -> Tensor | None:
    """Return the input that takes pictures: the only one with 4 dims of which one is 1, 3 or 4 channels; None if unclear."""
    places = {"nchw": (1,), "nhwc": (3,)}.get(layout, (1, 3))
    found = [t for t in inputs if len(t.dims) == 4 and any(t.dims[place] in (1, 3, 4) for place in places)]
    return found[0] if len(found) == 1 else None


def _picture_size(inputs: Sequence[Tensor], given: Mapping[str, InputSpec]) -> tuple[int, int] | None:
    """Return the height and width of the picture among the inputs, None where they are unknown."""
    tensor = picture_input(inputs)
    if tensor is None:
        return None
    spec = given.get(tensor.name, InputSpec())
    want = spec.dims or spec.plain
    dims = tuple(int(n) for n in want) if len(want) == 4 else tensor.dims
    size = dims[2:] if tensor.dims[1] in (1, 3, 4) else dims[1:3]
    return (size[0], size[1]) if min(size) > 0 else None


def draw_inputs(plan: InputPlan, seed: int, patches: bool = False) -> dict[str, Array]:
    """Return one case's inputs, equal for equal seeds everywhere; floats are drawn from [low, high).

    With `patches`, pictures are patches of colour with some grain, as photographs have them: to many trained models one
    picture of noise looks like any other.  An input with sequences has their offsets beside it, under its name with `LOD`.
    """
    random = np.random.RandomState(seed)  # numpy keeps this stream stable between versions, not Generator's
    drawn = {name: _patches(one, random) if patches else _drawn(one, random) for name, one in plan.items()}
    return {**drawn, **{name + LOD: offsets_of(one.lengths) for name, one in plan.items() if one.lengths}}


def _patches(plan: PlannedInput, random: np.random.RandomState) -> Array:
    """Return a picture of at least two patches each way; another input as `_drawn` gives it."""
    picture = len(plan.dims) == 4 and plan.value is None and not plan.lengths
    last = plan.dims[-1] in (1, 3, 4)  # channels last
    if not picture or plan.dtype.kind not in "fu" or plan.how != "random":
        return _drawn(plan, random)
    rows, columns = (1, 2) if last and plan.dims[1] not in (1, 3, 4) else (2, 3)
    height, width = plan.dims[rows], plan.dims[columns]
    if min(height, width) < 2 * _PATCH:
        return _drawn(plan, random)
    dims = list(plan.dims)
    dims[rows], dims[columns] = -(-height // _PATCH), -(-width // _PATCH)
    coarse = random.rand(*dims).repeat(_PATCH, rows).repeat(_PATCH, columns)
    unit = 0.95 * coarse.take(range(height), rows).take(range(width), columns) + 0.05 * random.rand(*plan.dims)
    low, high = plan.bounds
    return (unit * (high - low) + low).astype(plan.dtype)


def _drawn(plan: PlannedInput, random: np.random.RandomState) -> Array:
    if plan.value is not None:
        return plan.value
    low, high = plan.bounds
    if plan.dtype.kind == "f":
        unit = random.rand(*plan.dims).astype(plan.dtype) if plan.dims else np.array(random.rand(), plan.dtype)
        return unit if plan.bounds == (0, 1) else (unit * (high - low) + low).astype(plan.dtype)
    if plan.how == "prefix":
        ones = random.randint(max(1, plan.dims[-1] // 2), plan.dims[-1] + 1, (*plan.dims[:-1], 1))
        return (np.arange(plan.dims[-1]) < ones).astype(plan.dtype)
    drawn = np.asarray(random.randint(int(low), int(high) + 1, plan.dims, np.int64)).astype(plan.dtype)
    if plan.how == "lengths" and drawn.size:
        drawn.flat[0] = high
    return drawn
