"""What a model's service stands on: releases on disk, and somebody to tell."""

from typing import Callable, List, NamedTuple, Optional, Sequence

from ..errors import AgentError
from ..facts import Facts
from ..findings import Finding, finding
from ..findings.environment import static_findings
from ..releases.activation import rollback, take
from ..releases.store import Store, StoreError
from .event_loop import Loop, aside
from .history import History
from .metrics import ServiceFigures
from .settings import Settings
from .systemd import Log
from .workers.plan import WorkerPlan, plan_of

__all__ = ["Device", "Ground", "Prepared", "TakenBack"]


class Prepared(NamedTuple):
    """How a release is to be run here, or what speaks against it."""

    plan: Optional[WorkerPlan]
    against: List[Finding]


class TakenBack(NamedTuple):
    """What became of the way back on disk."""

    done: bool  # False: it failed, or somebody had switched to something else
    why_not: str = ""  # that is to be tried again


class Ground:
    """What a model's service asks for.  Nothing here waits: what takes time is told later, from the loop."""

    def previous(self, model: str) -> str:
        """Return what was current before, on disk; "" for nothing."""
        raise NotImplementedError

    def prepare(self, model: str, release: str, then: Callable[[Prepared], None]) -> None:
        """Look at a release before anything of it is loaded."""
        raise NotImplementedError

    def take_back(self, model: str, release: str, to: str, then: Callable[[TakenBack], None]) -> None:
        """Make `to` current on disk if `release` still is."""
        raise NotImplementedError

    def tell(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write it into history and log."""
        raise NotImplementedError


class Device(Ground):
    """The device's own store, history and log."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        facts: Facts,
        settings: Settings,
        figures: ServiceFigures,
        history: History,
        log: Log,
    ) -> None:
        self._loop, self._store, self._facts, self._settings = loop, store, facts, settings
        self._figures, self._history, self._log = figures, history, log

    def previous(self, model: str) -> str:
        """Return where the link `previous` leads."""
        try:
            return self._store.link(model, "previous")
        except StoreError as error:
            self._figures.problem(str(error))
            return ""

    def prepare(self, model: str, release: str, then: Callable[[Prepared], None]) -> None:
        """Read the release and its file beside the loop, and judge it against this device."""
        failed = Prepared(None, [finding("LF900", "The release %s could not be looked at." % release[:12])])
        aside(self._loop, lambda: self._look(model, release), lambda made: then(made or failed))

    def _look(self, model: str, release: str) -> Prepared:
        try:
            plan = plan_of(self._store, release, self._settings)
            if plan.model.name != model:
                raise StoreError("it is a release of %s" % plan.model.name, "bad-request")
        except (AgentError, OSError) as error:
            return Prepared(None, [finding("LF601", "The release %s can't be used: %s." % (release[:12], error))])
        against = [f for f in static_findings(plan.nb, self._facts, plan.runtime, plan.nb_sha256) if f.decides]
        return Prepared(None if against else plan, against)

    def take_back(self, model: str, release: str, to: str, then: Callable[[TakenBack], None]) -> None:
        """Change the links beside the loop: what is synced on flash may take seconds."""
        failed = TakenBack(False, "%s could not be taken back" % release[:12])
        aside(self._loop, lambda: _take_back(self._store.root, model, release, to), lambda said: then(said or failed))

    def tell(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write it into history and log."""
        lost = self._history.lost
        self._history.add(kind, model=model, release=release, findings=findings, text=text)
        if self._history.lost != lost:
            self._figures.problem("the history could not be written: look for room and rights in its folder `history`")
        self._log.event(kind, model=model, release=release, findings=findings, text=text)


def _take_back(root: str, model: str, release: str, to: str) -> TakenBack:
    store = Store(root)  # of its own: whoever holds the lock is one object
    try:
        take(store, patience_s=0)
        if store.link(model, "current") != release:
            return TakenBack(False)
        rollback(store, model, to)
    except StoreError as error:
        return TakenBack(False, "%s could not be taken back: %s" % (release[:12], error))
    finally:
        store.unlock()
    return TakenBack(True)
