"""Compares each output of a model with its reference by what the output means: classes, boxes, masks, plain numbers."""

from .outputs import compare_output, compare_outputs
from .result import OutputComparison, OutputPair
from .rules import DETECTION_COLUMNS, PRECISIONS
from .spec import KINDS, TENSOR, ComparisonSpec

__all__ = [
    "DETECTION_COLUMNS",
    "KINDS",
    "PRECISIONS",
    "TENSOR",
    "ComparisonSpec",
    "OutputComparison",
    "OutputPair",
    "compare_output",
    "compare_outputs",
]
