"""`litefleet explain`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..common.errors import UsageError
from .common import JsonOption, app, show, width

__all__ = ["explain"]

_LOGS = "what a program printed is explained by `litefleet doctor --log FILE` (`-` reads it from standard input)"


@app.command()
def explain(
    codes: Annotated[
        list[str], typer.Argument(metavar="CODE...", help="Codes such as LF101, or their names; `all` lists them.")
    ],
    lang: Annotated[str | None, typer.Option("--lang", help="en or zh; default: the locale's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a finding means: what people see, why it happens, the steps to take, and how it is found."""
    from ..catalogue.articles import article
    from ..catalogue.text import index_text, to_text
    from ..catalogue.words import Lang, lang_of

    if lang is not None and lang not in list(Lang):
        raise UsageError(f"--lang {lang[:40]}: there are {' and '.join(Lang)}")
    wanted, every = _wanted(codes)
    found = [article(code, lang or lang_of()) for code in wanted]
    if as_json:
        data = [one.to_dict() for one in found]
        show(json.dumps(data if every or len(data) > 1 else data[0], indent=2, ensure_ascii=False))
    elif every:
        show(index_text(found))
    else:
        show("\n\n\n".join(to_text(one, min(width(), 100)) for one in found))


def _wanted(codes: list[str]) -> tuple[list[str], bool]:
    """Return the codes that are meant, each once, and whether they are all there are."""
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
    """Say that a word is no finding, and what was perhaps meant."""
    from ..catalogue.articles import near_codes

    shown = " ".join(text.split())[:60]
    if len(codes) > 3 or len(text.split()) > 1:
        return f"'{shown}' is no finding; {_LOGS}"
    near = near_codes(text)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{shown} is no finding; {meant}`litefleet explain all` lists them, and {_LOGS}"
