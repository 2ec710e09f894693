"""`litefleet infer`: files become checked inputs, devices run them, and their answers are compared."""

from .cases import Case
from .inputs import read_cases
from .report import CaseAnswer, DeviceAnswer, InferenceReport
from .run import InferChoice, Inference, run_inference

__all__ = [
    "Case",
    "CaseAnswer",
    "DeviceAnswer",
    "InferChoice",
    "Inference",
    "InferenceReport",
    "read_cases",
    "run_inference",
]
