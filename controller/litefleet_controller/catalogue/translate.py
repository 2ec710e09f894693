"""Translates messages: from an English template to the language of this process's messages.  Texts are in messages/*.zh.json.

A text that this program composes where it is shown goes through `tr`.  A sentence that is also stored, or written as JSON, is
composed in English; where it is shown, `translated` finds the template that it was made from and translates its values too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from litefleet_agent.findings import CATALOGUE, Entry

from .details import Zh
from .language import Lang, current_lang

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Before a sentence: a finding's code; a file, a line and a key; a file or a dotted key.
_PLACE = re.compile(r"LF\d{3} |\S+:\d+: (?:\S+: )?|\S*[/.]\S*: ")
_CODE = re.compile(r"(.*\S) \((LF\d{3})\)", re.DOTALL)  # a sentence and a finding's code
_ADDED = re.compile(r"(.*\S) \(([^()]*)\)(\.?)")
_PROSE = re.compile(r"[a-z]{2,} [a-z]{2,}")  # two English words
_QUOTED = re.compile(r"`[^`]*`")
_WORD = re.compile(r"[a-z]+[.,;:]?")
_NOUN = re.compile(r"[\w.+-]*")
_COUNT = re.compile(r"[0-9][0-9.,]*")
_UNITS = {"s", "ms", "min", "h", "kB"}
_SPECIFIC = 12  # letters from which a template fits no sentence by chance
_LONGEST = 4000  # characters; a longer sentence stays in English
_DEEPEST = 3  # sentences within sentences
_MOST_PARTS = 8  # of a text that no template fits as a whole
GROUPS = ("help", "output", "reports", "sentences", "errors", "serve", "pages")


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


def translated(text: str) -> str:
    """Return an English text in the language of this process's messages; unchanged where no template fits."""
    if not text or not is_chinese() or len(text) > _LONGEST:
        return text
    return "\n".join(map(_line, text.split("\n")))


def translated_cell(text: str) -> str:
    """Return a table's cell: a known word or sentence is translated, a name is not looked at closely."""
    return translated(text) if " " in text else messages().get(text, text) if is_chinese() else text


def translated_sentence(observed: str) -> str:
    """Return what a device or a library said; what has no translation is quoted, so that it does not pass as this program's."""
    shown = translated(observed)
    quoted = is_chinese() and shown == observed and _PROSE.search(observed) is not None
    return tr("in the device's words: {sentence}", sentence=shown) if quoted else shown


def _line(line: str) -> str:
    """Translate a line or a part of one; spaces that lay it out stay."""
    core = line.strip()
    shown = _translated(core, 0)
    if shown == core:
        return line
    before = line[: len(line) - len(line.lstrip())]
    return (before if len(before) > 1 else "") + shown + (" " if line.endswith(" ") and shown[-1].isascii() else "")


@cache
def messages() -> Mapping[str, str]:
    """Return the Chinese text for each English text or template."""
    from .zh import ZH

    found: dict[str, str] = {}
    for group in GROUPS:
        text = (files(__package__) / "messages" / f"{group}.zh.json").read_text(encoding="utf-8")
        found.update(json.loads(text))
    found.update({text: chinese for code, zh in ZH.items() for text, chinese in _advice(CATALOGUE[code], zh)})
    return found


def _advice(entry: Entry, zh: Zh) -> tuple[tuple[str, str], ...]:
    """Return a finding's cause and remedy in English with their Chinese: a sentence may end with them."""
    return (entry.why, zh.why), (entry.do, zh.do)


