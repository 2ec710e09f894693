"""Which devices and models an action is about, as the options `--limit` and `-m` choose them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import litefleet

from ...project.project import open_project
from ..service import Service


@dataclass(frozen=True)
class Selection:
    """Devices and models; all of them by default."""

    select: str = ""  # what `--limit` takes: names, globs, ranges, groups, tag:NAME, !not
    models: tuple[str, ...] = ()

    def opened(self, service: Service) -> litefleet.Project:
        """Return the server's project with this selection.  Raises: ConfigError; UsageError for what selects nothing."""
        if self == Selection():
            return service.project()
        return open_project(replace(service.options, limit=self.select, models=self.models))

    def to_read(self, service: Service) -> litefleet.Project:
        """Return the server's project with this selection, as its files were when they last changed.

        Raises: ConfigError; UsageError for what selects nothing.
        """
        return service.project() if self == Selection() else service.project().selected(self.select, self.models)

    def asked(self) -> dict[str, Any]:
        """Return the arguments that are not the default, for a job's record."""
        return {name: list(value) if name == "models" else value for name, value in asdict(self).items() if value}


EVERYTHING = Selection()
