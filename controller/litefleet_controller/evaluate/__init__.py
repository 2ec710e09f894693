"""The command `evaluate`: measures a model's accuracy on labelled data, on devices and with the reference engine."""

from __future__ import annotations

from .figures import Accuracy, ClassAccuracy, accuracy_of

__all__ = ["Accuracy", "ClassAccuracy", "accuracy_of"]
