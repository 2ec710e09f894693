"""Measuring devices: what is asked (`choice`), one device's conversation (`talk`), and the figures."""

from __future__ import annotations

from .choice import BenchChoice
from .figures import BenchFigures, figures_of

__all__ = ["BenchChoice", "BenchFigures", "figures_of"]
