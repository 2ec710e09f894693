"""Reads from a program how many rows the tables have that its inputs index: token ids beyond them end every engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .program import Op, Program

# Operators whose output holds only values of their first input, perhaps in another order or fewer of them.
_SAME_VALUES = frozenset(
    {
        "assign",
        "cast",
        "reshape",
        "reshape2",
        "squeeze",
        "squeeze2",
        "unsqueeze",
        "unsqueeze2",
        "transpose",
        "transpose2",
    }
    | {
        "flatten",
        "flatten2",
        "flatten_contiguous_range",
        "slice",
        "strided_slice",
        "split",
        "concat",
        "stack",
        "unbind",
    }
    | {
        "unstack",
        "expand",
        "expand_v2",
        "expand_as_v2",
        "tile",
        "lod_reset",
        "sequence_expand",
        "reverse",
        "flip",
        "roll",
    }
    | {"share_data", "memcpy", "index_select", "sequence_reshape", "sequence_slice"}
)
_TABLES = frozenset(
    {
        "lookup_table",
        "lookup_table_v2",
        "lookup_table_dequant",
        "embedding",
        "c_embedding",
        "embedding_with_scaled_gradient",
    }
)
_VALUES_SLOTS = ("X", "Input", "Inputs")


def vocabularies(program: Program) -> dict[str, int]:
    """Return, by input, the rows of the smallest table that its values index; inputs that index none are left out."""
    sources: dict[str, frozenset[str]] = {spec.name: frozenset({spec.name}) for spec in program.inputs}
    rows: dict[str, int] = {}
    sizes = {name: spec.dims[0] for name, spec in program.variables.items() if spec.dims}
    for op in program.details:  # in order: the operator that makes a value stands before those that take it
        for index, size in _indexed(op, sizes):
            for name in sources.get(index, ()):
                rows[name] = min(rows.get(name, size), size)
        if op.kind in _SAME_VALUES:
            found = frozenset[str]().union(
                *(sources.get(n, frozenset()) for s in _VALUES_SLOTS for n in op.inputs.get(s, ()))
            )
            for name in (n for slot in op.outputs.values() for n in slot) if found else ():
                sources[name] = sources.get(name, frozenset()) | found
    return rows


def _indexed(op: Op, rows: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield each variable whose values an operator uses as row numbers, with the number of rows."""
    if op.kind in _TABLES:
        tables, indices = op.inputs.get("W", ()), op.inputs.get("Ids", ())
    elif op.kind == "gather":
        tables, indices = op.inputs.get("X", ()), op.inputs.get("Index", ())
    else:
        return
    for table in tables:
        size = rows.get(table, -1)
        if size > 0:
            yield from ((index, size) for index in indices)
