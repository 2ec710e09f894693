"""The pages of the findings, from the catalogue: an index and a page for each, in every language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from litefleet_agent.findings import CATALOGUE
from litefleet_controller.catalogue.articles import Article, article
from litefleet_controller.catalogue.language import Lang
from litefleet_controller.catalogue.words import Words, words

_THREAD = re.compile(r"^([\w.-]+/[\w.-]+)#(\d+)")


def finding_pages() -> dict[str, str]:
    """Return each page's text by its name: findings/index.md, findings/LF101.md, findings/index.zh.md and so on."""
    made = {}
    for lang in Lang:
        every = [article(code, lang) for code in sorted(CATALOGUE)]
        made[f"findings/index{lang.suffix}.md"] = _index(every, words(lang))
        for one in every:
            made[f"findings/{one.entry.code}{lang.suffix}.md"] = _page(one, words(lang))
    return made


def _index(every: list[Article], labels: Words) -> str:
    heads, space = labels.headings, "" if every[0].lang is Lang.ZH else " "
    notes = labels.headings["decides"], labels.headings["possible-weighs-less"]
    lines = [
        f"# {heads['findings']}",
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
    link = f"[{code}]({code}.md)"
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
    """Return the line with the severity and the link to the index."""
    weight = f"{labels.headings['severity']}{labels.colon}{labels.weight(one.entry)}"
    return f"{weight} · [{labels.headings['index']}](index.md)"


def _section(title: str, parts: list[str]) -> Iterator[list[str]]:
    if parts:
        yield [f"## {title}", *parts]


def _fence(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def _numbered(steps: Iterable[str]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _linked(reference: str) -> str:
    """Make a thread's name a link."""
    return _THREAD.sub(lambda found: f"[{found[0]}](https://github.com/{found[1]}/issues/{found[2]})", reference)
