"""Breaks lines of mixed Chinese and English text: Chinese characters are two columns wide and need no space between them."""

from __future__ import annotations

import re

from rich.cells import cell_len, get_character_cell_size

_NOT_FIRST = "，。；：、！？）》」』”’…％%,.;:!?)]}"  # what must not begin a line
_NOT_LAST = "（《「『“‘([{"  # what must not end one

_LABEL = re.compile(r" *\S+(?: \S+){0,3}?(?: {2,}|(?<=:) +)|  +")


def padded(text: str, columns: int) -> str:
    """Return a text with spaces after it up to a number of columns."""
    return text + " " * max(columns - cell_len(text), 0)


def pieces(text: str) -> list[str]:
    """Return a text cut where a line may end: after spaces, and before and after each wide character."""
    cut: list[str] = []
    for char in text:
        before = cut[-1] if cut else ""
        if not before:
            cut.append(char)
            continue
        last = before[-1]
        wide = get_character_cell_size(char) == 2 or get_character_cell_size(last) == 2
        joined = char.isspace() or char in _NOT_FIRST or last in _NOT_LAST
        if not joined and (wide or last.isspace()):
            cut.append(char)
        else:
            cut[-1] += char
    return cut


def break_points(text: str, width: int) -> list[int]:
    """Return the offsets at which lines begin after the first one, so that each fits into `width` columns."""
    points: list[int] = []
    at = used = 0
    for piece in pieces(text):
        wide = cell_len(piece.rstrip())
        if used and used + wide > width:
            points.append(at)
            used = 0
        if wide > width:  # a path, say: it is cut wherever the line is full
            for index, char in enumerate(piece):
                if used + get_character_cell_size(char) > width and used:
                    points.append(at + index)
                    used = 0
                used += get_character_cell_size(char)
        else:
            used += cell_len(piece)
        at += len(piece)
    return points


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a paragraph, each at most `width` columns wide."""
    starts = [0, *break_points(text, width)]
    return [text[start:end].strip() for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def fitted(text: str, width: int) -> str:
    """Return lines that fit into `width` columns: a long one goes on below its own text, beside its label.

    The label is the text before two or more spaces, as in "  operators       41 conv2d, 1 fc", or before a colon.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        label = _LABEL.match(line)
        begin = label.end() if label and cell_len(label[0]) <= width // 2 else 0
        column, words = cell_len(line[:begin]), line[begin:]
        # a path or a hash stays whole, to be copied: the terminal breaks it
        rest = wrapped(words, width - column) if " " in words else [words]
        lines += [(line[:begin] if number == 0 else " " * column) + part for number, part in enumerate(rest)]
    return "\n".join(lines)
