"""Reads .nb files and model folders and reports what they are: the command `inspect`."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FailOn"]


class FailOn(StrEnum):
    """The least severity of a finding that makes the exit code of `litefleet inspect` 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"
