"""The reference of the Python API from `litefleet.__all__`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import litefleet

from .markdown import Lang, code, page_name, table

_WORDS = {
    Lang.EN: {
        "python": "Python API",
        "note": "Generated from the code. Names that are not listed here may change from version to version.",
        "functions": "Functions",
        "classes": "Classes",
    },
    Lang.ZH: {
        "python": "Python API",
        "note": "由代码生成，说明为代码中的英文。这里没有列出的名称可能随版本改变。",
        "functions": "函数",
        "classes": "类",
    },
}
_EXAMPLE = re.compile(r"(?:^ {4}.*\n?(?:^ *\n)*)+", re.MULTILINE)


def api_pages() -> dict[str, str]:
    """Return the pages of the Python API in each language, by name."""
    made = {}
    for lang in Lang:
        made[page_name("reference/python-api", lang)] = _python(lang)
    return made


def _python(lang: Lang) -> str:
    words: Any = _WORDS[lang]
    names = [name for name in litefleet.__all__ if not name.startswith("__")]
    public = {name: getattr(litefleet, name) for name in names}
    functions = {name: one for name, one in public.items() if inspect.isfunction(one)}
    classes = {name: one for name, one in public.items() if inspect.isclass(one)}
    parts = [f"# {words['python']}", words["note"], _doc(litefleet), f"## {words['functions']}"]
    parts += [part for name, one in functions.items() for part in _function(name, one, 3)]
    parts.append(f"## {words['classes']}")
    parts += [part for name, one in classes.items() for part in _class(name, one)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _function(name: str, function: Any, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name.rpartition('.')[2]}` {{ #{name.lower()} }}"
    yield f"```python\n{_declaration(name.rpartition('.')[2], function)}\n```"
    yield _doc(function)


def _declaration(name: str, function: Any) -> str:
    """Return a function's first line; one with many arguments has a line for each."""
    declared = inspect.signature(function)
    line = _unquoted(f"def {name}{declared}")
    if len(line) <= 100:
        return line
    result = "" if declared.return_annotation is inspect.Signature.empty else f" -> {declared.return_annotation}"
    whole = str(declared.replace(return_annotation=inspect.Signature.empty))[1:-1]
    arguments = re.split(r", (?=\*|\w+[:=])", whole)
    return _unquoted(f"def {name}(\n    " + ",\n    ".join(arguments) + f",\n){result}")


def _unquoted(line: str) -> str:
    """Return a declaration whose annotations are no texts: the code's are, since it defers them."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", line)


def _class(name: str, one: type[Any]) -> Iterator[str]:
    yield f"### `{name}` {{ #{name.lower()} }}"
    yield _doc(one)
    fields = getattr(one, "__annotations__", {})
    rows = [(code(key), code(str(getattr(kind, "__name__", kind)))) for key, kind in fields.items() if key[0] != "_"]
    yield table(("field", "type"), rows)
    for key, method in vars(one).items():
        plain = method.__func__ if isinstance(method, classmethod | staticmethod) else method
        if inspect.isfunction(plain) and not key.startswith("_") and plain.__doc__:
            yield from _function(f"{name}.{key}", plain, 4)


def _doc(one: Any) -> str:
    """Return a docstring as Markdown: its indented lines are an example."""
    text = inspect.cleandoc(one.__doc__ or "")
    if inspect.isclass(one) and text.startswith(f"{one.__name__}("):  # what dataclasses and enums write themselves
        return ""
    return _EXAMPLE.sub(lambda found: f"```python\n{textwrap.dedent(found[0]).strip()}\n```\n", text).strip()
