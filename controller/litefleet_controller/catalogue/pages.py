"""The articles as Markdown: an index and a page for each finding, in every language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from litefleet_agent.findings import CATALOGUE

from .articles import Article, article
from .language import Lang
from .words import Words, words

_THREAD = re.compile(r"^([\w.-]+/[\w.-]+)#(\d+)")
_PAGES = "LF[0-9][0-9][0-9]*.md"


def pages() -> dict[str, str]:
    """Return each page's text by its file name: README.md, LF101.md, README.zh.md, LF101.zh.md and so on."""
    made = {}
    for lang in Lang:
        every = [article(code, lang) for code in sorted(CATALOGUE)]
        made[f"README{lang.suffix}.md"] = _index(every, words(lang), lang)
        for one in every:
            made[f"{one.entry.code}{lang.suffix}.md"] = _page(one, words(lang))
    return made


def write_pages(folder: Path) -> None:
    """Write all pages into a folder, and remove those of findings that are no more."""
    made = pages()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in folder.glob(_PAGES):
        if path.name not in made:
            path.unlink()


def _index(every: list[Article], labels: Words, lang: Lang) -> str:
    heads, space = labels.headings, "" if lang is Lang.ZH else " "
    notes = labels.headings["decides"], labels.headings["possible-weighs-less"]
    lines = [
        f"# {heads['findings']}",
        "",
        _other("README", lang),
        "",
        space.join([heads["generated"], heads["same"]]),
        "",
    ]
    lines.append(space.join(notes))
    for block, title in labels.blocks.items():
        lines += ["", f"## {title}", ""]
        lines += _table([heads["code"], heads["title"], heads["severity"], heads["detected"], heads["certainty"]])
        lines += [_row(one, labels) for one in every if one.entry.code.startswith(block)]
    return "\n".join(lines) + "\n"


def _table(names: list[str]) -> list[str]:
    return [_cells(names), _cells("---" for _ in names)]


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(one: Article, labels: Words) -> str:
    code = one.entry.code
    link = f"[{code}]({code}{one.lang.suffix}.md)"
    return _cells(
        [link, one.title, labels.weight(one.entry), labels.places_of(one.details), labels.sure_of(one.details)]
    )


def _page(one: Article, labels: Words) -> str:
    heads, details = labels.headings, one.details
    slug = "" if one.title == one.entry.slug else f" (`{one.entry.slug}`)"
    sections = [
        [f"# {one.entry.code} {one.title}{slug}"],
        [_headline(one, labels)],
        *_section(heads["symptoms"], [_fence(details.symptoms)] if details.symptoms else []),
        *_section(heads["why"], [one.why]),
        *_section(heads["do"], [one.do, _numbered(one.steps)]),
        *_section(heads["detected"], [one.detected, labels.found(details)]),
        *_section(heads["example"], [_fence([details.example])]),
        *_section(heads["references"], [_bullets(map(_linked, details.references))] if details.references else []),
    ]
    return "\n\n".join(line for section in sections for line in section) + "\n"


def _headline(one: Article, labels: Words) -> str:
    """Return the line with the severity and the links to the other language and the index."""
    weight = f"{labels.headings['severity']}{labels.colon}{labels.weight(one.entry)}"
    return " · ".join([weight, _other(one.entry.code, one.lang), _home(one.lang, labels)])


def _section(title: str, parts: list[str]) -> Iterator[list[str]]:
    if parts:
        yield [f"## {title}", *parts]


def _other(name: str, lang: Lang) -> str:
    """Link the page in the other language, in that language's word for itself."""
    other = Lang.EN if lang is Lang.ZH else Lang.ZH
    title = words(other).headings["english" if other is Lang.EN else "chinese"]
    return f"[{title}]({name}{other.suffix}.md)"


def _home(lang: Lang, labels: Words) -> str:
    return f"[{labels.headings['index']}](README{lang.suffix}.md)"


def _fence(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def _numbered(steps: Iterable[str]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _linked(reference: str) -> str:
    """Make a thread's name a link."""
    return _THREAD.sub(lambda found: f"[{found[0]}](https://github.com/{found[1]}/issues/{found[2]})", reference)
