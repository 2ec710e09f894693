"""The interface between a model's service and the device: releases on disk, history and log."""

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


class Prepared(NamedTuple):
    """The plan for running a release here, or the findings that prevent it."""

    plan: Optional[WorkerPlan]
    blockers: List[Finding]


class RevertResult(NamedTuple):
    """Result of reverting to the previous release on disk."""

    done: bool  # False: it failed, or another release had become current
    problem: str = ""  # why it failed and must be repeated; "" = it need not be


class ReleaseSource:
    """What a service needs of the device's store, history and log.  Slow operations call `on_done` later, from the loop."""

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
        """Return the release that was current before, on disk; "" for none."""
        try:
            return self._store.link(model, "previous")
        except StoreError as error:
            self._counters.problem(str(error))
            return ""

    def prepare(self, model: str, release: str, on_done: Callable[[Prepared], None]) -> None:
        """Read the release and its file in a thread, and check them against this device."""
        failed = Prepared(None, [finding("LF900", "Cannot check the release %s." % release[:12])])
        run_in_thread(self._loop, lambda: self._load_plan(model, release), lambda prepared: on_done(prepared or failed))

    def _load_plan(self, model: str, release: str) -> Prepared:
        try:
            plan = plan_of(self._store, release, self._settings)
            if plan.model.name != model:
                raise StoreError("it is a release of %s" % plan.model.name, "bad-request")
        except (AgentError, OSError) as error:
            return Prepared(None, [finding("LF601", "Cannot use the release %s: %s." % (release[:12], error))])
        blockers = [
            f for f in static_findings(plan.nb, self._facts, plan.runtime, plan.nb_sha256, plan.engine) if f.decides
        ]
        return Prepared(None if blockers else plan, blockers)

    def revert(self, model: str, release: str, to: str, on_done: Callable[[RevertResult], None]) -> None:
        """Make `to` current on disk if `release` still is, in a thread: syncing to flash may take seconds."""
        failed = RevertResult(False, "cannot revert the release %s" % release[:12])
        run_in_thread(
            self._loop, lambda: _revert(self._store.root, model, release, to), lambda result: on_done(result or failed)
        )

    def record(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write an event to the history and the log; a failure becomes one of the status's problems."""
        lost = self._history.lost
        self._history.add(kind, model=model, release=release, findings=findings, text=text)
        if self._history.lost != lost:
            self._counters.problem("cannot write history: check free space and permissions of `history/`")
        self._log.event(kind, model=model, release=release, findings=findings, text=text)


def _revert(root: str, model: str, release: str, to: str) -> RevertResult:
    store = Store(root)  # one of its own: a store object holds the lock for one user
    try:
        lock_and_recover(store, timeout_s=0)
        if store.link(model, "current") != release:
            return RevertResult(False)
        rollback(store, model, to)
    except StoreError as error:
        return RevertResult(False, "cannot revert the release %s: %s" % (release[:12], error))
    finally:
        store.unlock()
    return RevertResult(True)
