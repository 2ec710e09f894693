"""A runtime's facts as JSON: in the cache beside its bundle, and in the documents that commands print."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from litefleet_agent.facts.flavour import Flavour
from litefleet_agent.facts.runtime import RuntimeFacts


def runtime_to_dict(runtime: RuntimeFacts) -> dict[str, Any]:
    """Return the JSON form: sets as sorted lists."""
    data: dict[str, Any] = _simple(asdict(runtime))
    return data


def _simple(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _simple(item) for name, item in value.items()}
    return sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


def runtime_from_dict(data: Any) -> RuntimeFacts:
    """Read the JSON form back.  Raises: TypeError or KeyError for one that is not well formed."""
    flavour = _typed(Flavour(), dict(data["flavour"]))
    return RuntimeFacts(**{**_typed(RuntimeFacts("bundle"), dict(data)), "flavour": Flavour(**flavour)})


def _typed(empty: RuntimeFacts | Flavour, data: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the types of their fields: lists become the sets or tuples that they were."""
    kinds = {field.name: type(getattr(empty, field.name)) for field in fields(empty)}
    return {name: kinds[name](value) if kinds[name] in (tuple, frozenset) else value for name, value in data.items()}
