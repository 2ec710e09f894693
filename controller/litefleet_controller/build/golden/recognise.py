"""Recognises what each output of a source model means, so that it is compared in the right way: only where it is certain.

The program is read backwards from each fetched variable, through operators that hand their values on unchanged, to the
operator that made the values.  What is not certain is compared as a tensor, item by item, as every output was before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from litefleet_agent.errors import AgentError
from litefleet_agent.verification.comparison import DETECTION_COLUMNS, TENSOR, ComparisonSpec

from ..conversion.program import Op, Program, TensorSpec, integers_of
from ..conversion.protobuf import fields

_MAX_STEPS = 64  # operators walked back from one output
# Operators whose output holds their first input's values, in the same order.
_SAME_VALUES = frozenset(
    {"assign", "reshape2", "reshape", "squeeze2", "squeeze", "unsqueeze2", "unsqueeze", "flatten_contiguous_range"}
    | {"flatten2", "share_data", "memcpy", "dropout"}
    # Of quantised exports: the values, rounded to 8 bits.
    | {"quantize_linear", "dequantize_linear", "fake_quantize_dequantize_moving_average_abs_max"}
    | {"fake_quantize_dequantize_abs_max", "fake_channel_wise_quantize_dequantize_abs_max"}
)
_RESHAPES = frozenset({name for name in _SAME_VALUES if "reshape" in name or "squeeze" in name or "flatten" in name})
_SUPPRESSIONS = frozenset({"multiclass_nms", "multiclass_nms2", "multiclass_nms3", "matrix_nms", "locality_aware_nms"})
_ROW_COUNTS = frozenset({"NmsRoisNum", "RoisNum"})
# Operators whose whole numbers name something: a class, a token, a place.
_LABEL_MAKERS = frozenset({
    "arg_max", "arg_min", "argsort", "crf_decoding", "ctc_align", "beam_search_decode", "viterbi_decode", "gather_tree",
    "where_index", "one_hot_v2", "equal", "not_equal", "less_than", "less_equal", "greater_than", "greater_equal",
    "logical_and", "logical_or", "logical_not", "logical_xor", "isnan_v2", "isfinite_v2",
})  # fmt: skip
_TOP_K = frozenset({"top_k", "top_k_v2"})
_MAKES_FLOATS_WHOLE = frozenset({"round", "floor", "ceil", "trunc"})
_RESIZES = frozenset(
    {"bilinear_interp_v2", "bilinear_interp", "nearest_interp_v2", "nearest_interp", "bicubic_interp_v2"}
    | {"interpolate"}
)
_WHOLE = frozenset({"bool", "int8", "uint8", "int16", "int32", "int64", "uint64"})
_FLOATS = frozenset({"float16", "float32", "float64"})
_ROUNDING = 1.0  # a float that was cut to a whole number may fall on either side of it
_FLOAT_FIELD, _BOOL_FIELD = 4, 10  # of framework.proto's OpDesc.Attr


@dataclass(frozen=True)
class Recognised:
    """How one output is compared, and `why` as a sentence for plan and report ("" where nothing was recognised)."""

    spec: ComparisonSpec
    why: str = ""


@dataclass(frozen=True)
class _Made:
    """Who made an output's values: the operator, the slot and variable it wrote, and what was passed on the way back."""

    op: Op | None
    slot: str
    name: str
    passed: frozenset[str]


class _Graph:
    """A program by variables: who made each one, and which variable each output's values come from."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._makers: dict[str, tuple[Op | None, str]] = {}
        for op in program.details:
            for slot, names in op.outputs.items() if op.kind not in ("feed", "fetch") else ():
                for name in names:
                    # Two writers (branches of a condition, a loop): which one made the value is not certain.
                    self._makers[name] = (None, "") if name in self._makers else (op, slot)
        self.outputs = {self.made(spec.name).name: spec.name for spec in reversed(program.outputs)}

    def dtype(self, name: str) -> str:
        """Return a variable's declared dtype, "" where the program does not say."""
        spec = self.program.variables.get(name)
        return spec.dtype if spec else ""

    def made(self, name: str, also: frozenset[str] = frozenset()) -> _Made:
        """Return who made a variable's values, past operators that only hand them on (and those in `also`)."""
        passed: set[str] = set()
        for _ in range(_MAX_STEPS):
            op, slot = self._makers.get(name, (None, ""))
            if op is None or not (self._hands_on(op) or op.kind in also):
                return _Made(op, slot, name, frozenset(passed))
            passed.add(op.kind)
            name = _first(op, "X")
        return _Made(None, "", name, frozenset(passed))

    def _hands_on(self, op: Op) -> bool:
        if op.kind == "scale":
            return _float(op, "scale", 1.0) == 1.0 and _float(op, "bias", 0.0) == 0.0 and "ScaleTensor" not in op.inputs
        if op.kind == "cast":  # between widths of one kind: labels stay labels
            source, target = self.dtype(_first(op, "X")), self.dtype(next(iter(op.outputs.get("Out", ())), ""))
            return {source, target} <= _WHOLE or {source, target} <= _FLOATS
        return op.kind in _SAME_VALUES


