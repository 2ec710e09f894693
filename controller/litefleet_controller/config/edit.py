"""Adds an entry to litefleet.yaml and leaves everything else, comments included, as it is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from litefleet_agent.facts.arch import arch_of

from ..common.errors import ConfigError, UsageError
from ..common.files import write_atomically
from .load import parse_config

_PLAIN = re.compile(r"[\w./~][\w./+@=-]*")


def add_runtime(path: Path, arch: str, key: str, file: Path) -> str:
    """Add `{key: file}` to the runtimes of an architecture in the litefleet.yaml at `path`; return the entry as written.

    The file's path is relative where it lies below the configuration's folder.  Raises: ConfigError for a configuration with
    problems; UsageError when it cannot be changed without touching more, with what to write by hand, or cannot be written.
    """
    text = path.read_text(encoding="utf-8")
    before = parse_config(text, path)
    base, real = path.resolve().parent, file.resolve()
    shown = str(real.relative_to(base)) if real.is_relative_to(base) else str(real)
    entry = f"{{{key}: {shown if _PLAIN.fullmatch(shown) else json.dumps(shown, ensure_ascii=False)}}}"
    by_hand = f"write `runtimes: {{{arch}: {entry}}}` into {path} yourself (several: a list of them)"
    try:
        changed = _with_entry(text, arch, entry)
        after = parse_config(changed, path)
    except (yaml.YAMLError, ConfigError, _Unusual) as error:
        raise UsageError(f"{path} is written in a way that is not changed here: {by_hand}") from error
    named = {**before.runtimes, arch: (*after.runtimes.get(arch, ()),)}
    same = {**before.model_dump(), "runtimes": None} == {**after.model_dump(), "runtimes": None}
    if not same or after.runtimes != named or len(named[arch]) != len(before.runtimes.get(arch, ())) + 1:
        raise UsageError(f"{path} would mean something else afterwards, so it stays as it is: {by_hand}")
    try:
        write_atomically(path, changed.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): {by_hand}") from error
    return f"runtimes: {arch}: {entry}"


class _Unusual(ValueError):
    """A layout that is not changed here."""


def _with_entry(text: str, arch: str, entry: str) -> str:
    """Return the text with one more entry.  Raises: _Unusual, YAMLError."""
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise _Unusual
    named = next((pair for pair in root.value if pair[0].value == "runtimes"), None)
    if named is None:
        return f"{text.rstrip()}\n\nruntimes:\n  {arch}: {entry}\n"
    runtimes = named[1]
    own = [pair for pair in runtimes.value if (found := arch_of(str(pair[0].value))) and found.name == arch]
    if own:
        return _with_another(text, own[0][1], entry)
    if runtimes.flow_style:
        return _insert(text, runtimes.start_mark.index + 1, f"{arch}: {entry}" + (", " if runtimes.value else ""))
    first = runtimes.value[0][0].start_mark
    return _insert_line(text, first.line, " " * first.column + f"{arch}: {entry}")


def _with_another(text: str, value: yaml.Node, entry: str) -> str:
    """Return the text with a list where there was one runtime, or with a longer list."""
    start = value.start_mark
    if isinstance(value, yaml.SequenceNode):
        if value.flow_style:
            return _insert(text, start.index + 1, entry + (", " if value.value else ""))
        return _insert_line(text, start.line, " " * start.column + f"- {entry}")
    if not isinstance(value, yaml.MappingNode) or value.flow_style:
        end = value.end_mark.index
        return f"{text[: start.index]}[{text[start.index : end]}, {entry}]{text[end:]}"
    if start.column < 2:
        raise _Unusual
    begin = start.index - 2  # `- ` takes the place of two spaces of the first key's indent
    if text[begin : start.index] != "  ":
        raise _Unusual
    listed = f"{text[:begin]}- {text[start.index :]}"
    return _insert_line(listed, start.line, " " * (start.column - 2) + f"- {entry}")


def _insert(text: str, at: int, what: str) -> str:
    return text[:at] + what + text[at:]


def _insert_line(text: str, number: int, line: str) -> str:
    """Insert a line before the line `number`, counted from 0."""
    lines = text.splitlines(keepends=True)
    if number >= len(lines) and lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    return "".join([*lines[:number], line + "\n", *lines[number:]])
