"""Golden inputs and outputs: made by a reference engine, or given by the user."""

from .make import make_golden

__all__ = ["make_golden"]
