"""`litefleet audit`: the entries of the audit log that filters choose, and the check of its chain of hashes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from ..config import load_config
from ..project import Options
from ..project.project import open_project, open_state
from ..state import AuditEntry
from .device_records import concerns

_MOST = 100_000  # entries that a filter searches


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are wanted; an empty field leaves out none."""

    who: str = ""  # a part of the author's name
    action: str = ""  # a part of the action
    rollout: str = ""  # the rollout that an entry is about
    since: float = 0.0  # seconds since the epoch

    def takes(self, entry: AuditEntry) -> bool:
        """Return whether an entry is wanted."""
        return (
            self.who.lower() in entry.who.lower()
            and self.action.lower() in entry.action.lower()
            and (not self.rollout or entry.what.get("rollout") == self.rollout)
            and entry.at >= self.since
        )


def audit_entries(options: Options, last: int = 50, wanted: AuditFilter = AuditFilter()) -> tuple[AuditEntry, ...]:
    """Return the last entries that match, the oldest first; with `limit` in the options only those about its devices.

    Raises: ConfigError, UsageError, StateError.
    """
    config = load_config(options.config)
    chosen = [device.name for device in open_project(options).devices] if options.limit else None
    with closing(open_state(config)) as state:
        entries = state.audit(last if wanted == AuditFilter() and chosen is None else _MOST)
        rollouts = {device: {m.rollout for m in state.moves_of(config.fleet, device)} for device in chosen or ()}
    found = (
        entry
        for entry in entries
        if wanted.takes(entry)
        and (chosen is None or any(concerns(entry, device, rollouts[device]) for device in chosen))
    )
    return tuple(found)[-last:]


def check_audit(options: Options) -> str:
    """Recompute the whole chain of hashes: return "" where it is intact, else the sentence about the first broken entry."""
    with closing(open_state(load_config(options.config))) as state:
        return state.check_audit()
