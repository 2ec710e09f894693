"""Reads files as a model's inputs: .npz by name, .npy and pictures.  What a file does not hold is made as `inputs` plans it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...common.errors import ConfigError, FindingError, UsageError
from ...common.lazy import numpy as np
from ...config.choices import InputSpec
from ...config.preprocess import PreprocessConfig
from .files import (
    LABEL,
    LIMIT_BYTES,
    LOD,
    UNREADABLE,
    Array,
    Tensor,
    lod_problem,
    offsets_of,
    read_npz,
    without_sequences,
)
from .inputs import draw_inputs, picture_input, plan_inputs, settled
from .pictures import SUFFIXES, prepare, read_picture


def read_inputs(
    files: Sequence[Path],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    how: PreprocessConfig | None,
    model: str,
    given: Mapping[str, InputSpec] | None = None,
    vocabularies: Mapping[str, int] | None = None,
) -> list[tuple[str, dict[str, Array]]]:
    """Return (name, inputs) for each file, named after it; UsageError, in one sentence, for files that do not fit the model.

    A golden's .npz may hold the model's outputs too, and a data set's its label; they are left out.  Inputs that a file does
    not hold get the value that `given` (`models.NAME.inputs`) states, or one that follows from the picture; only a .npz must
    hold the others.
    """
    reader = _Reader(inputs, outputs, how, model, given or {}, vocabularies or {})
    return [(name, reader.read(path)) for name, path in zip(_names(files), files, strict=True)]


def _names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file, its own without the ending, with a number where several have it."""
    count, seen, names = Counter(path.stem for path in files), Counter[str](), []
    for path in files:
        seen[path.stem] += 1
        names.append(path.stem if count[path.stem] == 1 else f"{path.stem}-{seen[path.stem]}")
    if len(set(names)) < len(names):
        raise UsageError("two inputs would have the same name: name the files differently")
    return names


class _Reader:
    """Reads files for one model."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        how: PreprocessConfig | None,
        model: str,
        given: Mapping[str, InputSpec],
        vocabularies: Mapping[str, int],
    ) -> None:
        self._inputs, self._how, self._model = inputs, how, model
        self._given, self._vocabularies = given, vocabularies
        self._left_out = ({t.name for t in outputs} | {LABEL}) - {t.name for t in inputs}

    def read(self, path: Path) -> dict[str, Array]:
        """Return one file's inputs."""
        kind = path.suffix.lower()
        if kind == ".npz":
            held = {name: array for name, array in _npz(path).items() if name not in self._left_out}
            return self._completed(path, held, {})
        if kind not in (".npy", *SUFFIXES):
            raise UsageError(f"{path}: an input is .npz, .npy, or a picture ({', '.join(SUFFIXES)})")
        if kind == ".npy":
            return self._completed(path, {self._single(path).name: _npy(path)}, {})
        return self._picture(path)

    def _single(self, path: Path) -> Tensor:
        open_ones = [t for t in self._inputs if not self._states_value(t)]
        if len(open_ones) != 1:
            takes = ", ".join(t.name for t in self._inputs) or "nothing"
            raise UsageError(f"{path}: {self._model} takes {takes}, so give a .npz that holds each by name")
        return open_ones[0]

    def _picture(self, path: Path) -> dict[str, Array]:
        how = self._how
        if how is None:
            raise UsageError(
                f"{path}: litefleet.yaml does not say how a picture becomes an input of {self._model}: "
                f"write `preprocess:` under `{self._model}:` (`litefleet docs configuration`)"
            )
        target = self._inputs[0] if len(self._inputs) == 1 else picture_input(self._inputs, how.layout)
        if target is None:
            raise UsageError(
                f"{path}: {self._model} takes {', '.join(t.name for t in self._inputs) or 'nothing'}, none or several of "
                "which take pictures, so give a .npz that holds each by name"
            )
        pixels = read_picture(path)
        array = prepare(pixels, how)
        height, width = array.shape[2:] if how.layout == "nchw" else array.shape[1:3]
        ratio = (height / pixels.shape[0], width / pixels.shape[1])
        return self._completed(path, {target.name: array}, {"scale_factor": ratio})

    def _completed(
        self, path: Path, held: dict[str, Array], derived: Mapping[str, tuple[float, float]]
    ) -> dict[str, Array]:
        """Return the inputs with those that the file does not hold: constants, and what belongs to the picture."""
        for tensor in self._inputs:  # rows without offsets are one sequence
            if getattr(tensor, "lod_level", 0) and tensor.name in held and held[tensor.name].ndim:
                held.setdefault(tensor.name + LOD, offsets_of([held[tensor.name].shape[0]]))
        missing = [t for t in self._inputs if t.name not in held]
        if not missing or (path.suffix.lower() == ".npz" and not all(self._states_value(t) for t in missing)):
            return held
        specs = {name: spec for name, spec in self._given.items() if name not in held}
        specs |= {name: InputSpec(dims=array.shape) for name, array in held.items() if not name.endswith(LOD)}
        for name, value in derived.items():
            if any(t.name == name for t in missing) and name not in self._given:
                specs[name] = InputSpec(value=value)
        try:
            drawn = draw_inputs(plan_inputs(self._inputs, specs, self._model, self._vocabularies), 0)
        except ConfigError as error:
            raise UsageError(f"{path}: {'; '.join(error.problems)}") from error
        return {**{name: array for name, array in drawn.items() if name.removesuffix(LOD) not in held}, **held}

    def _states_value(self, tensor: Tensor) -> bool:
        spec = settled(tensor, self._given.get(tensor.name, InputSpec()))
        return spec.value is not None or spec.range is not None


def check_inputs(name: str, arrays: Mapping[str, Array], inputs: Sequence[Tensor], model: str) -> None:
    """Raise UsageError, in one sentence, for the first of a case's arrays that does not fit the model."""
    wanted = {tensor.name for tensor in inputs}
    given = without_sequences(arrays)
    if given != wanted:
        has, takes = ", ".join(sorted(given)) or "nothing", ", ".join(t.name for t in inputs) or "nothing"
        raise UsageError(f"{name} holds {has}; the model {model} takes {takes}")
    for tensor in inputs:
        if problem := _problem(tensor, arrays[tensor.name]) or lod_problem(tensor, arrays):
            raise UsageError(f"{name}: {tensor.name} {problem}")


def _problem(tensor: Tensor, value: Array) -> str:
    if value.dtype.name != tensor.dtype:
        return f"is {value.dtype.name}, and the model's is {tensor.dtype}: save it as x.astype('{tensor.dtype}')"
    dims = tensor.dims
    if len(dims) != value.ndim or any(d not in (-1, n) for d, n in zip(dims, value.shape, strict=True)):
        shown = " x ".join("?" if d < 0 else str(d) for d in dims)
        return f"is {' x '.join(map(str, value.shape)) or 'a single value'}, and the model's is {shown} (?: any)"
    if value.size == 0:
        return "is empty"
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return "holds NaN or Inf"
    return ""


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
