"""Loads samples in bounded batches as inputs of a model, and reduces outputs to records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..build.golden.dataset import DataSet, Sample
from ..build.golden.files import LABEL, Array, Tensor, read_npz
from ..build.golden.labels import Label, label_of_array, read_mask
from ..build.golden.pictures import SUFFIXES, read_picture, size_in_input
from ..common.errors import FindingError, UsageError
from ..common.lazy import numpy as np
from ..config.choices import InputSpec
from ..config.preprocess import PreprocessConfig
from ..infer.cases import Case, read_cases
from .metrics import Record, observe

# models with this input return boxes in the picture's own pixels, as PaddleDetection exports them
_SCALED_BY_MODEL = "scale_factor"


class LabelledCase(NamedTuple):
    """One loaded sample; `scale` is (x, y): the picture's pixels for one unit of the model's boxes."""

    number: int  # its place in the data set
    case: Case
    label: Label
    scale: tuple[float, float]


@dataclass(frozen=True)
class Task:
    """A data set and the model that is measured with it."""

    model: str
    data: DataSet
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    how: PreprocessConfig | None
    given: Mapping[str, InputSpec] = field(default_factory=dict)  # of inputs that a file does not hold

    def load(self, number: int) -> LabelledCase:
        """Return one sample.  Raises: UsageError, in one sentence, for a file that does not fit the model or the metric."""
        sample = self.data.samples[number]
        (case,) = read_cases([sample.path], self.inputs, self.outputs, self.how, self.model, self.given)
        try:
            label = self._label(sample)
        except ValueError as error:
            raise UsageError(f"{sample.source}: the label {error}") from error
        return LabelledCase(number, Case(f"{number}", case.arrays), label, self._scale(sample))

    def _label(self, sample: Sample) -> Label:
        if isinstance(sample.label, Path):
            return read_mask(sample.label)
        if sample.label is not None:
            return sample.label
        try:
            arrays = read_npz(sample.path)
        except FindingError as error:
            raise UsageError(error.findings[0].observed) from error
        if LABEL not in arrays:
            raise UsageError(f"{sample.source} holds no array `label`, and no CSV file gives its label")
        return label_of_array(arrays[LABEL], self.data.spec.metric)

    def _scale(self, sample: Sample) -> tuple[float, float]:
        picture = sample.path.suffix.lower() in SUFFIXES
        by_model = any(tensor.name == _SCALED_BY_MODEL for tensor in self.inputs)
        if self.data.spec.metric != "map50" or not picture or self.how is None or by_model:
            return 1.0, 1.0
        height, width = read_picture(sample.path).shape[:2]
        own = size_in_input(height, width, self.how)
        return width / own[1], height / own[0]

    def record(self, one: LabelledCase, outputs: Mapping[str, Array]) -> Record:
        """Return a sample's record.  Raises: ValueError with a sentence for an output that the metric cannot read."""
        name, value = self._output(outputs)
        try:
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ValueError("holds NaN or Inf")
            return observe(self.data.spec.metric, value, one.label, one.scale, self.data.characters)
        except ValueError as error:
            raise ValueError(f"{self.data.samples[one.number].source}: the output {name} {error}") from error

    def _output(self, outputs: Mapping[str, Array]) -> tuple[str, Array]:
        """Return the output that is judged, by name or, as engines may use other names, by its place."""
        wanted, names = self.data.spec.output, [tensor.name for tensor in self.outputs]
        if wanted in outputs:
            return wanted, outputs[wanted]
        place = names.index(wanted) if wanted in names else 0 if not wanted else -1
        values = list(outputs.items())
        if not 0 <= place < len(values):
            raise ValueError(f"the model has no output {wanted}; it has {', '.join(outputs) or 'none'}")
        return values[place]


def batches(task: Task, numbers: Sequence[int], most: int, budget: int) -> Iterator[list[LabelledCase]]:
    """Yield the samples with these numbers, at most `most` at once and about `budget` bytes of inputs, at least one."""
    batch: list[LabelledCase] = []
    size = 0
    for number in numbers:
        one = task.load(number)
        own = sum(array.nbytes for array in one.case.arrays.values())
        if batch and (len(batch) >= most or size + own > budget):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += own
    if batch:
        yield batch
