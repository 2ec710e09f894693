"""The page's own style, script and template, as they lie beside this file."""

from __future__ import annotations

from functools import cache
from importlib import resources

__all__ = ["asset"]


@cache
def asset(name: str) -> str:
    """Return the text of a file in `templates/`."""
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
