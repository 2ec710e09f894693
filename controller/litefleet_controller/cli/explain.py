"""Commands that explain: `litefleet explain` a finding, `litefleet docs` a page."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import JsonOption, colored, command, is_terminal, show, terminal_width

_WIDEST = 100  # columns: longer lines of prose are hard to read
_LOGS = "`litefleet doctor --log FILE` explains the output of a program (`-` reads standard input)"


@command
def explain(
    codes: Annotated[
        list[str], typer.Argument(metavar="CODE...", help="Codes such as LF101, or their names; `all` lists them.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Explain a finding: the symptoms, the cause, the steps to take, and how litefleet detects it."""
    from ..catalogue.articles import article
    from ..catalogue.language import current_lang
    from ..catalogue.text import index_text, to_text

    wanted, every = _wanted(codes)
    articles = [article(code, current_lang()) for code in wanted]
    if as_json:
        data = [one.to_dict() for one in articles]
        show(json.dumps(data if every or len(data) > 1 else data[0], indent=2, ensure_ascii=False))
    elif every:
        show(index_text(articles))
    else:
        show("\n\n\n".join(to_text(one, min(terminal_width(), _WIDEST)) for one in articles))


@command
def docs(
    page: Annotated[
        str, typer.Argument(metavar="[PAGE]", help="A page such as rollouts; default: list the pages.")
    ] = "",
    man: Annotated[bool, typer.Option("--man", help="Write the manual page litefleet(1) to stdout.")] = False,
) -> None:
    """Show a page of the manual, as it belongs to this version."""
    from ..catalogue.articles import find_code
    from ..catalogue.language import current_lang
    from ..reports.manual import contents, for_terminal, named, page_text, pages

    if man:
        from .man_page import man_page

        show(man_page())
    elif not page:
        show(contents(current_lang()))
    elif named(page) not in pages(current_lang()) and find_code(page):
        explain([find_code(page)])
    else:
        text = page_text(page, current_lang())
        show(for_terminal(text, terminal_width(), colored()) if is_terminal() else text)


def _wanted(codes: list[str]) -> tuple[list[str], bool]:
    """Return the codes to explain, each once, and whether they are the whole catalogue."""
    from litefleet_agent.findings import CATALOGUE

    from ..catalogue.articles import find_code

    if [code.lower() for code in codes] == ["all"]:
        return list(CATALOGUE), True
    found = {text: find_code(text) for text in codes}
    unknown = [text for text, code in found.items() if not code]
    if unknown:
        raise UsageError(_unknown(codes, unknown[0]))
    return list(dict.fromkeys(found.values())), False


def _unknown(codes: list[str], text: str) -> str:
    """Return the sentence for a text that names no finding, with the nearest names."""
    from ..catalogue.articles import near_codes

    shown = " ".join(text.split())[:60]
    if len(codes) > 3 or len(text.split()) > 1:
        return f"'{shown}' is no finding; {_LOGS}"
    near = near_codes(text)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{shown} is no finding; {meant}`litefleet explain all` lists them, and {_LOGS}"
