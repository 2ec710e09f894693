"""The shapes of one finding's article: its details in English, and its Chinese texts."""

from __future__ import annotations

import enum
from typing import NamedTuple

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
