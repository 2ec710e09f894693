"""YAML read with its positions: plain values, the line of every key, duplicates found.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

__all__ = ["Document", "TextFloat", "parse_yaml"]

Path = tuple[str | int, ...]
_DEPTH = 50
_NODES = 100_000  # aliases may multiply: a short file can stand for millions of values


class TextFloat(float):
    """A float that remembers how it was written: as a version, 2.10 is not 2.1."""

    text: str

    def __new__(cls, value: float, text: str) -> TextFloat:
        """Return `value`, written as `text`."""
        made = super().__new__(cls, value)
        made.text = text
        return made


@dataclass(frozen=True)
class Document:
    """A parsed file: its value, the line (from 1) of every path in it, and what is wrong with it as YAML."""

    value: Any
    lines: dict[Path, int]
    problems: tuple[tuple[int, str], ...] = ()

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of a path, or of its nearest parent that is written down."""
        at = tuple(path)
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)


def parse_yaml(text: str) -> Document:
    """Return the document; YAML's own errors and duplicate keys are in its `problems`, never raised."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = getattr(error, "problem", None) or str(error).splitlines()[0]
        return Document(None, {}, (((mark.line + 1) if mark else 1, f"this is not YAML: {message}"),))
    except RecursionError:
        return Document(None, {}, ((1, "this is nested too deeply to be read"),))
    builder = _Builder()
    value = builder.build(node, (), 0) if node is not None else None
    return Document(value, builder.lines, tuple(builder.problems))


class _Builder:
    """Turns nodes into plain values and writes down where each one was."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[tuple[int, str]] = []
        self._nodes = 0
        self._scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, path: Path, depth: int) -> Any:
        """Return the value of a node."""
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes >= _NODES:
            if self._nodes == _NODES:
                self.problems.append((line, f"holds more than {_NODES} values"))
            return None
        self.lines.setdefault(path, line)
        if depth > _DEPTH:
            message = (line, f"nested deeper than {_DEPTH} levels")
            if message not in self.problems:
                self.problems.append(message)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(nested, (*path, i), depth + 1) for i, nested in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        """Return a mapping; keys are taken as they are written."""
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append((line, "a key must be a plain word"))
                continue
            key = str(key_node.value)
            if key in made:
                self.problems.append((line, f"'{key}' is written twice (first in line {self.lines[(*path, key)]})"))
                continue
            self.lines[(*path, key)] = line
            made[key] = self.build(value_node, (*path, key), depth + 1)
        return made

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        """Return a scalar's value as YAML 1.1 reads it."""
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append((line, f"'{str(node.value)[:60]}' cannot be read: {str(error).splitlines()[0]}"))
            return None
        return TextFloat(value, str(node.value)) if isinstance(value, float) else value
