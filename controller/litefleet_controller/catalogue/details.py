"""Details of each finding beyond the catalogue's row: how it is found, what people see, the steps, who else had it."""

from __future__ import annotations

from collections.abc import Mapping

from .details_device import DEVICE
from .details_files import FILES
from .details_fleet import FLEET
from .details_host import HOST
from .details_run import RUN
from .details_source import SOURCE
from .entry import Details, Where

__all__ = ["DETAILS", "Details", "Where"]

DETAILS: Mapping[str, Details] = {**FILES, **SOURCE, **DEVICE, **RUN, **FLEET, **HOST}
