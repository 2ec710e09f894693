"""Small readers that check one value from JSON, a file or the network: its type and its bounds.

Each returns the value with its static type and raises ValueError, whose text names the value (`name`), what it must be and
what it is.  A caller turns that into its own error.  JSON itself bounds nothing: an integer may have 4,000 digits, a number
may be NaN or Infinity, `true` passes for 1.  None of these passes here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Mapping, Tuple, TypeVar

    _T = TypeVar("_T")


MAX_NUMBER = 1e15  # above every count of bytes, milliseconds or seconds that is meant, and exact as a double
_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"  # characters of a name
_SHOWN = 60  # characters of a rejected value that the message repeats


_LEFT_OUT = 32  # characters in which a shortened text says how many were left out
_LONGEST_WORD = 60  # characters that are dropped at most to end a text with a word


def shown(value: object) -> str:
    """Return a value as an error message repeats it: at most 60 characters, on one line, with control characters escaped."""
    if isinstance(value, int) and not -(10**40) < value < 10**40:  # Python takes quadratic time to print a long one
        return "a number of over 40 digits"
    if isinstance(value, str):
        value = value[: _SHOWN + 1]  # before repr: what arrives may have megabytes
    elif isinstance(value, (list, tuple, dict)):
        return (
            "a list of %d items" % len(value) if not isinstance(value, dict) else "an object of %d items" % len(value)
        )
    words = repr(value)
    return words if len(words) <= _SHOWN else words[: _SHOWN - 3] + "..."


def number(value: object, low: float = -MAX_NUMBER, high: float = MAX_NUMBER, name: str = "the value") -> float:
    """Return a finite number from `low` to `high`, both included; an int stays an int.  Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError("%s must be a number from %s to %s, not %s" % (name, _bound(low), _bound(high), shown(value)))
    return value


def number_or(default: float, value: object, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    """Return `value` when it is a number from `low` to `high`, else `default`."""
    try:
        return number(value, low, high)
    except ValueError:
        return default


def whole(value: object, low: int = 0, high: int = int(MAX_NUMBER), name: str = "the value") -> int:
    """Return an int (not a bool, not 3.0) from `low` to `high`, both included.  Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError("%s must be a whole number from %d to %d, not %s" % (name, low, high, shown(value)))
    return value


def text(value: object, most: int, name: str = "the value", least: int = 0) -> str:
    """Return a text of `least` to `most` characters.  Raises ValueError."""
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise ValueError("%s must be a text of %d to %d characters, not %s" % (name, least, most, shown(value)))
    return value


def is_sha(text: object) -> bool:
    """Say whether `text` is a SHA-256 in lower-case hexadecimal digits."""
    return isinstance(text, str) and len(text) == 64 and not text.strip("0123456789abcdef")


def is_safe_name(text: object) -> bool:
    """Say whether `text` is a name that can be part of a path: up to 128 of A-Z a-z 0-9 . _ - after a letter or digit."""
    return isinstance(text, str) and 0 < len(text) <= 128 and text[0] not in "._-" and not text.strip(_NAME)


def matching(is_right: Callable[[str], object], value: object, name: str = "the value") -> str:
    """Return a text for which `is_right` is true.  Raises ValueError."""
    if not isinstance(value, str) or not is_right(value):
        raise ValueError("%s is not well formed: %s" % (name, shown(value)))
    return value


def flag(value: object, name: str = "the value") -> bool:
    """Return a bool.  Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError("%s must be true or false, not %s" % (name, shown(value)))
    return value


def mapping(value: object, name: str = "the value", most: int = 100000) -> Dict[str, object]:
    """Return a JSON object of at most `most` entries; its keys are texts.  Raises ValueError."""
    if not isinstance(value, dict) or len(value) > most or not all(isinstance(key, str) for key in value):
        raise ValueError("%s must be an object of at most %d entries, not %s" % (name, most, shown(value)))
    return value


def items(value: object, most: int, name: str = "the value", least: int = 0) -> List[object]:
    """Return a JSON array of `least` to `most` items, a tuple too, as a list.  Raises ValueError."""
    if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
        raise ValueError("%s must be a list of %d to %d items, not %s" % (name, least, most, shown(value)))
    return list(value)


def texts(value: object, most: int, longest: int, name: str = "the value") -> Tuple[str, ...]:
    """Return a JSON array of at most `most` texts, each of at most `longest` characters.  Raises ValueError."""
    return tuple(text(item, longest, "%s[%d]" % (name, place)) for place, item in enumerate(items(value, most, name)))


def each(value: object, read: Callable[[object, str], _T], most: int, name: str = "the value") -> Dict[str, _T]:
    """Return a JSON object with `read(entry, path)` applied to each of its entries.  Raises ValueError as `read` does."""
    found: Mapping[str, object] = mapping(value, name, most)
    return {key: read(entry, "%s.%s" % (name, key[:_SHOWN])) for key, entry in found.items()}


def _bound(value: float) -> str:
    return "%d" % value if abs(value) <= MAX_NUMBER and value == int(value) else "%g" % value


def whole_part(text: str, most: int) -> str:
    """Return at most `most` characters of a text's beginning, up to the end of a sentence or line, else of a word."""
    if len(text) <= most:
        return text
    kept = text[:most]
    for ends, least in ((("\n", ". ", "; ", " | "), most // 3), ((" ",), most - _LONGEST_WORD)):
        end, at = max(((end, kept.rfind(end)) for end in ends), key=lambda one: one[1])
        if at >= max(least, 1):
            return kept[:at] + end.strip().replace("|", "").replace(";", "")
    return kept


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters (64 at least): of a longer one its beginning, and how many were left out."""
    if len(text) <= most:
        return text
    kept = whole_part(text, most - _LEFT_OUT)
    return "%s … (%d more characters)" % (kept, len(text) - len(kept))
