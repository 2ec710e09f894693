"""Checks of a model's labelled data: what can be known without running an engine.  Reads a few samples, changes nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
from litefleet_agent.findings import Certainty

from ..build.conversion.preflight import SourceFacts
from ..build.golden.dataset import DataSet, read_dataset
from ..common.errors import ConfigError, UsageError
from ..config import ModelConfig
from ..evaluate.figures import one_sample_decides
from ..evaluate.samples import Task
from .diagnosis import CheckResult, fact, failed_check, joined, works

_TRIED = 8  # samples that are decoded
_SHOWN = 5  # classes without a sample that are named


def check_dataset(name: str, model: ModelConfig, source: SourceFacts | None) -> CheckResult:
    """Check the data set of one model: every label, some samples against the model's inputs, and what it can decide."""
    spec = model.golden.accuracy_spec()
    if spec is None:
        return CheckResult()
    try:
        data = read_dataset(spec, name)
    except ConfigError as error:
        return joined(failed_check("LF412", problem) for problem in error.problems)
    found = fact(f"{name}: data set", _words(data)) + _classes(name, data)
    said = one_sample_decides(spec.metric, spec.drop, len(data.samples))
    if said:
        found += failed_check("LF431", f"{name}: {said}.", Certainty.POSSIBLE)
    return found + (_samples(name, model, data, source) if source is not None else CheckResult())


def _words(data: DataSet) -> str:
    used, classes = len(data.samples), len(data.classes)
    part = f"{used:,} of {data.total:,} samples" if used < data.total else f"{used:,} samples"
    return f"{data.spec.dataset}, {part}, {data.spec.metric}{f', {classes:,} classes' if classes else ''}"


def _classes(name: str, data: DataSet) -> CheckResult:
    """Return the finding for named classes without a sample: their score cannot be measured."""
    if data.spec.metric != "top1" or not data.classes:
        return CheckResult()
    labels = Counter(int(row) for one in data.samples if isinstance(one.label, np.ndarray) for row in one.label)
    lacking = [words for number, words in enumerate(data.classes) if not labels[number]]
    if not lacking or not labels:
        return CheckResult()
    words = f"{', '.join(lacking[:_SHOWN])}{' and more' if len(lacking) > _SHOWN else ''}"
    observed = (
        f"{name}: no sample of the data set is labelled {words}: a device's loss in these classes is not measured."
    )
    return failed_check("LF431", observed, Certainty.POSSIBLE)


def _samples(name: str, model: ModelConfig, data: DataSet, source: SourceFacts) -> CheckResult:
    """Decode a few samples from all over the data set as inputs of the model."""
    task = Task(name, data, tuple(source.inputs), tuple(source.outputs), model.preprocess, model.input_specs)
    places = sorted({number * len(data.samples) // _TRIED for number in range(_TRIED)})
    problems = []
    for place in places:
        try:
            task.load(place)
        except (UsageError, OSError) as error:
            problems.append(str(error))
    if problems:
        return joined(failed_check("LF412", f"{name}: {problem}") for problem in dict.fromkeys(problems))
    return works(f"{name}: {len(places)} of {len(data.samples):,} samples were read and fit the model's inputs.")
