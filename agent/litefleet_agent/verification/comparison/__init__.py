"""Compares each output of a model with its reference by what the output means: classes, boxes, masks, plain numbers."""

from .outputs import FREE_ROWS, compare_output, compare_outputs
from .result import OutputComparison, OutputPair
from .rules import DETECTION_COLUMNS, PRECISIONS
from .spec import AS_TENSORS, KINDS, TENSOR, ComparisonSpec, ModelComparison

__all__ = [
    "AS_TENSORS",
    "DETECTION_COLUMNS",
    "FREE_ROWS",
    "KINDS",
    "PRECISIONS",
    "TENSOR",
    "ComparisonSpec",
    "ModelComparison",
    "OutputComparison",
    "OutputPair",
    "compare_output",
    "compare_outputs",
]
