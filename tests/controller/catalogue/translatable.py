"""Collects what a module says to people: its sentences as templates, `{1}` for the first value of an f-string."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_WORDS = re.compile(r"[A-Za-z`]{2,}.* |.* [A-Za-z`]{2,}", re.DOTALL)  # two words, or a word and a value beside it
# Names of calls whose strings no person reads here: patterns, files, SQL, developers' errors.
_OTHERS = {
    "execute",
    "finditer",
    "format_map",
    "in_lang",
    "compile",
    "fullmatch",
    "match",
    "search",
    "sub",
    "split",
    "strftime",
    "TypeVar",
    "Literal",
    "Option",
}


def templates_of(path: Path) -> list[str]:
    """Return the templates of a module, in order, each once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return list(dict.fromkeys(text.strip() for node in _children(tree) for text in _templates(node)))


def template(node: ast.JoinedStr) -> str:
    """Return an f-string with its values numbered from 1."""
    text, number = "", 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += part.value
        else:
            number += 1
            text += f"{{{number}}}"
    return text


def _templates(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and _is_prose(node.value):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        text = template(node)
        if _is_prose(text):
            yield text
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _templates(part.value)
    elif not _is_other(node):
        for child in _children(node):
            yield from _templates(child)


# Marks of text for machines: SQL, shell, Python, markup, keys, configuration that is written out.
_CODE = re.compile(
    r"^(SELECT|PRAGMA|UPDATE|CREATE|BEGIN|import|from|exec|sh|umask|grep|echo|systemctl|update-rc|rc-update|rm|ls|ln|id|env)\b"
    r"|^(command|sudo|option|box|area|bold|dim|source|inputs|inventory|host|user|port|runtimes|litefleet)[: ]"
    r"|^[<#:&/\[^-]|[$^\\|]|&&|/dev/|; (do|then|fi)\b|-----|^\{1\} -[A-Z]|\{1\} (enable|disable|thin)|namespaces=|default-src"
)


def _is_prose(text: str) -> bool:
    bare = re.sub(r"`[^`]*`", "", text).strip()
    return _WORDS.search(re.sub(r"\{\d\}", "", text.strip())) is not None and _CODE.search(bare) is None


def _is_other(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in _OTHERS


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node, without docstrings and annotations."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not is_docstring:
                yield child
