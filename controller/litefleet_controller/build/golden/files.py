"""Golden files: one .npz per case, inputs and outputs by name; checked before anything is converted."""

from __future__ import annotations

import hashlib
import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from litefleet_agent.findings import finding
from litefleet_agent.formats.checked import shortened

from ...common.errors import FindingError
from ...common.lazy import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]
else:
    Array = Any  # numpy is not loaded yet
LABEL = "label"  # the array of a data set's .npz that holds its label
LIMIT_BYTES = 512 * 1024 * 1024
# An array NAME@lod0 holds the offsets at which the sequences of NAME's first dimension begin, and the end (LoD level 1).
LOD = "@lod0"
_NESTED = "@lod1"  # of the next level, which is refused
# The exceptions of numpy and zipfile for files that are damaged, truncated, encrypted or of another format.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


class Tensor(Protocol):
    """One input or output as the model declares it: numpy's dtype name, dims with -1 for a free one."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def dims(self) -> tuple[int, ...]: ...  # noqa: D102


def canonical_npz(arrays: Mapping[str, Array]) -> bytes:
    """Return the .npz of `arrays` with sorted names and fixed dates: equal arrays give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            body = io.BytesIO()
            # np.require, not ascontiguousarray: that would turn a scalar into a vector.
            np.lib.format.write_array(
                body, np.require(arrays[name], requirements="C"), version=(1, 0), allow_pickle=False
            )
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, body.getvalue(), zipfile.ZIP_DEFLATED, 3)
    return out.getvalue()


def read_npz(path: Path) -> dict[str, Array]:
    """Read an .npz of at most 512 MiB unpacked.  Raises: FindingError LF412 when it is missing, too large or unreadable."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
        if total > LIMIT_BYTES:
            raise _refused(f"{path} unpacks to {total} bytes; a golden file may hold {LIMIT_BYTES}.")
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise _refused(f"{path} is missing.") from error
    except UNREADABLE as error:
        raise _refused(f"{path} is not a readable .npz of plain arrays ({shortened(str(error), 200)}).") from error
    strange = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise _refused(f"{path} is not a readable .npz of plain arrays ({strange[0]} is none).")
    return arrays


def _refused(*sentences: str) -> FindingError:
    return FindingError([finding("LF412", sentence) for sentence in sentences])


def offsets_of(lengths: Sequence[int]) -> Array:
    """Return the offsets of sequences of these lengths, as int64."""
    return np.cumsum([0, *lengths], dtype=np.int64)


def without_sequences(names: Iterable[str]) -> set[str]:
    """Return the names without those of the arrays that hold others' sequences."""
    every = set(names)
    return {name for name in every if not (name.endswith((LOD, _NESTED)) and name[: -len(LOD)] in every)}


def lod_arrays(lods: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, Array]:
    """Return sequences, given by the name of what they belong to, as the arrays NAME@lod0, NAME@lod1 ... of a .npz."""
    levels = [(name, number, level) for name, lod in lods.items() for number, level in enumerate(lod)]
    return {f"{name}@lod{number}": np.asarray(level, np.int64) for name, number, level in levels}


def lod_problem(tensor: Tensor, arrays: Mapping[str, Array]) -> str:
    """Return what is wrong with an input's sequences, "" for nothing: those that take some must have them."""
    level, given, value = getattr(tensor, "lod_level", 0), arrays.get(tensor.name + LOD), arrays.get(tensor.name)
    if level > 1 or tensor.name + _NESTED in arrays:
        whose = (
            f"takes nested sequences (LoD level {level})" if level > 1 else "comes with nested sequences (LoD level 2)"
        )
        return f"{whose}; litefleet carries level 1: export the model with one level"
    if given is None or value is None:
        missing = f"takes sequences (LoD), and the array '{tensor.name}{LOD}' with their offsets is missing"
        return missing if level and value is not None else ""
    rows = value.shape[0] if value.ndim else 1
    rises = given.ndim == 1 and len(given) > 1 and given[0] == 0 and (np.diff(given) >= 0).all() and given[-1] == rows
    if given.dtype != np.int64 or not rises:
        return f"has sequences (LoD) that are not int64 offsets rising from 0 to {rows}"
    return ""


