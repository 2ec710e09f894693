"""Headings, labels and punctuation of articles, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from litefleet_agent.findings import Entry

from .details import Details, Where
from .language import Lang


@dataclass(frozen=True)
class Words:
    """Headings, and a word for each member of the closed sets, by its value."""

    headings: Mapping[str, str]
    severities: Mapping[str, str]
    certainties: Mapping[str, str]
    verdicts: Mapping[str, str]
    blocks: Mapping[str, str]  # by the first three characters of a code
    places: Mapping[str, str]  # by the values of Where
    colon: str
    comma: str
    stop: str

    def weight(self, entry: Entry) -> str:
        """Return a row's severity and, for an error, its verdict."""
        weight = self.severities[entry.severity.value]
        if entry.verdict is None:
            return weight
        comma, between = ("，", self.colon) if self.stop == "。" else (self.comma, " ")
        return f"{weight}{comma}{self.headings['verdict']}{between}{self.verdicts[entry.verdict.value]}"

    def found(self, details: Details) -> str:
        """Return the places of detection and the certainties as one sentence each."""
        places, sure = self.places_of(details), self.sure_of(details)
        space = "" if self.stop == "。" else " "
        return f"{places[0].upper()}{places[1:]}{self.stop}{space}{self.headings['certainty']}{self.colon}{sure}{self.stop}"

    def places_of(self, details: Details) -> str:
        """Return the places of detection, joined by commas."""
        return self.comma.join(self.places[place] for place in details.where)

    def sure_of(self, details: Details) -> str:
        """Return the possible certainties, joined by commas."""
        return self.comma.join(self.certainties[certainty.value] for certainty in details.sure)


_HEADINGS = {
    "findings": "Findings",
    "code": "Code",
    "title": "Name",
    "symptoms": "Symptoms",
    "example": "Example message",
    "why": "Cause",
    "do": "What to do",
    "detected": "Detection",
    "certainty": "Certainty",
    "severity": "Severity",
    "verdict": "verdict",
    "references": "References",
    "generated": "Generated from litefleet's catalogue; do not edit.",
    "decides": "An error determines the device's verdict; a warning or a note only accompanies it.",
    "possible-weighs-less": "A finding that is only possible has its severity reduced by one level.",
    "same": "`litefleet explain CODE` shows the same text.",
    "index": "All findings",
}
_BLOCKS = {
    "LF1": "The .nb file and its target machine",
    "LF2": "The source model and its conversion",
    "LF3": "The device's environment",
    "LF4": "The model's run",
    "LF5": "The connection to the device",
    "LF6": "Releases on the device, and rollouts",
    "LF7": "The operator's machine",
    "LF9": "Other failures",
}
_PLACES: Mapping[str, str] = {
    Where.HOST: "on the operator's machine",
    Where.SOURCE: "in the source model",
    Where.CONVERSION: "at conversion",
    Where.FILE: "in a file",
    Where.CONTACT: "at contact with the device",
    Where.DEVICE: "on the device before loading",
    Where.RUN: "in the run",
    Where.LOG: "from a log",
    Where.RELEASE: "in a release on the device",
}
_PLACES_ZH: Mapping[str, str] = {
    Where.HOST: "操作者的机器",
    Where.SOURCE: "源模型",
    Where.CONVERSION: "转换时",
    Where.FILE: "文件",
    Where.CONTACT: "与设备联系时",
    Where.DEVICE: "设备加载模型之前",
    Where.RUN: "运行时",
    Where.LOG: "日志",
    Where.RELEASE: "设备上的发布",
}


def words(lang: Lang) -> Words:
    """Return a language's words."""
    if lang is Lang.ZH:
        from .zh import BLOCKS_ZH, CERTAINTIES_ZH, HEADINGS_ZH, SEVERITIES_ZH, VERDICTS_ZH

        return Words(
            HEADINGS_ZH,
            SEVERITIES_ZH,
            CERTAINTIES_ZH,
            VERDICTS_ZH,
            BLOCKS_ZH,
            _PLACES_ZH,
            colon="：",
            comma="、",
            stop="。",
        )
    same = _Same()
    return Words(_HEADINGS, same, same, same, _BLOCKS, _PLACES, colon=": ", comma=", ", stop=".")


class _Same(dict[str, str]):
    """Maps each value to itself: the English word for a value is the value."""

    def __missing__(self, key: str) -> str:
        return str(key)