def recognise(program: Program) -> dict[str, Recognised]:
    """Return how each output of a program is compared, by the output's name, in the program's order.

    Raises: WireError for an operator whose attributes cannot be read.
    """
    graph = _Graph(program)
    return {spec.name: _recognised(graph, spec) for spec in program.outputs}


def _recognised(graph: _Graph, output: TensorSpec) -> Recognised:
    made = graph.made(output.name)
    op = made.op
    if op is None:
        return _whole_numbers(output) if output.dtype in _WHOLE else Recognised(TENSOR)
    if op.kind in _SUPPRESSIONS:
        return _detections(graph, op, made)
    if op.kind in _TOP_K and made.slot == "Indices":
        return _top_k_indices(graph, op)
    if op.kind in _LABEL_MAKERS and (op.kind != "argsort" or made.slot == "Indices"):
        return Recognised(_spec("labels"), f"the labels that {op.kind} makes")
    if op.kind == "cast" or op.kind in _MAKES_FLOATS_WHOLE:
        return _cast(graph, op, output)
    if output.dtype in _WHOLE:
        return _whole_numbers(output)
    return _probabilities(graph, output)


def _whole_numbers(output: TensorSpec) -> Recognised:
    return Recognised(_spec("labels"), f"whole numbers ({output.dtype})")


def _detections(graph: _Graph, op: Op, made: _Made) -> Recognised:
    """Return how one of a suppression's outputs is compared."""
    rows = graph.outputs.get(next(iter(op.outputs.get("Out", ())), ""))
    if made.slot in _ROW_COUNTS:
        return Recognised(_spec("counts", **({"rows": rows} if rows else {})), f"the row counts of {op.kind}")
    if made.slot != "Out":
        return Recognised(_spec("labels", order="free"), f"the row indices of {op.kind}")
    columns = _columns(graph, op)
    if columns is None:
        return Recognised(TENSOR)
    given: dict[str, object] = {"columns": columns} if len(columns) != len(DETECTION_COLUMNS) else {}
    keep = next(iter(integers_of(op.attributes.get("keep_top_k"))), -1)
    threshold = "post_threshold" if op.kind == "matrix_nms" else "score_threshold"
    floor, overlap = _float(op, threshold, 0.0), _float(op, "nms_threshold", 0.0)
    given |= {"keep": keep} if keep > 0 else {}
    given |= {"floor": floor} if floor > 0 else {}
    # matrix_nms lowers scores gradually; no threshold of overlap drops a row.
    given |= {"overlap": overlap} if 0 < overlap <= 1 and op.kind != "matrix_nms" else {}
    return Recognised(_spec("detections", **given), f"the rows of {op.kind}: class, score, box")


