"""The command `bench`: the choice, the session with each device, and the figures."""

from __future__ import annotations

from .choice import BenchChoice
from .figures import BenchFigures, figures_of

__all__ = ["BenchChoice", "BenchFigures", "figures_of"]
