"""Files as the cases of an inference: read as `build.golden.own_inputs` reads them, and checked against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..build.golden.files import Tensor
from ..build.golden.own_inputs import read_inputs
from ..config.choices import InputSpec
from ..config.preprocess import PreprocessConfig
from .cases import Case, check_cases


def read_cases(
    files: Sequence[Path],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    how: PreprocessConfig | None,
    model: str,
    given: Mapping[str, InputSpec] | None = None,
) -> tuple[Case, ...]:
    """Return one case per file; UsageError, in one sentence, for files that do not fit the model.

    `given` is what litefleet.yaml states of inputs that a file does not hold.
    """
    cases = tuple(Case(*one) for one in read_inputs(files, inputs, outputs, how, model, given))
    check_cases(cases, inputs, model)
    return cases
