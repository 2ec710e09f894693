"""How values are kept: text that every database takes, and JSON as text, so that both databases give back the same."""

from __future__ import annotations

import json
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

__all__ = ["Json", "Words", "canonical"]

_NOT_KEPT = re.compile(
    "[\x00\ud800-\udfff]"
)  # PostgreSQL takes no NUL, UTF-8 has no lone surrogates; devices send both


def canonical(value: Any) -> str:
    """Return JSON of one form only: sorted keys, no spaces, ASCII; what JSON lacks is told as text."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    except TypeError:  # keys of several kinds can't be sorted until all are text
        return json.dumps(json.loads(json.dumps(value, default=str)), sort_keys=True, separators=(",", ":"))


class Words(sa.types.TypeDecorator[str]):
    """Text of any length; characters that a database refuses become U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else _NOT_KEPT.sub("\ufffd", value)


class Json(sa.types.TypeDecorator[Any]):
    """JSON as text: a database's own JSON type refuses NaN or NUL, which a device may well have measured or said."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else canonical(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value again."""
        return None if value is None else json.loads(value)
