"""Imports at first use: numpy, of which a rollout whose goldens are made needs none of the 16 MB and 0.1 s; names of packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
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


def imported_at_use(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package (PEP 562) that imports its names, by relative module, when they are first used."""
    module_of = {name: module for module, there in names.items() for name in there}

    def find(name: str) -> object:
        if name not in module_of:
            raise AttributeError(name)
        value: object = getattr(importlib.import_module(module_of[name], package), name)
        return value

    return find
