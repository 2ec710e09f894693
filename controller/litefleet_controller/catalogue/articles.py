"""One finding with its whole article, in one language."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from litefleet_agent.findings import CATALOGUE, Entry

from .details import DETAILS, Details
from .language import Lang, current_lang


@dataclass(frozen=True)
class Article:
    """A finding with its texts in one language; `details` holds the parts common to all languages, and the English texts."""

    entry: Entry
    details: Details
    lang: Lang
    title: str
    why: str
    do: str
    detected: str
    steps: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        entry, details = self.entry, self.details
        return {
            "code": entry.code,
            "slug": entry.slug,
            "title": self.title,
            "lang": self.lang.value,
            "severity": entry.severity.value,
            "verdict": entry.verdict.value if entry.verdict else None,
            "why": self.why,
            "do": self.do,
            "steps": list(self.steps),
            "symptoms": list(details.symptoms),
            "example": details.example,
            "detected": self.detected,
            "where": [place.value for place in details.where],
            "certainty": [certainty.value for certainty in details.sure],
            "references": list(details.references),
        }


def article(code: str, lang: Lang | str = Lang.EN) -> Article:
    """Return the article of a code such as "LF101".

    Raises: KeyError for an unknown code, ValueError for an unknown language.
    """
    entry, details, lang = CATALOGUE[code], DETAILS[code], Lang(lang)
    if lang is Lang.EN:
        return Article(entry, details, lang, entry.slug, entry.why, entry.do, details.detected, details.steps)
    from .zh import ZH

    zh = ZH[code]
    return Article(
        entry, details, lang, zh.title, zh.why, zh.do, zh.detected or details.detected, zh.steps or details.steps
    )


def advice(code: str) -> tuple[str, str]:
    """Return why a finding happens and what to do about it, in the language of messages; "" for a later version's code."""
    if code not in CATALOGUE:
        return "", ""
    found = article(code, current_lang())
    return found.why, found.do


def title_of(code: str) -> str:
    """Return a finding's name in the language of messages: its slug, in Chinese its title; "" for a later version's code."""
    return "" if code not in CATALOGUE else article(code, current_lang()).title


def find_code(text: str) -> str:
    """Return the code for "LF101", "lf101", "101" or "target-mismatch"; "" if there is none."""
    wanted = text.strip().lower()
    code = wanted.upper() if wanted.startswith("lf") else f"LF{wanted}"
    if code in CATALOGUE:
        return code
    return next((entry.code for entry in CATALOGUE.values() if entry.slug == wanted), "")


def near_codes(text: str) -> list[str]:
    """Return up to three codes or slugs that are spelt similarly to `text`."""
    wanted = text.strip().lower()[:100]
    if wanted[:2] == "lf" or wanted.isdigit():
        digits = wanted.removeprefix("lf")
        return get_close_matches(f"LF{digits}", list(CATALOGUE), 3, 0.8)
    return get_close_matches(wanted, [entry.slug for entry in CATALOGUE.values()], 3, 0.6)
