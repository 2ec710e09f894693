"""Details of each finding beyond the catalogue's row: how it is found, what people see, the steps, who else had it.

The texts are data, `texts/GROUP.json` in English and `texts/GROUP.zh.json` in Chinese: an object of each code, whose keys are
the fields of `Details` and `Zh`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from litefleet_agent.findings import Certainty

from .entry import Details, Where

_GROUPS = ("files", "source", "device", "run", "fleet", "host")


def read_texts(suffix: str) -> dict[str, dict[str, Any]]:
    """Return the texts of all groups by code, from the files that end with `suffix`; lists are tuples."""
    folder = files(__package__) / "texts"
    found: dict[str, dict[str, Any]] = {}
    for group in _GROUPS:
        for code, texts in json.loads((folder / f"{group}{suffix}.json").read_text(encoding="utf-8")).items():
            found[code] = {key: tuple(text) if isinstance(text, list) else text for key, text in texts.items()}
    return found


def _details(texts: dict[str, Any]) -> Details:
    sure = tuple(map(Certainty, texts.pop("sure", (Certainty.CERTAIN,))))
    return Details(where=tuple(map(Where, texts.pop("where"))), sure=sure, **texts)


DETAILS: Mapping[str, Details] = {code: _details(texts) for code, texts in read_texts("").items()}
