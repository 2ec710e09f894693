"""A log as text: bounded, with correct line numbers, and each line safe to print."""

import re
from bisect import bisect_right
from typing import List, NamedTuple

MOST = 1 << 20  # characters that are read: the head and the tail of a longer text
_HEAD = 1 << 18
_SHOWN = 300  # characters of a line
_BEFORE = 100  # characters shown before the match, in a longer line
# "[I 11/24  0:11:36.681 ...", "[3 11/24 ..." (GLOG_v), and glog's "I0911 15:20:10.411525"
_LEVEL = re.compile(r"\[([A-Z]|\d{1,2}) {1,2}\d{1,2}/ ?\d{1,2} |^([A-Z])\d{4} \d\d:", re.MULTILINE)
_LOUD = ("F", "E", "W")
# as most logging libraries mark a line; Android logs crashes under the tag "DEBUG"
_INFORMS = re.compile(r"(?<![\w/-])(?:INFO|TRACE|DEBUG(?! {1,8}[AF:]))(?![\w-])")
_MARGIN = 80  # characters within which a line's level is marked


class Place(NamedTuple):
    """Where a match is: the line's number, counted from 1, and the line, safe to print."""

    number: int
    text: str


class LogText:
    """A text, cut to its head and tail where it is longer than a mebibyte."""

    def __init__(self, text: str) -> None:
        text = text.replace("\r\n", "\n").replace("\r", " ")
        hidden = 0
        self.cut = len(text) > MOST
        self._tail_at = len(text) + 1
        if self.cut:
            head, middle, tail = text[:_HEAD], text[_HEAD : _HEAD - MOST], text[_HEAD - MOST :]
            hidden, text, self._tail_at = middle.count("\n"), head + "\n" + tail, _HEAD + 1
        self.text = text
        self._hidden = hidden - 1 if self.cut else 0  # the join is not a line end of the original
        self._starts = [0] + [at.end() for at in re.finditer("\n", text)]

    def place(self, offset: int) -> Place:
        """Return the line that holds an offset; a long one is shown around it."""
        index = bisect_right(self._starts, offset) - 1
        begin = self._starts[index]
        line = self.text[begin : self._end(index)]
        number = index + 1 + (self._hidden if offset >= self._tail_at else 0)
        return Place(number, sanitize_line(line, offset - begin))

    def is_quiet(self, offset: int) -> bool:
        """Return whether the line of an offset is marked as information by Paddle-Lite (INFO and GLOG_v lines)."""
        begin = self._starts[bisect_right(self._starts, offset) - 1]
        level = _LEVEL.search(self.text, begin, min(begin + 200, offset + 1))
        return level is not None and (level.group(1) or level.group(2)) not in _LOUD

    def informs(self, offset: int) -> bool:
        """Return whether the line of an offset is marked as information by any library."""
        begin = self._starts[bisect_right(self._starts, offset) - 1]
        return self.is_quiet(offset) or _INFORMS.search(self.text, begin, min(begin + _MARGIN, offset)) is not None

    def last_line(self) -> str:
        """Return the last line that is not empty, "" where there is none."""
        lines: List[str] = [line for line in self.text[-65536:].split("\n") if line.strip()]
        return sanitize_line(lines[-1]) if lines else ""

    def _end(self, index: int) -> int:
        return self._starts[index + 1] - 1 if index + 1 < len(self._starts) else len(self.text)


def sanitize_line(line: str, at: int = 0) -> str:
    """Return a line without its margins, at most 300 characters around `at`, with control characters escaped."""
    begin = max(0, at - _BEFORE) if len(line) > _SHOWN else 0
    shown = line[begin : begin + _SHOWN].strip()
    marked = ("…" if begin else "") + shown + ("…" if begin + _SHOWN < len(line) else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in marked)
