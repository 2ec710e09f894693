"""Prometheus' text format 0.0.4: families of samples, in the order in which they were made.  Pure."""

import math
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

__all__ = ["CONTENT_TYPE", "Exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_MOST_LABEL = 300  # characters of one value


class Exposition:
    """Collects samples and writes them, each family once, with HELP and TYPE."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: Dict[str, Tuple[str, str, List[str]]] = {}

    def gauge(self, name: str, text: str, value: Any, **labels: str) -> None:
        """Add a value that goes up and down; None, NaN and what is no number are left out."""
        self._add("gauge", name, text, value, labels)

    def counter(self, name: str, text: str, value: Any, **labels: str) -> None:
        """Add a count since the start; `name` ends in _total."""
        self._add("counter", name, text, value, labels)

    def histogram(
        self, name: str, text: str, buckets: Sequence[Sequence[float]], count: Any, total: Any, **labels: str
    ) -> None:
        """Add durations: [[bound, cumulated count], ...], their number and their sum."""
        lines = self._family("histogram", name, text)
        for bound, below in buckets:
            lines.append(_sample("%s_bucket" % name, dict(labels, le=_number(bound) or "0"), below))
        lines.append(_sample("%s_bucket" % name, dict(labels, le="+Inf"), count))
        lines.append(_sample("%s_sum" % name, labels, total))
        lines.append(_sample("%s_count" % name, labels, count))

    def _add(self, kind: str, name: str, text: str, value: Any, labels: Mapping[str, str]) -> None:
        if _number(value) is not None:
            self._family(kind, name, text).append(_sample(name, labels, value))

    def _family(self, kind: str, name: str, text: str) -> List[str]:
        if not _NAME.match(name):
            raise ValueError("no name of a metric: %r" % name)
        return self._families.setdefault(name, (kind, text, []))[2]

    def text(self) -> str:
        """Return everything as one text."""
        parts = []
        for name, (kind, said, lines) in self._families.items():
            full = self._prefix + name
            escaped = said.replace("\\", "\\\\").replace("\n", "\\n")
            parts.append("# HELP %s %s\n# TYPE %s %s\n" % (full, escaped, full, kind))
            parts.extend("%s%s\n" % (self._prefix, line) for line in lines)
        return "".join(parts)


def _number(value: Any) -> Optional[str]:
    """Return a number as the format writes it, None for what is not one."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else None
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return None


def _sample(name: str, labels: Mapping[str, str], value: Any) -> str:
    written = ",".join('%s="%s"' % (key, _escape(text)) for key, text in labels.items())
    return "%s%s %s" % (name, "{%s}" % written if written else "", _number(value) or "0")


def _escape(text: str) -> str:
    cut = "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:_MOST_LABEL])  # terminals show it too
    return cut.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
