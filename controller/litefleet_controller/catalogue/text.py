"""An article for a terminal; commands are never broken over lines, so that they can be pasted."""

from __future__ import annotations

import re
import textwrap

from .articles import Article
from .language import Lang
from .words import Words, words

_KEPT = "\0"  # stands for a space that no line may break at
_INDENT = 2


def to_text(article: Article, width: int = 100) -> str:
    """Return the article as plain text, at most `width` columns where no command is longer."""
    labels, details = words(article.lang), article.details
    parts = [
        _heading(article, labels),
        *_section(labels, "symptoms", [_indented(line) for line in details.symptoms]),
        *_section(labels, "why", [_wrapped(article.why, article.lang, width)]),
        *_section(labels, "do", [_wrapped(article.do, article.lang, width), *_numbered(article, width)]),
        *_section(
            labels,
            "detected",
            [_wrapped(text, article.lang, width) for text in (article.detected, labels.found(details))],
        ),
        *_section(labels, "example", [_wrapped(details.example, Lang.EN, width)]),
        *_section(labels, "references", [_wrapped(text, Lang.EN, width) for text in details.references]),
    ]
    return "\n".join(parts)


def index_text(articles: list[Article]) -> str:
    """Return one line for each article."""
    lines = [f"{a.entry.code}  {words(a.lang).severities[a.entry.severity.value]:8} {_named(a)}" for a in articles]
    return "\n".join(lines)


def _heading(article: Article, labels: Words) -> str:
    """Return the first line: code, name, weight and verdict."""
    weight = labels.weight(article.entry)
    return f"{article.entry.code} {_named(article)}" + (f"（{weight}）" if article.lang is Lang.ZH else f" ({weight})")


def _named(article: Article) -> str:
    slug = article.entry.slug
    return slug if article.title == slug else f"{article.title} {slug}"


def _section(labels: Words, name: str, lines: list[str]) -> list[str]:
    return ["", f"{labels.headings[name]}{labels.colon.rstrip()}", *lines] if lines else []


def _numbered(article: Article, width: int) -> list[str]:
    return [_wrapped(step, article.lang, width, f"{number}. ") for number, step in enumerate(article.steps, 1)]


def _indented(line: str) -> str:
    return " " * _INDENT + line


def _wrapped(text: str, lang: Lang, width: int, mark: str = "") -> str:
    if lang is Lang.ZH:  # has no spaces to break at; the terminal breaks it
        return _indented(mark + text)
    kept = re.sub(r"`[^`]*`", lambda found: found.group().replace(" ", _KEPT), text)
    lines = textwrap.wrap(
        kept,
        width,
        initial_indent=" " * _INDENT + mark,
        subsequent_indent=" " * (_INDENT + len(mark)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace(_KEPT, " ")
