"""Prepares the pages of docs/ for the site: links to what a checkout has become links to what the site has.

In a checkout the pages link each other by file (`X.md`, `X.zh.md`), the README, and files beside docs/.  The site adds the
language itself, so `X.zh.md` becomes `X.md`; files from beside docs/ that people read get a page of their own; a link to any
other file becomes its text.  A link whose text is a file's name gets the page's title instead.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable
from pathlib import Path

# files outside docs/ that the site has, by the name that they get there
OUTSIDE = {
    "README.md": "readme.md",
    "README.zh.md": "readme.zh.md",
    "CHANGELOG.md": "changelog.md",
    "bench/README.md": "measurements.md",
    "inventory/example.yaml": "examples/inventory.yaml",
    "inventory/schema.json": "examples/inventory.schema.json",
}
FINDINGS = "docs/findings"  # `findings.md#lf101` in a checkout; the site has a page for each
_FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]`]|`[^`]*`)+)\]\(([^)\s]+)\)")
_OTHER_LANGUAGE = re.compile(r"^\[(?:English|中文)\]\([\w./-]+\)(?: · )?(?=\n|\S)", re.MULTILINE)
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def stage(root: Path, target: Path, generated: dict[str, str]) -> None:
    """Write the site's source into a folder: the pages of docs/ with their links turned, and generated ones by name.

    Only files whose content differs are written, and files that are no longer made are removed, so that a second build is quick.
    """
    sources = _sources(root)
    titles = {name: _title(path) for path, name in sources.items() if path.suffix == ".md"}
    titles |= {name: title[1] for name, text in generated.items() if (title := _TITLE.search(text))}
    texts = dict(generated)
    for path, name in sources.items():
        if path.suffix == ".md":
            texts[name] = _turned(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix(), name, titles)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
    for name, text in texts.items():
        _write(target / name, text)
    made = {*texts, *sources.values()}
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target).as_posix() not in made:
            path.unlink()


def _sources(root: Path) -> dict[Path, str]:
    """Return each file that the site takes from the checkout, with its name there."""
    docs = root / "docs"
    kept = (path for path in sorted(docs.rglob("*")) if path.is_file() and not path.name.startswith("findings."))
    found = {path: path.relative_to(docs).as_posix() for path in kept}
    return found | {root / source: name for source, name in OUTSIDE.items()}


def _title(path: Path) -> str:
    found = _TITLE.search(path.read_text(encoding="utf-8"))
    return found[1] if found else path.stem


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _turned(text: str, source: str, name: str, titles: dict[str, str]) -> str:
    """Return a page's text with its links turned; what is in fences stays as it is."""
    text = _OTHER_LANGUAGE.sub("", text, count=1)
    link = _link_turner(source, name, titles)
    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _link_turner(source: str, name: str, titles: dict[str, str]) -> Callable[[re.Match[str]], str]:
    chinese = source.endswith(".zh.md")

    def turned(link: re.Match[str]) -> str:
        shown, address = link[1], link[2]
        path, mark, anchor = address.partition("#")
        if ":" in path or not path:
            return link[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = _on_site(there, anchor)
        if page is None:
            return shown
        if page.startswith("findings/LF"):
            mark = anchor = ""
        language = page.removesuffix(".md") + ".zh.md"
        title = titles.get(language if chinese and language in titles else page, shown)
        if shown.strip("`").removesuffix(".zh.md").removesuffix(".md") in _names(path):
            shown = title
        return f"[{shown}]({posixpath.relpath(page, posixpath.dirname(name) or '.')}{mark}{anchor})"

    return turned


def _names(path: str) -> set[str]:
    """Return what a link to a file shows where it shows the file's name: with its folder, and without."""
    plain = path.removesuffix(".md").removesuffix(".zh")
    return {plain, plain.removeprefix("../"), plain.removeprefix("docs/"), f"docs/{plain}"}


def _on_site(there: str, anchor: str) -> str | None:
    """Return the site's name, in English, of a file of the checkout; None for one that it does not have."""
    english = re.sub(r"\.zh\.md$", ".md", there)
    if english == f"{FINDINGS}.md":
        return f"findings/{anchor.upper() if anchor.startswith('lf') else 'index'}.md"
    if english.startswith("docs/"):
        return english.removeprefix("docs/")
    return OUTSIDE.get(english)
