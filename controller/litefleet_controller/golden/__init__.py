"""Golden inputs and outputs: made by a reference engine, or given by the user."""

from .make import GoldenSpec, make_golden

__all__ = ["GoldenSpec", "make_golden"]
