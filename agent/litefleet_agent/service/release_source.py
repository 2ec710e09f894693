"""What a model's service stands on: releases on disk, and somebody to tell."""

from typing import Callable, List, NamedTuple, Optional, Sequence

from ..errors import AgentError
from ..facts import Facts
from ..findings import Finding, finding
from ..findings.environment import static_findings
from ..releases.activation import lock_and_recover, rollback
from ..releases.store import Store, StoreError
from .event_loop import EventLoop, run_in_thread
from .history import History
from .metrics import ServiceCounters
from .settings import Settings
from .systemd import Log
from .workers.plan import WorkerPlan, plan_of

__all__ = ["Prepared", "ReleaseSource", "RevertResult", "StoreReleaseSource"]


class Prepared(NamedTuple):
    """How a release is to be run here, or what speaks against it."""

    plan: Optional[WorkerPlan]
    blockers: List[Finding]


class RevertResult(NamedTuple):
    """What became of the way back on disk."""

    done: bool  # False: it failed, or somebody had switched to something else
    problem: str = ""  # that is to be tried again


class ReleaseSource:
    """What a model's service asks for.  Nothing here waits: what takes time is told later, from the loop."""

    def previous(self, model: str) -> str:
        """Return what was current before, on disk; "" for nothing."""
        raise NotImplementedError

    def prepare(self, model: str, release: str, on_done: Callable[[Prepared], None]) -> None:
        """Look at a release before anything of it is loaded."""
        raise NotImplementedError

    def revert(self, model: str, release: str, to: str, on_done: Callable[[RevertResult], None]) -> None:
        """Make `to` current on disk if `release` still is."""
        raise NotImplementedError

    def record(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write it into history and log."""
        raise NotImplementedError


class StoreReleaseSource(ReleaseSource):
    """The device's own store, history and log."""

    def __init__(
        self,
        loop: EventLoop,
        store: Store,
        facts: Facts,
        settings: Settings,
        counters: ServiceCounters,
        history: History,
        log: Log,
    ) -> None:
        self._loop, self._store, self._facts, self._settings = loop, store, facts, settings
        self._counters, self._history, self._log = counters, history, log

    def previous(self, model: str) -> str:
        """Return where the link `previous` leads."""
        try:
            return self._store.link(model, "previous")
        except StoreError as error:
            self._counters.problem(str(error))
            return ""

    def prepare(self, model: str, release: str, on_done: Callable[[Prepared], None]) -> None:
        """Read the release and its file beside the loop, and judge it against this device."""
        failed = Prepared(None, [finding("LF900", "The release %s could not be looked at." % release[:12])])
        run_in_thread(self._loop, lambda: self._load_plan(model, release), lambda prepared: on_done(prepared or failed))

    def _load_plan(self, model: str, release: str) -> Prepared:
        try:
            plan = plan_of(self._store, release, self._settings)
            if plan.model.name != model:
                raise StoreError("it is a release of %s" % plan.model.name, "bad-request")
        except (AgentError, OSError) as error:
            return Prepared(None, [finding("LF601", "The release %s can't be used: %s." % (release[:12], error))])
        blockers = [f for f in static_findings(plan.nb, self._facts, plan.runtime, plan.nb_sha256) if f.decides]
        return Prepared(None if blockers else plan, blockers)

    def revert(self, model: str, release: str, to: str, on_done: Callable[[RevertResult], None]) -> None:
        """Change the links beside the loop: what is synced on flash may take seconds."""
        failed = RevertResult(False, "%s could not be taken back" % release[:12])
        run_in_thread(
            self._loop, lambda: _revert(self._store.root, model, release, to), lambda result: on_done(result or failed)
        )

    def record(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write it into history and log."""
        lost = self._history.lost
        self._history.add(kind, model=model, release=release, findings=findings, text=text)
        if self._history.lost != lost:
            self._counters.problem("the history could not be written: look for room and rights in its folder `history`")
        self._log.event(kind, model=model, release=release, findings=findings, text=text)


def _revert(root: str, model: str, release: str, to: str) -> RevertResult:
    store = Store(root)  # of its own: whoever holds the lock is one object
    try:
        lock_and_recover(store, timeout_s=0)
        if store.link(model, "current") != release:
            return RevertResult(False)
        rollback(store, model, to)
    except StoreError as error:
        return RevertResult(False, "%s could not be taken back: %s" % (release[:12], error))
    finally:
        store.unlock()
    return RevertResult(True)
