"""Details of each finding beyond the catalogue's row: how it is found, what people see, the steps, who else had it.

The texts are data, `texts/GROUP.json` in English and `texts/GROUP.zh.json` in Chinese: an object of each code, whose keys are
the fields of `Details` and `Zh`.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from litefleet_agent.findings import Certainty


class Where(enum.StrEnum):
    """The stage in which litefleet detects a finding, in the order of time."""

    HOST = "host"  # on the operator's machine
    SOURCE = "source"  # in the source model, before it is converted
    CONVERSION = "conversion"  # from the converter
    FILE = "file"  # in a file: inspect, doctor, and before each transfer
    CONTACT = "contact"  # when the device is reached
    DEVICE = "device"  # from the device's facts, before the model is loaded
    RUN = "run"  # while the model runs on the device
    LOG = "log"  # from a program's last messages: `litefleet doctor --log`
    RELEASE = "release"  # from the releases on the device


class Details(NamedTuple):
    """Detection, symptoms, steps and references of a finding; Markdown's backticks are the only markup."""

    detected: str  # method of detection
    where: tuple[Where, ...]
    example: str  # a message of litefleet
    steps: tuple[str, ...]
    symptoms: tuple[str, ...] = ()  # what programs print without litefleet, to be searched for
    references: tuple[str, ...] = ()  # "PaddlePaddle/Paddle-Lite#9192: a summary", or "measured with ..."
    sure: tuple[Certainty, ...] = (Certainty.CERTAIN,)


class Zh(NamedTuple):
    """What a finding says in Chinese; commands, option names and file names are as in English."""

    title: str  # the slug as a short title
    why: str
    do: str
    detected: str = ""
    steps: tuple[str, ...] = ()


_GROUPS = ("files", "source", "device", "run", "fleet", "host")


def read_texts(suffix: str) -> dict[str, dict[str, Any]]:
    """Return the texts of all groups by code, from the files that end with `suffix`; lists are tuples."""
    folder = files(__package__) / "texts"
    found: dict[str, dict[str, Any]] = {}
    for group in _GROUPS:
        for code, texts in json.loads((folder / f"{group}{suffix}.json").read_text(encoding="utf-8")).items():
            found[code] = {key: tuple(text) if isinstance(text, list) else text for key, text in texts.items()}
    return found


def _details(texts: dict[str, Any]) -> Details:
    sure = tuple(map(Certainty, texts.pop("sure", (Certainty.CERTAIN,))))
    return Details(where=tuple(map(Where, texts.pop("where"))), sure=sure, **texts)


DETAILS: Mapping[str, Details] = {code: _details(texts) for code, texts in read_texts("").items()}
