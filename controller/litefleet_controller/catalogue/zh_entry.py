"""The shape of one finding's Chinese article."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Zh"]


class Zh(NamedTuple):
    """What a finding says in Chinese; commands, option names and file names are as in English."""

    title: str  # the slug as a short title
    why: str
    do: str
    detected: str = ""
    steps: tuple[str, ...] = ()
