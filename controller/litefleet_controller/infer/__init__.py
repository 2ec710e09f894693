"""The command `infer`: reads and checks inputs, runs them on devices, checks and compares the outputs."""

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
