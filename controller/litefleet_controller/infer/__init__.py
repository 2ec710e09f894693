"""Inputs and answers of inference: files become checked inputs, what devices answer is checked and compared."""

from .cases import Case
from .inputs import read_cases
from .report import CaseAnswer, DeviceAnswer, InferenceReport

__all__ = [
    "Case",
    "CaseAnswer",
    "DeviceAnswer",
    "InferenceReport",
    "read_cases",
]
