"""What is read of a rollout: the same queries for every database, whichever driver answers them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager

from ..devices.identity import Identity
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, Rollout
from . import brief, owners, rollout_queries
from .brief import StatusInBrief
from .identity import Beside, read_identity
from .model import Confirmed, Owner, StateOlder
from .query import Query


class StateReader(ABC):
    """Reads a state.  Every method blocks, is one transaction, and raises StateError when the database cannot be used."""

    def __init__(self, name: str, clock: Callable[[], float], beside: Beside | None) -> None:
        self._name, self._clock, self._beside = name, clock, beside

    @abstractmethod
    def query(self) -> AbstractContextManager[Query]:
        """Return a transaction that reads by SQL text."""

    @abstractmethod
    def close(self) -> None:
        """Close the database."""

    def identity(self, fleet: str) -> Identity:
        """Return the identity under which this state switches a fleet's devices; without an id before the first lock."""
        with self.query() as query:
            return read_identity(query, fleet)

    def check_identity(self, fleet: str) -> None:
        """Raise StateOlder where this database is older than the file beside it."""
        if self._beside is not None:
            self._beside.check(self.identity(fleet), self._name)

    def behind(self, fleet: str) -> str:
        """Return why this database is not the latest copy of a fleet's state, as far as the file beside it shows; else ""."""
        try:
            self.check_identity(fleet)
        except StateOlder as older:
            return str(older)
        return ""

    def holder(self, fleet: str) -> Owner | None:
        """Return who runs this fleet right now, alive as far as can be known."""
        with self.query() as query:
            return owners.holder(query, fleet, owners.this_process(), self._clock())

    def rollout(self, rollout_id: str) -> Rollout | None:
        """Return one rollout."""
        with self.query() as query:
            return rollout_queries.one(query, rollout_id)

    def rollouts(self, fleet: str, limit: int = 20) -> tuple[Rollout, ...]:
        """Return the latest rollouts, the newest first."""
        with self.query() as query:
            return rollout_queries.latest(query, fleet, limit)

    def rows(self, rollout_id: str) -> tuple[DeviceRow, ...]:
        """Return a rollout's rows in the order of wave and position."""
        with self.query() as query:
            return rollout_queries.rows_of(query, rollout_id)

    def outcomes(self, rollout_id: str, chosen: Collection[str] | None = None) -> tuple[DeviceOutcome, ...]:
        """Return the last outcome of each row of a rollout that has one, in the rows' order; of the chosen devices, or of all."""
        with self.query() as query:
            return rollout_queries.outcomes_of(query, rollout_id, chosen)

    def in_brief(self, rollout_id: str) -> StatusInBrief:
        """Return what a status shows of a rollout's rows and outcomes."""
        with self.query() as query:
            return brief.in_brief(query, rollout_id)

    def runs_failed(self, rollout_id: str) -> Mapping[tuple[str, str], Confirmed]:
        """Return the devices that count as failed in a rollout and ran its release, confirmed, when they were last seen."""
        with self.query() as query:
            return {(c.device, c.model): c for c in rollout_queries.runs_failed(query, rollout_id)}

    def versions(self) -> Mapping[str, str]:
        """Return the version of every stored release, for people, by the release's id."""
        with self.query() as query:
            return rollout_queries.all_versions(query)
