"""The words that stand around an article, in each language."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass

from litefleet_agent.findings import Entry

from .details_entry import Details, Where

__all__ = ["Lang", "Words", "lang_of", "words"]


class Lang(enum.StrEnum):
    """A language that the catalogue is written in."""

    EN = "en"
    ZH = "zh"

    @property
    def suffix(self) -> str:
        """What stands between a page's name and its ending."""
        return "" if self is Lang.EN else f".{self.value}"


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
        """Say a row's weight and, for an error, its verdict."""
        weight = self.severities[entry.severity.value]
        if entry.verdict is None:
            return weight
        comma, between = ("，", self.colon) if self.stop == "。" else (self.comma, " ")
        return f"{weight}{comma}{self.headings['verdict']}{between}{self.verdicts[entry.verdict.value]}"

    def found(self, details: Details) -> str:
        """Say where something is found out, and how sure that is."""
        places, sure = self.places_of(details), self.sure_of(details)
        space = "" if self.stop == "。" else " "
        return f"{places[0].upper()}{places[1:]}{self.stop}{space}{self.headings['certainty']}{self.colon}{sure}{self.stop}"

    def places_of(self, details: Details) -> str:
        """Say where something is found out."""
        return self.comma.join(self.places[place] for place in details.where)

    def sure_of(self, details: Details) -> str:
        """Say how sure it may be."""
        return self.comma.join(self.certainties[certainty.value] for certainty in details.sure)


_HEADINGS = {
    "findings": "Findings",
    "code": "Code",
    "title": "Name",
    "symptoms": "What people see",
    "example": "What litefleet says",
    "why": "Why it happens",
    "do": "What to do",
    "detected": "How litefleet finds it",
    "certainty": "How sure",
    "severity": "Weight",
    "verdict": "verdict",
    "references": "References",
    "generated": "Generated from litefleet's catalogue; do not edit.",
    "decides": "An error decides the device's verdict; a warning or a note only accompanies it.",
    "possible-weighs-less": "A finding that is merely possible weighs one step less.",
    "same": "`litefleet explain CODE` says the same.",
    "index": "All findings",
    "english": "English",
    "chinese": "中文",
}
_BLOCKS = {
    "LF1": "The .nb file and the machine it is for",
    "LF2": "The source model and its conversion",
    "LF3": "The device's environment",
    "LF4": "What the model did when it ran",
    "LF5": "Reaching and talking to the device",
    "LF6": "Releases on the device, and rollouts",
    "LF7": "The operator's machine",
    "LF9": "Anything else",
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
    """The English word for a value is the value."""

    def __missing__(self, key: str) -> str:
        return str(key)


def lang_of(environment: Mapping[str, str] = os.environ) -> Lang:
    """Return the language that the environment asks for: Chinese for a Chinese locale, else English."""
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return Lang.ZH if locale.lower().startswith("zh") else Lang.EN