def _columns(graph: _Graph, op: Op) -> list[str] | None:
    """Return the columns of a suppression's rows: class, score, and as many coordinates as a box has; None when unsure."""
    boxes = graph.program.variables.get(_first(op, "BBoxes"))
    size = boxes.dims[-1] if boxes is not None and boxes.dims else -1
    declared = graph.program.variables.get(next(iter(op.outputs.get("Out", ())), ""))
    if size < 1 and declared is not None and declared.dims:
        size = declared.dims[-1] - 2  # the boxes' own width is free; the rows' is class, score and a box
    if size < 4 or size % 2 or size > 32:
        return None
    return ["class", "score"] + [f"{axis}{number + 1}" for number in range(size // 2) for axis in "xy"]


def _top_k_indices(graph: _Graph, op: Op) -> Recognised:
    """Return how the indices of a top_k are compared: ties are decided by its scores, where those are an output too."""
    scores = graph.outputs.get(next(iter(op.outputs.get("Out", ())), ""))
    given = {"scores": scores} if scores else {"order": "free"}
    return Recognised(_spec("labels", **given), f"the labels that {op.kind} makes")


def _cast(graph: _Graph, op: Op, output: TensorSpec) -> Recognised:
    """Return how numbers are compared that were made whole from floats: a picture's pixels may be off by one."""
    source = graph.made(_first(op, "X")).op
    if source is not None and source.kind in _LABEL_MAKERS:  # labels that became floats
        return Recognised(_spec("labels"), f"the labels that {source.kind} makes")
    if op.kind == "cast" and output.dtype in _FLOATS:
        return _whole_numbers(output) if graph.dtype(_first(op, "X")) in _WHOLE else Recognised(TENSOR)
    spec = _spec("tensor", max_abs=_ROUNDING, max_rel=0.01, mean_abs=_ROUNDING / 2)
    return Recognised(spec, f"floats made whole by {op.kind}: each may be off by one")


def _probabilities(graph: _Graph, output: TensorSpec) -> Recognised:
    """Return how the values of a softmax or sigmoid at the end are compared, and those of normalised vectors."""
    plain = graph.made(output.name)
    maker = plain.op.kind if plain.op is not None else ""
    if plain.op is not None and maker in _TOP_K:
        best = graph.made(_first(plain.op, "X")).op
        if best is not None and best.kind == "softmax":
            return Recognised(_spec("tensor", scale="peak"), f"the largest probabilities (softmax, {maker})")
        return Recognised(TENSOR)
    if plain.op is not None and maker == "softmax" and not plain.passed & _RESHAPES:
        return _softmax(graph, plain.op)
    resized = graph.made(output.name, _RESIZES)
    if resized.op is not None and resized.op.kind == "sigmoid":
        if len(output.dims) >= 3 and all(dim < 0 or dim > 1 for dim in output.dims[-2:]):
            return Recognised(_spec("mask"), "a map of probabilities (sigmoid)")
        return Recognised(_spec("tensor", scale="peak"), "probabilities (sigmoid)")
    if plain.op is not None and _normalises(graph, plain.op) and len(output.dims) == 2:
        return Recognised(_spec("embedding"), "vectors of length 1")
    return Recognised(TENSOR)


def _softmax(graph: _Graph, op: Op) -> Recognised:
    variable = graph.program.variables.get(next(iter(op.outputs.get("Out", ())), ""))
    rank = len(variable.dims) if variable is not None else 0
    axis = next(iter(integers_of(op.attributes.get("axis"))), -1)
    if axis in (-1, rank - 1):
        return Recognised(_spec("topk"), "probabilities of classes (softmax)")
    return Recognised(_spec("tensor", scale="peak"), "probabilities (softmax)")


def _normalises(graph: _Graph, op: Op) -> bool:
    """Return whether an operator divides vectors by their own length."""
    if op.kind in ("norm", "l2_normalize"):
        return True
    if op.kind != "elementwise_div":
        return False
    length = graph.made(
        _first(op, "Y"), frozenset({"clip", "elementwise_max", "maximum", "expand_v2", "expand_as_v2"})
    ).op
    return length is not None and length.kind == "p_norm" and _first(length, "X") == _first(op, "X")


def _spec(kind: str, **given: object) -> ComparisonSpec:
    """Return a specification; with the kind's defaults where the program holds what none may hold (a threshold of Inf)."""
    try:
        return ComparisonSpec.from_dict({"compare": kind, **given})
    except AgentError:
        return ComparisonSpec(kind)


def _first(op: Op, slot: str) -> str:
    return next(iter(op.inputs.get(slot, ())), "")


def _float(op: Op, name: str, default: float) -> float:
    """Return a float attribute, `default` where the operator has none of that name."""
    attribute: memoryview | None = op.attributes.get(name)
    for number, value in fields(attribute) if attribute is not None else ():
        if number == _FLOAT_FIELD and not isinstance(value, int) and len(value) == 4:
            return float(f"{struct.unpack('<f', value)[0]:.6g}")  # 0.025, not the 32-bit float next to it
    return default
