"""Translates messages: from an English template to the language of this process's messages.  Texts are in messages/*.zh.json.

A text that this program composes where it is shown goes through `tr`.  A sentence that is also stored, or written as JSON, is
composed in English; where it is shown, `translated` finds the template that it was made from and translates its values too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from .language import Lang, current_lang

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LONGEST = 4000  # characters; a longer sentence stays in English
_DEEPEST = 4  # sentences within sentences


def is_chinese() -> bool:
    """Return whether this process's messages are Chinese."""
    return current_lang() is Lang.ZH


def tr(template: str, **values: object) -> str:
    """Return a template, in the language of this process's messages, with its named values.

    The template is a literal: a test requires its translation in messages/*.zh.json.
    """
    if is_chinese():
        template = messages().get(template, template)
    return template.format(**values) if values else template


def translated(sentence: str) -> str:
    """Return an English sentence in the language of this process's messages; unchanged where no template fits."""
    if not sentence or not is_chinese() or len(sentence) > _LONGEST:
        return sentence
    return "\n".join(_translated(line, 0) for line in sentence.split("\n"))


@cache
def messages() -> Mapping[str, str]:
    """Return the Chinese text for each English text or template."""
    found: dict[str, str] = {}
    for group in ("help", "output", "sentences"):
        text = (files(__package__) / "messages" / f"{group}.zh.json").read_text(encoding="utf-8")
        found.update(json.loads(text))
    return found


class _Template(NamedTuple):
    """A template cut at its placeholders: n + 1 literals around n names."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    chinese: str

    def values_of(self, sentence: str) -> dict[str, str] | None:
        """Return the values with which the template gives the sentence; None where it does not.

        Each literal is looked for once, from left to right, so that a hostile sentence costs no more than its length.
        """
        first, *inner, last = self.literals
        end = len(sentence) - len(last)
        if not (sentence.startswith(first) and sentence.endswith(last) and len(first) <= end):
            return None
        at, values = len(first), []
        for literal in inner:
            found = sentence.find(literal, at, end)
            if found < 0:
                return None
            values.append(sentence[at:found])
            at = found + len(literal)
        return dict(zip(self.names, [*values, sentence[at:end]], strict=True))


@cache
def _templates() -> tuple[_Template, ...]:
    """Return the templates that have placeholders, those with the most letters first: the most specific one fits first."""
    made = []
    for english, chinese in messages().items():
        literals = _PLACEHOLDER.split(english)
        names = tuple(literals[1::2])
        if names and len(set(names)) == len(names) and sum(map(str.isalpha, "".join(literals[::2]))) > 1:
            made.append(_Template(tuple(literals[::2]), names, chinese))
    return tuple(sorted(made, key=lambda t: -sum(map(len, t.literals))))


def _translated(sentence: str, depth: int) -> str:
    exact = messages().get(sentence)
    if exact is not None or depth > _DEEPEST:
        return exact or sentence
    for template, values in _fitting(sentence):
        return template.chinese.format(**{name: _translated(text, depth + 1) for name, text in values.items()})
    return sentence


def _fitting(sentence: str) -> Iterator[tuple[_Template, dict[str, str]]]:
    for template in _templates():
        values = template.values_of(sentence)
        if values is not None:
            yield template, values
