"""Reads YAML text into a small tree with line numbers, from parser events: no recursion, no tags, aliases are shared.

Scalars stay text: the field decides how to read its value, so a device may be named `no` or `007`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from .problems import Place, Problems

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_DEPTH = 32
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
MAX_MERGED = 1_000_000  # entries copied by `<<`, over the whole file


@dataclass(slots=True)
class Scalar:
    """Text, and whether it was written without quotes."""

    text: str
    plain: bool
    line: int

    @property
    def is_null(self) -> bool:
        """Whether this is YAML's null: empty, `~` or `null` without quotes."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Seq:
    """A list."""

    line: int
    items: list[Node] = field(default_factory=list)


class Entry(NamedTuple):
    """A mapping's value, and the line of its key."""

    line: int
    node: Node


@dataclass(slots=True)
class Map:
    """A mapping with text keys, in the order written."""

    line: int
    entries: dict[str, Entry] = field(default_factory=dict)


Node = Scalar | Seq | Map


class _StopError(Exception):
    """This file cannot be read any further."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class _Frame:
    """A collection that is being read."""

    node: Seq | Map
    anchor: str | None
    key: Scalar | None = None
    merges: list[Entry] = field(default_factory=list)


@dataclass
class _Builder:
    file: str
    problems: Problems
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)  # None: still being read
    root: Node | None = None
    documents: int = 0
    merged: int = 0

    def feed(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event, line)
            scalar = Scalar(event.value, event.style is None or event.style == "", line)
            if event.anchor is not None:
                self.anchors[event.anchor] = scalar
            self._take(scalar, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._take(self._alias(event.anchor, line), line)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _StopError(line, "a second document begins here; write one document per file")

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
        if event.tag not in (None, "!"):
            self.problems.add(self._place(line), "YAML tags (!...) are not supported; leave it out")

    def _place(self, line: int) -> Place:
        return Place(self.file, line, ".".join(f.key.text for f in self.stack if f.key is not None))

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._refuse_tag(event, line)
        if len(self.stack) >= MAX_DEPTH:
            raise _StopError(line, _TOO_DEEP)
        node: Seq | Map = Map(line) if isinstance(event, yaml.MappingStartEvent) else Seq(line)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Frame(node, event.anchor))

    def _close(self) -> None:
        frame = self.stack.pop()
        for entry in frame.merges:
            self._merge(frame.node, entry)
        if frame.anchor is not None:
            self.anchors[frame.anchor] = frame.node
        self._take(frame.node, frame.node.line)

    def _alias(self, name: str | None, line: int) -> Node:
        name = name or ""
        if name not in self.anchors:
            raise _StopError(line, f"alias *{name[:80]} has no anchor &{name[:80]} above it")
        node = self.anchors[name]
        if node is None:
            raise _StopError(line, f"alias *{name[:80]} is inside its own anchor")
        return node

    def _take(self, node: Node, line: int) -> None:
        """Add a finished node to its parent."""
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if isinstance(frame.node, Seq):
            frame.node.items.append(node)
        elif frame.key is None:
            if not isinstance(node, Scalar):
                raise _StopError(
                    line,
                    f"a key is {kind_of(node)}; keys are names (put a name with brackets in quotes inside {{...}})",
                )
            frame.key = Scalar(node.text, node.plain, line)
        else:
            self._pair(frame, frame.node, frame.key, node)
            frame.key = None

    def _pair(self, frame: _Frame, target: Map, key: Scalar, node: Node) -> None:
        if key.plain and key.text == "<<":
            frame.merges.append(Entry(key.line, node))
        elif key.text in target.entries:
            first = target.entries[key.text].line
            self.problems.add(self._place(key.line), f"written twice; first on line {first}")
        else:
            target.entries[key.text] = Entry(key.line, node)

    def _merge(self, target: Node, entry: Entry) -> None:
        """Apply `<<: *anchor`: the mapping's own entries win."""
        if not isinstance(target, Map):
            return
        for part in entry.node.items if isinstance(entry.node, Seq) else [entry.node]:
            if not isinstance(part, Map):
                self.problems.add(self._place(entry.line), f"'<<' takes a mapping, found {kind_of(part)}")
                continue
            self.merged += len(part.entries)
            if self.merged > MAX_MERGED:
                raise _StopError(entry.line, f"'<<' copies more than {MAX_MERGED:,} entries")
            for key, value in part.entries.items():
                target.entries.setdefault(key, value)


def read_tree(text: str, file: str, problems: Problems) -> Node | None:
    """Return the tree of one YAML document; None when it is empty or broken (then `problems` has the reason)."""
    builder = _Builder(file, problems)
    try:
        for event in _events(text):
            builder.feed(event)
    except _StopError as stop:
        problems.add(Place(file, stop.line), str(stop))
        return None
    return builder.root


def _events(text: str) -> Iterator[yaml.Event]:
    """Yield parser events; raise _StopError with a sentence where the text is not YAML."""
    if "\0" in text:
        raise _StopError(text[: text.index("\0")].count("\n") + 1, "a NUL byte; this is not a YAML text file")
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.MarkedYAMLError as err:
        raise _StopError(*_syntax_error(err, text.count("\n", 0, len(text) - 1) + 1)) from None
    except (yaml.YAMLError, UnicodeError) as err:
        raise _StopError(0, f"not valid YAML: {' '.join(str(err).split())[:200]}") from None


def _syntax_error(err: yaml.MarkedYAMLError, lines: int) -> tuple[int, str]:
    """Return line and sentence for a text that is not YAML, with the line of an unclosed bracket."""
    mark = err.problem_mark or err.context_mark
    line = min(mark.line + 1, lines) if mark else 0  # the end of the file counts as its last line
    if "maximum nesting depth" in f"{err.context} {err.problem}":  # libyaml's own limit; it parses ahead of this reader
        return line, _TOO_DEEP
    context = err.context or ""
    if context and err.context_mark and err.context_mark.line + 1 < line:
        context += f" that begins on line {err.context_mark.line + 1},"
    reason = " ".join(part for part in (context, err.problem) if part)
    return line, f"not valid YAML: {reason}"


def kind_of(node: Node) -> str:
    """Return "a list", "a mapping", "text", "nothing" or what else `node` is, for messages."""
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Seq):
        return "a list"
    return "nothing" if node.is_null else "text"
