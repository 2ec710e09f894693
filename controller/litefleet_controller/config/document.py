"""litefleet.yaml as plain values with the line of every key: the inventory's YAML tree, its scalars resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml
from litefleet_inventory import Map, Node, Place, Problem, Problems, Scalar, Seq, read_tree

KeyPath = tuple[str | int, ...]
MAX_VALUES = 100_000  # aliases multiply: a short file can expand to millions of values


class TextFloat(float):
    """A float that keeps its spelling: as a version, 2.10 is not 2.1."""

    text: str

    def __new__(cls, value: float, text: str) -> TextFloat:
        """Return `value`, written as `text`."""
        made = super().__new__(cls, value)
        made.text = text
        return made


@dataclass
class Document:
    """A YAML file's value, the line (from 1) of every path in it, and its problems as YAML."""

    file: str
    value: object = None  # dict, list, str, int, float, bool, date or None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of a path, or of its nearest parent that the file holds."""
        at = tuple(path)
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)


def read_document(text: str, file: str) -> Document:
    """Return the document; YAML errors, duplicate keys and unreadable scalars are in its `problems`, never raised."""
    problems = Problems()
    tree = read_tree(text, file, problems)
    values = _Values(Document(file), problems)
    if tree is not None:
        values.document.value = values.of(tree, ())
    values.document.problems = tuple(sorted(problems.found, key=lambda problem: problem.line))
    return values.document


class _Values:
    """Turns nodes into plain values and records their lines; the tree's depth is bounded by `read_tree`."""

    def __init__(self, document: Document, problems: Problems) -> None:
        self.document = document
        self._problems = problems
        self._count = 0
        self._resolver = yaml.SafeLoader("")

    def of(self, node: Node, path: KeyPath) -> object:
        """Return the value of a node at a path."""
        self.document.lines.setdefault(path, node.line)
        self._count += 1
        if self._count > MAX_VALUES:
            if self._count == MAX_VALUES + 1:
                self._add(node.line, (), f"holds more than {MAX_VALUES:,} values")
            return None
        if isinstance(node, Map):
            return {key: self._entry(entry.line, entry.node, (*path, key)) for key, entry in node.entries.items()}
        if isinstance(node, Seq):
            return [self.of(item, (*path, index)) for index, item in enumerate(node.items)]
        return self._scalar(node, path)

    def _entry(self, line: int, node: Node, path: KeyPath) -> object:
        self.document.lines[path] = line
        return self.of(node, path)

    def _scalar(self, node: Scalar, path: KeyPath) -> object:
        """Return a scalar's value as YAML 1.1 resolves it; quoted text stays text."""
        if not node.plain:
            return node.text
        tag: str = self._resolver.resolve(yaml.ScalarNode, node.text, (True, False))  # type: ignore[no-untyped-call]
        try:
            value: object = self._resolver.construct_object(yaml.ScalarNode(tag, node.text))
        except (yaml.YAMLError, ValueError) as error:
            self._add(node.line, path, f"'{node.text[:60]}' cannot be read: {str(error).splitlines()[0]}")
            return None
        return TextFloat(value, node.text) if isinstance(value, float) else value

    def _add(self, line: int, path: KeyPath, message: str) -> None:
        self._problems.add(Place(self.document.file, line, ".".join(map(str, path))), message)
