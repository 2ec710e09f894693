"""numpy, loaded when it is first used: a rollout whose goldens are made already needs none of its 16 MB and 0.1 s."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as numpy


class _Later:
    """Stands for a module until one of its names is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)  # the next time it is found at once
        return value


if not TYPE_CHECKING:
    numpy = _Later("numpy")
