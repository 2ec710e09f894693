"""Operator forms at which some Paddle-Lite converters abort, each measured with the published converters.

The converter reads an operator's attributes and outputs by name.  PaddlePaddle 2.6 omits attributes with default values
and outputs that only training needs; a converter that expects them aborts or segfaults.  Each row was measured: the
converter stops when the name is missing, and converts when only the name is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .aborts import aborts_of
from .program import Op, Program, integers_of
from .protobuf import WireError

_ALL = ("2.13rc0", "2.12", "2.10")


@dataclass(frozen=True)
class Form:
    """An operator without an attribute or an output, and the versions whose converter stops at it."""

    op: str
    lacking: str
    part: str  # "attribute" or "output"
    stops: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name under which a model's facts count it."""
        return f"{self.op} without {self.lacking}"


FORMS = (
    Form("swish", "beta", "attribute", _ALL),
    Form("relu6", "threshold", "attribute", _ALL),
    Form("dropout", "fix_seed", "attribute", ("2.10",)),
    Form("flatten_contiguous_range", "XShape", "output", ("2.13rc0", "2.10")),
    Form("squeeze2", "XShape", "output", ("2.10",)),
    Form("unsqueeze2", "XShape", "output", ("2.10",)),
    Form("instance_norm", "SavedMean", "output", _ALL),
    Form("instance_norm", "SavedVariance", "output", _ALL),
)
# A 1 x 1 convolution, stride 1, one group, with a filter computed in the program: PaddlePaddle saves nn.Conv1D with
# kernel 1 so.  A pass for ARM assumes a stored filter and reads through a null pointer.
BARE_CONV = "1 x 1 convolution with a computed filter"
BARE_CONV_STOPS = frozenset({"2.13rc0", "2.12"})
# A tensor without dimensions: PaddlePaddle 2.5 and later save scalars so.  Files convert, and abort in the first run.
ZERO_D = "fill_constant with shape []"
# Operators that pass the converter's first check, and for which it then finds no kernel.
KERNELLESS: Mapping[str, tuple[str, ...]] = {"bmm": ("2.13rc0", "2.12")}


def forms_of(program: Program) -> dict[str, int]:
    """Return how often each known form stands in a program, by its key."""
    stored = frozenset(parameter.name for parameter in program.parameters)
    counts = Counter(key for op in program.details for key in _keys(op, program, stored))
    return dict(sorted({**counts, **aborts_of(program)}.items()))


def _keys(op: Op, program: Program, stored: frozenset[str]) -> Iterable[str]:
    for form in FORMS:
        names = op.attributes if form.part == "attribute" else op.outputs
        if op.kind == form.op and form.lacking not in names:
            yield form.key
    if op.kind == "fill_constant" and _is_zero_d(op):
        yield ZERO_D
    if op.kind == "conv2d" and _is_bare(op, program, stored):
        yield BARE_CONV


def _is_zero_d(op: Op) -> bool:
    """Whether a constant's shape is the empty list; it may come from a tensor instead."""
    if "shape" not in op.attributes or any(name.startswith("Shape") for name in op.inputs):
        return False
    try:
        return not integers_of(op.attributes["shape"])
    except WireError:
        return False


def _is_bare(op: Op, program: Program, stored: frozenset[str]) -> bool:
    name = next(iter(op.inputs.get("Filter", ())), "")
    spec = program.variables.get(name)
    if spec is None or name in stored:
        return False
    try:
        strides, groups = integers_of(op.attributes.get("strides")), integers_of(op.attributes.get("groups"))
    except WireError:
        return False
    return spec.dims[2:] == (1, 1) and set(strides) <= {1} and groups in ([], [1])
