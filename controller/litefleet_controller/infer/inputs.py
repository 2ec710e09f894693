"""Reads files as a model's inputs: .npz by name, .npy and pictures for a model with one input.  Contacts no device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..build.golden.files import LIMIT_BYTES, UNREADABLE, Array, Tensor, read_npz
from ..common.errors import FindingError, UsageError
from ..config.preprocess import PreprocessConfig
from .cases import Case, check_cases
from .preprocess import SUFFIXES, prepare, read_picture

__all__ = ["read_cases"]


def read_cases(
    files: Sequence[Path],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    how: PreprocessConfig | None,
    model: str,
) -> tuple[Case, ...]:
    """Return one case per file, named after it; UsageError, in one sentence, for files that do not fit the model.

    A golden's .npz may hold the model's outputs too; they are left out.
    """
    names = _names(files)
    cases = tuple(
        Case(name, _arrays(path, inputs, outputs, how, model)) for name, path in zip(names, files, strict=True)
    )
    check_cases(cases, inputs, model)
    return cases


def _names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file, its own without the ending, with a number where several have it."""
    count, seen, names = Counter(path.stem for path in files), Counter[str](), []
    for path in files:
        seen[path.stem] += 1
        names.append(path.stem if count[path.stem] == 1 else f"{path.stem}-{seen[path.stem]}")
    if len(set(names)) < len(names):
        raise UsageError("two inputs would have the same name: name the files differently")
    return names


def _arrays(
    path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor], how: PreprocessConfig | None, model: str
) -> dict[str, Array]:
    kind = path.suffix.lower()
    if kind == ".npz":
        left_out = {t.name for t in outputs} - {t.name for t in inputs}
        return {name: array for name, array in _npz(path).items() if name not in left_out}
    if kind not in (".npy", *SUFFIXES):
        raise UsageError(f"{path}: an input is .npz, .npy, or a picture ({', '.join(SUFFIXES)})")
    if len(inputs) != 1:
        takes = ", ".join(t.name for t in inputs) or "nothing"
        raise UsageError(f"{path}: {model} takes {takes}, so give a .npz that holds each by name")
    if kind == ".npy":
        return {inputs[0].name: _npy(path)}
    if how is None:
        raise UsageError(
            f"{path}: litefleet.yaml does not say how a picture becomes an input of {model}: "
            f"write `preprocess:` under `{model}:` (docs/configuration.md)"
        )
    return {inputs[0].name: prepare(read_picture(path), how)}


def _npz(path: Path) -> dict[str, Array]:
    try:
        return read_npz(path)
    except FindingError as error:
        raise UsageError(error.findings[0].observed) from error


def _npy(path: Path) -> Array:
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise UsageError(f"{path} is larger than {LIMIT_BYTES} bytes")
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UNREADABLE as error:
        raise UsageError(f"{path} is not a readable .npy of plain numbers") from error
    if not isinstance(loaded, np.ndarray):
        raise UsageError(f"{path} is not a .npy: an .npz needs that ending")
    return loaded
