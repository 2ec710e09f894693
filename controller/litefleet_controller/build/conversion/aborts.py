"""Operators at which Paddle-Lite ends or answers wrongly, although its converter takes them: known before any conversion.

Each row was measured with the published x86_64 wheels of 2.13rc0 and 2.12, which agree: a model with the form ends, and the
same model without it runs and gives PaddlePaddle's answers.  What holds for ARM is what its kernels' source says: `cast` is
the host's kernel, the same on every target; ARM's reduce_sum accepts an empty `dim` only with reduce_all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from litefleet_agent.findings import Certainty, Finding, finding

from .program import DTYPES, Op, Program, integers_of
from .protobuf import WireError, fields

# What the `cast` kernel converts; every other pair of types ends the process ("other has not been implemented transform").
_CASTS: Mapping[str, frozenset[str]] = {
    "bool": frozenset({"float32", "int32", "int64"}),
    "float32": frozenset({"bool", "int32", "int64", "uint8"}),
    "int32": frozenset({"bool", "float32", "int64"}),
    "int64": frozenset({"float32", "int32"}),
    "uint8": frozenset({"float32"}),
}
_CAST = "cast from "
SUM_OF_ALL = "reduce_sum over no dimensions"
_FUSED_ABS = "abs after an elementwise operator"
_FUSED = frozenset({"elementwise_add", "elementwise_sub", "elementwise_mul"})
_QUANTISED = "operators of a quantised export"
_QUANTISERS = ("quantize_linear", "dequantize_linear", "fake_quantize", "fake_dequantize", "fake_channel_wise")
_BOOL_FIELD = 10  # of framework.proto's OpDesc.Attr


def aborts_of(program: Program) -> dict[str, int]:
    """Return how often each form stands in a program, by its key; forms that constants alone reach do not count."""
    fed = {spec.name for spec in program.inputs}
    users = Counter(name for op in program.details for slot in op.inputs.values() for name in slot)
    makers: dict[str, Op] = {}
    counts: Counter[str] = Counter()
    for op in program.details:
        taken = {name for slot in op.inputs.values() for name in slot}
        made = [name for slot in op.outputs.values() for name in slot]
        if op.kind not in ("feed", "fetch") and taken & fed:
            fed.update(made)
            counts.update(_keys(op, makers, users))
        counts[_QUANTISED] += op.kind.startswith(_QUANTISERS)
        makers.update(dict.fromkeys(made, op))
    return {key: count for key, count in sorted(counts.items()) if count}


def _keys(op: Op, makers: Mapping[str, Op], users: Mapping[str, int]) -> Iterator[str]:
    try:
        if op.kind == "cast":
            source, target = (_dtype(op, name) for name in ("in_dtype", "out_dtype"))
            if source and target and source != target and target not in _CASTS.get(source, frozenset()):
                yield f"{_CAST}{source} to {target}"
        elif op.kind == "reduce_sum" and not integers_of(op.attributes.get("dim")) and not _flag(op, "reduce_all"):
            yield SUM_OF_ALL
        elif op.kind == "abs":
            name = next(iter(op.inputs.get("X", ())), "")
            maker = makers.get(name)
            if maker is not None and maker.kind in _FUSED and users.get(name, 0) == 1:
                yield _FUSED_ABS
    except WireError:
        return  # another check says what is wrong


def _dtype(op: Op, attribute: str) -> str:
    number = next(iter(integers_of(op.attributes.get(attribute))), -1)
    return DTYPES[number][0] if number in DTYPES else ""


def _flag(op: Op, name: str) -> bool:
    attribute = op.attributes.get(name)
    return any(n == _BOOL_FIELD and bool(v) for n, v in fields(attribute)) if attribute is not None else False


_NO_INT8 = (
    "{count} operators of a quantised export: Paddle-Lite has no int8 kernels for x86, where the file converts, runs, and "
    "answers wrongly (measured: NaN, or another class). Give x86 devices the float model, as a model of its own; files for arm "
    "are right."
)


def check_aborts(forms: Mapping[str, int], targets: str) -> list[Finding]:
    """Return LF213 for each form at which a file for these targets ("arm", "opencl,arm") ends, LF206 for int8 on x86."""
    x86 = "x86" in targets.split(",")
    found = []
    for key, count in forms.items():
        certainty = Certainty.CERTAIN
        if key.startswith(_CAST):
            kernel = "; ".join(f"{source} to {', '.join(sorted(to))}" for source, to in _CASTS.items())
            observed = (
                f"{count} x {key}: Paddle-Lite's kernel has no such cast, and the process ends in the first run. It casts "
                f"{kernel}. Export with one of these types, such as float32 for float64 and float16, and int32 for int16."
            )
        elif key == SUM_OF_ALL:
            certainty = Certainty.CERTAIN if x86 else Certainty.LIKELY
            observed = (
                f"{count} x {key}, as PaddlePaddle 2.6 saves x.sum(): Paddle-Lite ends in the first run. Name the dimensions "
                "in the export: x.sum(axis=[0, 1]) for a tensor with two of them, or x.mean() times the number of elements."
            )
        elif key == _FUSED_ABS and x86:
            observed = (
                f"{count} x {key}: for x86 the converter makes one operator of both, at which Paddle-Lite ends in the first "
                "run. Export paddle.maximum(y, -y) instead of paddle.abs(y); files for arm need no change."
            )
        elif key == _QUANTISED and x86:
            found.append(finding("LF206", _NO_INT8.format(count=count)))
            continue
        else:
            continue
        found.append(finding("LF213", observed, certainty))
    return found
