"""Makes texts from outside safe to print on a terminal or in a report.  Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping

from litefleet_agent.formats.checked import whole_part

LINE_LIMIT = 400  # characters of one device's sentence that a report shows
# Unicode categories that are escaped: controls, bidi and zero-width marks, lone surrogates, line separators
_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_READY = frozenset((str, int, bool, type(None)))  # what JSON represents as it is
_DEEPEST = 32  # levels; a device's facts have a few, and a hostile device must not cause a RecursionError


def json_ready(value: object, depth: int = 0) -> object:
    """Return a value that JSON can represent: NaN and Inf become the strings "NaN" and "Infinity"."""
    if depth > _DEEPEST:
        return "… (too deep)"
    if type(value) in _READY:  # nearly all of them: the checks below take ten times as long
        return value
    if isinstance(value, dict | Mapping):
        return {
            str(key): inner if type(inner) in _READY and depth < _DEEPEST else json_ready(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [json_ready(inner, depth + 1) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _visible(char: str) -> str:
    """Return a character, escaped where a terminal would interpret or hide it."""
    if unicodedata.category(char) not in _ESCAPED:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def sanitize(text: object, limit: int = 300) -> str:
    """Return a text from outside as one printable line; line breaks become spaces.

    Of more than `limit` characters, it is the beginning, up to the end of a sentence or word, and how many were left out.
    """
    raw = text if isinstance(text, str) else str(json_ready(text))
    if len(raw) <= limit and raw.isascii() and raw.isprintable():
        return raw  # nearly all of them
    kept = whole_part(raw[: limit + 1], limit)
    shown = "".join(map(_visible, " ".join(kept.replace("\t", " ").splitlines())))
    return shown if len(raw) <= limit else f"{shown}… ({len(raw) - len(kept)} more characters)"


def sanitize_lines(text: object, lines: int = 40, width: int = 300) -> str:
    """Return the last `lines` lines of a text, each sanitized; a first line counts those that were left out."""
    every = str(text)[-lines * width * 4 :].replace("\r\n", "\n").rstrip("\n").split("\n")
    kept = [sanitize(line.replace("\t", "    "), width) for line in every[-lines:]]
    left_out = str(text).rstrip("\n").count("\n") + 1 - len(kept)
    return "\n".join(([f"… ({left_out} earlier lines left out)"] if left_out > 0 else []) + kept)