class _Template(NamedTuple):
    """A template cut at its placeholders: n + 1 literals around n names."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    chinese: str
    rarest: str  # the longest literal

    @property
    def letters(self) -> int:
        """How many letters the literals have: a template with few of them fits by chance."""
        return _letters("".join(self.literals))

    @property
    def is_specific(self) -> bool:
        """Whether it fits no sentence by chance: it has many letters, or names a command."""
        return self.letters >= _SPECIFIC or "`" in "".join(self.literals)

    def begins_with_clauses(self, values: Mapping[str, str]) -> bool:
        """Whether the value before its first literal is more than a noun."""
        return not self.literals[0] and ": " in values[self.names[0]]

    def values_of(self, sentence: str) -> dict[str, str] | None:
        """Return the values with which the template gives the sentence; None where it does not.

        A value named `count` is a number.
        Each literal is looked for once, from left to right, so that a hostile sentence costs no more than its length.
        """
        if self.rarest not in sentence:
            return None
        first, *inner, last = self.literals
        end = len(sentence) - len(last)
        if not (sentence.startswith(first) and sentence.endswith(last) and len(first) <= end):
            return None
        at, values = len(first), []
        for literal, name, following in zip(inner, self.names, self.names[1:], strict=False):
            if not literal and f"{{{name}}}{{{following}}}" not in self.chinese:
                found = at + len(_NOUN.match(sentence[at:end])[0])  # type: ignore[index]  # it matches ""
            else:
                found = sentence.find(literal, at, end)
            if found < 0:
                return None
            values.append(sentence[at:found])
            at = found + len(literal)
        named = dict(zip(self.names, [*values, sentence[at:end]], strict=True))
        return named if _COUNT.fullmatch(named.get("count", "0")) else None


@cache
def _templates() -> tuple[_Template, ...]:
    """Return the templates that have placeholders, those with the most letters first: the most specific one fits first."""
    made = []
    for english, chinese in messages().items():
        literals = _PLACEHOLDER.split(english)
        names = tuple(literals[1::2])
        if names and len(set(names)) == len(names) and _letters("".join(literals[::2])) > 1:
            made.append(_Template(tuple(literals[::2]), names, chinese, max(literals[::2], key=len)))
    return tuple(sorted(made, key=lambda t: (-t.letters, -len("".join(t.literals)))))


@lru_cache(maxsize=20_000)
def _translated(sentence: str, depth: int) -> str:
    exact = messages().get(sentence)
    if exact is not None or depth > _DEEPEST or " " not in sentence:
        return exact or sentence
    code = _CODE.fullmatch(sentence)
    if code is not None:
        return f"{_translated(code[1], depth)}（{code[2]}）"
    place = _PLACE.match(sentence)
    later = []  # "r-1 is paused: 1 of 3 failed" is a clause about a clause: what begins with the whole of it comes last
    for template in _templates():
        values = template.values_of(sentence)
        if values is None:
            continue
        if template.begins_with_clauses(values) or (place is not None and not template.literals[0]):
            later.append((template, values))
        elif shown := _shown(template, values, depth):
            return shown
    if place is not None and place.end() < len(sentence):
        return place[0] + _translated(sentence[place.end() :], depth)
    for template, values in later:
        if shown := _shown(template, values, depth):
            return shown
    return _by_parts(sentence, depth)


def _shown(template: _Template, values: Mapping[str, str], depth: int) -> str:
    """Return a template's Chinese with translated values; "" where the template seems to fit by chance."""
    around = zip(template.literals, template.literals[1:], values.items(), strict=False)
    shown = {
        name: text if before.endswith("'") and after.startswith("'") else _translated(text.strip(), depth + 1)
        for before, after, (name, text) in around  # what stands in quotes is a name
    }
    if template.is_specific or not any(_is_prose(text) for text in shown.values()):
        return _filled(template.chinese, shown, values)
    return ""


def _by_parts(sentence: str, depth: int) -> str:
    """Translate each part of a text that no template fits: sentences, clauses, what is added in parentheses."""
    added = _ADDED.fullmatch(sentence)
    if added is not None:
        parts = [added[1], added[2]]
        shown = [_translated(part, depth + 1) for part in parts]
        if shown[0] != parts[0]:
            return f"{shown[0]}（{shown[1]}）{'' if shown[0].endswith('。') else added[3]}"
    for between, chinese in ((r"(?<=\.) +", ""), ("; ", "；"), (": ", "：")):
        parts = _split(sentence, between)
        if not 1 < len(parts) <= _MOST_PARTS:
            continue
        shown = [_translated(part, depth + 1) for part in parts]
        if shown != parts:
            is_name = between == ": " and shown[0] == parts[0] and " " not in parts[0]
            return (between if is_name else chinese).join(shown) if chinese else _in_a_row(shown)
    return sentence


def _split(sentence: str, between: str) -> list[str]:
    """Return the parts of a text between separators that are not within backquotes; a place is one part, the rest another."""
    parts = [""]
    for number, piece in enumerate(sentence.split("`")):
        first, *rest = re.split(between, piece) if number % 2 == 0 else [piece]
        parts[-1] += ("`" if number else "") + first
        parts += rest
    return [parts[0], sentence[len(parts[0]) + 2 :]] if between == ": " and len(parts) > 1 else parts


def _in_a_row(sentences: list[str]) -> str:
    """Join sentences: with a space after one that is in English still."""
    return "".join(text + (" " if text[-1:].isascii() else "") for text in sentences).rstrip()


def _filled(template: str, shown: Mapping[str, str], raw: Mapping[str, str]) -> str:
    """Return a template with its values, as they are in English within backquotes: there they are commands."""
    parts = template.split("`")
    for number, part in enumerate(parts):
        values = raw if number % 2 else shown
        parts[number] = _PLACEHOLDER.sub(lambda found, values=values: values[found[1]], part)  # type: ignore[misc]
    return "`".join(parts)


def _is_prose(text: str) -> bool:
    """Whether a text has two English words, such as "differs by 0.5"; "AMD EPYC" and "2 min 30 s" have none."""
    return sum(_WORD.fullmatch(word) is not None and word not in _UNITS for word in _QUOTED.sub("", text).split()) > 1


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
