"""`bandwidth:` of litefleet.yaml: how much may be sent to devices at once, in bits a second as lines are sold; `site_cache:`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from .base import Strict

_SCALE = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_BITS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?)\s*(bit/s|bps|B/s)?\s*")
_LEAST = 8_000  # bits a second


def _rate(value: Any) -> Any:
    """Return bits a second for 10M, "10 Mbit/s" or "1.25 MB/s"; a number without a unit is bits a second."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is no bandwidth: write bits a second, as 10M, or bytes a second, as 1.25 MB/s")
    found = _BITS.fullmatch(str(value))
    if found is None:
        raise ValueError(f"'{value}' is no bandwidth: write bits a second, as 10M, or bytes a second, as 1.25 MB/s")
    number, scale, unit = found.groups()
    bits = float(number) * _SCALE[scale.lower()] * (8 if unit == "B/s" else 1)
    if bits < _LEAST:
        raise ValueError(f"'{value}' is {bits:g} bits a second; at least 8k are needed (M is a million of them)")
    return bits


Rate = Annotated[float, BeforeValidator(_rate, json_schema_input_type=str | int | float), Field(ge=_LEAST)]


class BandwidthConfig(Strict):
    """How much is sent to devices; sessions that pass the same place share its limit."""

    fleet: Rate | None = None  # all devices together
    per_jump_host: Rate | None = None  # the devices behind each jump host together
    per_site: dict[str, Rate] = Field(default_factory=dict)  # the devices of an inventory group together


class SiteCacheConfig(Strict):
    """Where devices get files from neighbours, so that a site's line carries each file once; nowhere by default."""

    jump_hosts: tuple[str, ...] = ()  # `jump:` of the inventory: the devices behind one of these are one site
    sites: tuple[str, ...] = ()  # inventory groups whose devices are one site