def misfits(label: str, arrays: Mapping[str, Array], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[str]:
    """Return one sentence for each way in which a golden does not fit the model; dims () are undeclared."""
    problems = []
    for role, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            if tensor.name in arrays:
                problems += _misfit(label, role, tensor, arrays[tensor.name])
                if role == "input" and (problem := lod_problem(tensor, arrays)):
                    problems.append(f"{label}: input '{tensor.name}' {problem}.")
            else:
                holds = ", ".join(sorted(arrays)) or "nothing"
                problems.append(f"{label} lacks the model's {role} '{tensor.name}' (it holds: {holds}).")
    if outputs:
        known = {t.name for t in (*inputs, *outputs)} | {t.name + end for t in inputs for end in (LOD, _NESTED)}
        extra = sorted(set(arrays) - known)
        problems += [f"{label} holds '{n}', which is neither an input nor an output of the model." for n in extra]
    elif len([name for name in arrays if not name.endswith(LOD)]) <= len(inputs):
        problems.append(f"{label} holds no outputs.")
    return problems


def _misfit(label: str, role: str, tensor: Tensor, value: Array) -> list[str]:
    """Return the problems of one array of a golden."""
    where, problems = f"{label}: {role} '{tensor.name}'", []
    # An output's declaration is a hint: arithmetic on free dims gives -2, detectors return fewer rows than declared or
    # none, and engines differ in widths of numbers.  The run decides.
    if role == "input":
        if tensor.dtype and value.dtype.name != tensor.dtype:
            problems.append(f"{where} is {value.dtype.name}; the model's is {tensor.dtype}.")
        dims = tensor.dims
        fits = len(dims) == value.ndim and all(d < 0 or d == n for d, n in zip(dims, value.shape, strict=True))
        if dims and not fits:
            problems.append(f"{where} has dims {list(value.shape)}; the model's are {list(dims)} (-1: free).")
        if value.size == 0:
            problems.append(f"{where} is empty.")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        problems.append(f"{where} holds NaN or Inf, so nothing can be compared with it.")
    return problems


def check_cases(
    cases: Sequence[tuple[str, Mapping[str, Array]]], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Check all (label, arrays) goldens of a model at once.

    Two cases must differ in their inputs: only two can show that a model ignores its input.

    Raises: FindingError LF412 with every problem.
    """
    problems = [sentence for label, arrays in cases for sentence in misfits(label, arrays, inputs, outputs)]
    if len(cases) < 2:
        problems.append(f"{len(cases)} golden case given; at least two with different inputs are needed.")
    labels_by_inputs: dict[str, str] = {}
    for label, arrays in cases:
        mark = _input_mark(arrays, inputs)
        if mark in labels_by_inputs:
            problems.append(
                f"{label} has the same inputs as {labels_by_inputs[mark]}: a model that ignores its input would pass."
            )
        labels_by_inputs.setdefault(mark, label)
    if problems:
        raise _refused(*problems)


def _input_mark(arrays: Mapping[str, Array], inputs: Sequence[Tensor]) -> str:
    """Return a SHA-256 over a case's inputs: equal inputs, equal hash."""
    digest = hashlib.sha256()
    for tensor in inputs:
        for name in (tensor.name, tensor.name + LOD):
            value = arrays.get(name)
            digest.update(repr((name, None if value is None else (value.dtype.str, value.shape))).encode())
            digest.update(b"" if value is None else value.tobytes())
    return digest.hexdigest()


def merged(label: str, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return inputs and outputs as one golden.  Raises: FindingError LF412 when a name is in both."""
    both = sorted(set(inputs) & set(outputs))
    if both:
        raise _refused(
            f"{label}: '{both[0]}' is the name of an input and of an output; a golden file cannot hold both."
        )
    return {**inputs, **outputs}
