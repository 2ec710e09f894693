"""The pages of docs/ for a terminal: in a checkout from its folder, else from the installed package."""

from __future__ import annotations

import difflib
import io
import re
from pathlib import Path
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown, MarkdownElement
from rich.text import Text

from ..catalogue.language import Lang
from ..common.errors import UsageError
from ..common.text import sanitize

_FOLDERS = (Path(__file__).parents[1] / "docs", Path(__file__).parents[3] / "docs")  # installed; in a checkout
_LANGUAGES = re.compile(
    r"^\[(?:English|中文)\]\([\w.-]+\)\n+", re.MULTILINE
)  # the line that leads to the other language
_LINK = re.compile(r"\[([^\]\n]+)\]\((?:\.\./|adr/)?((?:how-to/)?[\w-]+)(?:\.zh)?(?:\.md)?(?:#[^)\s]*)?\)")
_CODE = re.compile(r"LF\d{3}")
_WIDEST = 100  # columns: longer lines of prose are hard to read


class _LeftHeading(Heading):
    """A heading at the left margin; rich's own are centred."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("")
        yield Text.assemble((self.text.plain, "bold underline" if self.tag == "h1" else "bold"))


class _Page(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "heading_open": _LeftHeading}


def pages(lang: Lang) -> dict[str, Path]:
    """Return the pages by name ("rollouts", "how-to/jetson"), in a language where they are written in it, else in English."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    if folder is None:
        return {}
    found = [*sorted(folder.glob("*.md")), *sorted(folder.glob("how-to/*.md"))]
    english = {path.relative_to(folder).with_suffix("").as_posix(): path for path in found if "." not in path.stem}
    return {name: _in(lang, path) for name, path in english.items()}


def _in(lang: Lang, path: Path) -> Path:
    translated = path.with_name(f"{path.stem}{lang.suffix}.md")
    return translated if translated.is_file() else path


def contents(lang: Lang) -> str:
    """Return one line for each page: its name and its title."""
    found = pages(lang)
    width = max(map(len, found), default=0)
    return "\n".join(f"{name.ljust(width)}  {_title(path)}" for name, path in found.items())


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as page:
        return next((line[2:].strip() for line in page if line.startswith("# ")), path.stem)


def named(name: str) -> str:
    """Return a page's name for what a person typed: "docs/rollouts.zh.md" is "rollouts"."""
    return name.lower().removeprefix("docs/").removesuffix(".md").removesuffix(".zh")


def page_text(name: str, lang: Lang) -> str:
    """Return a page's Markdown.  Raises: UsageError for an unknown name, with the nearest ones."""
    found = pages(lang)
    wanted = named(name)
    if wanted in found:
        return found[wanted].read_text(encoding="utf-8")
    near = difflib.get_close_matches(wanted, found, 2)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"There is no page {sanitize(name, 60)!r}; {meant}`litefleet docs` lists them.")


def for_terminal(markdown: str, width: int, color: bool) -> str:
    """Return Markdown as text for a terminal: headings, lists and tables laid out, at most 100 columns wide."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=min(width, _WIDEST),
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
        _environ={},
    )
    console.print(_Page(_LINK.sub(_linked, _LANGUAGES.sub("", markdown)), hyperlinks=False, code_theme="ansi_light"))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _linked(link: re.Match[str]) -> str:
    """Return a link to another page as its text and the command that shows it; one within the page as its text."""
    text, name = link[1], link[2]
    if name not in pages(Lang.EN) or name in text or _CODE.fullmatch(text) or f"`{name}`" in text:
        return text
    return f"{text} (`litefleet docs {name}`)"
