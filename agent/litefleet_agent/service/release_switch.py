"""Switches a model between releases: the active one, the one that warms up, and the fallback.

The workers of a new release load it and pass its goldens while the old ones serve; then it becomes active between two
requests.  It is on trial for the health window, during which the old workers stay loaded: failures revert the release, first
here and then on disk.  Where no release is active, a release that does not pass is followed by the previous one on disk.
"""

from typing import Callable, List, Optional

from ..findings import Finding, finding
from .event_loop import EventLoop, Timer
from .metrics import ServiceCounters
from .release_source import Prepared, ReleaseSource, RevertResult
from .settings import Settings
from .workers.pool import PoolCallbacks, WorkerPool

_DEATHS = 3  # dead workers within the health window that revert a release
_MIN_REQUESTS = 20  # answers before the share of failed ones counts
_BAD_SHARE = 0.5  # of failed answers, above which a release is reverted
_RETRY_S = (5.0, 300.0)  # delay before a failed release without a fallback is loaded again: first, longest
_DISK_S = (1.0, 60.0)  # delay before a failed revert on disk is repeated: first, longest


class ReleaseSwitch:
    """The worker pools of one model.  `changed` is called whenever another one becomes active, or none."""

    def __init__(
        self,
        name: str,
        loop: EventLoop,
        settings: Settings,
        source: ReleaseSource,
        counters: ServiceCounters,
        callbacks: PoolCallbacks,
        changed: Callable[[], None],
    ) -> None:
        self.name, self._loop, self._settings, self._source, self._counters = name, loop, settings, source, counters
        self._callbacks, self._changed = callbacks, changed
        self.active: Optional[WorkerPool] = None
        self.incoming: Optional[WorkerPool] = None
        self.fallback: Optional[WorkerPool] = None  # stays loaded while `active` is on trial
        self.wanted = ""
        self.findings: List[Finding] = []  # why the wanted release is not served
        self.switched_at = 0.0  # monotonic
        self._retired: List[WorkerPool] = []  # finish their running batches
        self._preparing = ""  # the release that is being checked
        self._retry: Optional[Timer] = None  # until a load or a revert is repeated
        self._failures = 0
        self._window: Optional[Timer] = None  # until the trial ends
        self._requests = self._failed_requests = self._deaths = 0  # of the release on trial
        self._stopping = False

    @property
    def loading(self) -> bool:
        """Whether a release is being checked or loaded."""
        return bool(self._preparing) or self.incoming is not None

    @property
    def warming_up(self) -> bool:
        """Whether a release is loading that has not failed since it became wanted."""
        return self.loading and not self._failures

    @property
    def running(self) -> bool:
        """Whether any worker process exists."""
        return any(one.alive for one in self._all())

    def _all(self) -> List[WorkerPool]:
        serving = [one for one in (self.active, self.incoming, self.fallback) if one is not None]
        return serving + self._retired

    # --- the wanted release

    def want(self, release: str) -> None:
        """Load this release and make it active once it is ready; "" = serve none."""
        if release == self.wanted or self._stopping:
            return
        self.wanted, self.findings, self._failures, self._preparing = release, [], 0, ""
        self._cancel_retry()
        if self.incoming is not None:
            self._retire(self.incoming)
            self.incoming = None
        if not release:
            self._deactivate()
        elif self.active is not None and self.active.release == release:
            pass  # it is active already
        elif self.fallback is not None and self.fallback.release == release:
            self._activate_fallback()
            self._source.record("switched", self.name, release, text="back to the release that was active before")
        else:
            self._prepare(release)

    def _deactivate(self) -> None:
        self._drop_fallback()
        if self.active is not None:
            self._source.record("stopped", self.name, self.active.release, text="no release is current any more")
            self._retire(self.active)
            self.active = None
        self._changed()

    def _prepare(self, release: str) -> None:
        if not self._stopping:
            self._preparing = release
            self._source.prepare(self.name, release, lambda prepared: self._prepared(release, prepared))

    def _prepared(self, release: str, prepared: Prepared) -> None:
        if release != self._preparing or self._stopping:
            return  # another release is wanted by now
        self._preparing = ""
        if prepared.plan is None:
            self._on_rejected(release, prepared.blockers)
        else:
            self.incoming = WorkerPool(self._loop, prepared.plan, self._settings.workers, self._callbacks)

    def _retire(self, pool: WorkerPool) -> None:
        pool.retire()
        self._retired = [one for one in self._retired if one.alive] + [pool]

    # --- results of loading

    def ready(self, pool: WorkerPool) -> None:
        """Make the loaded release active: it gets the next request."""
        if pool is not self.incoming:
            return
        self._drop_fallback()
        self.fallback, self.active, self.incoming = self.active, pool, None
        self._source.record("switched", self.name, pool.release)
        self._reset_window()
        if pool.release == self.wanted:
            self.findings = []
        else:
            why = "it did not pass its goldens in the service; the previous release does"
            self._revert_on_disk(self.wanted, pool.release, why)
        window = self._settings.health_window_s if self._settings.roll_back else 0
        if self.fallback is not None:
            self._window = self._loop.later(window, self._drop_fallback)
        self._changed()

    def _reset_window(self) -> None:
        assert self.active is not None
        self.switched_at = self._loop.now()
        self._requests = self._failed_requests = self._deaths = 0
        self._counters.switched(self.name, self.active.release)

    def failed(self, pool: WorkerPool, findings: List[Finding]) -> None:
        """Retire a release that did not pass; the active one continues to serve."""
        if pool is self.incoming:
            self._retire(pool)
            self.incoming = None
            self._on_rejected(pool.release, findings)

    def _on_rejected(self, release: str, findings: List[Finding]) -> None:
        self._source.record("refused-release", self.name, release, findings)
        if release == self.wanted:
            self.findings = list(findings)
        if self.active is not None and self._settings.roll_back:
            self._revert_on_disk(release, self.active.release, "it did not pass its goldens in the service")
            return
        previous = self._source.previous(self.name) if self._settings.roll_back else ""
        if self.active is None and release == self.wanted and previous not in ("", release):
            self._prepare(previous)
            return
        low, high = _RETRY_S
        self._retry = self._loop.later(min(low * 2**self._failures, high), lambda: self._prepare(self.wanted))
        self._failures = min(self._failures + 1, 16)
        self._changed()

    # --- reverting

    def count(self, pool: WorkerPool, requests: int, failed: int, deaths: int = 0) -> None:
        """Count answers, failed answers and dead workers of a release on trial, and revert it if there are too many."""
        if pool is not self.active or self.fallback is None or self._stopping:
            return
        self._requests += requests
        self._failed_requests += failed
        self._deaths += deaths
        too_bad = self._requests >= _MIN_REQUESTS and self._failed_requests > self._requests * _BAD_SHARE
        if (too_bad or self._deaths >= _DEATHS) and self._settings.roll_back:
            self._fall_back(pool)

    def _fall_back(self, failed: WorkerPool) -> None:
        why = "%d of %d requests failed and %d workers died within %d s of the switch" % (
            self._failed_requests, self._requests, self._deaths, self._loop.now() - self.switched_at,
        )  # fmt: skip
        self.findings = list(failed.findings)
        self._activate_fallback()
        assert self.active is not None
        self._source.record("went-back", self.name, failed.release, self.findings, why)
        self._revert_on_disk(failed.release, self.active.release, "")

    def _activate_fallback(self) -> None:
        """Make the release active again that was active before the switch; its workers are still loaded."""
        back, failed = self.fallback, self.active
        assert back is not None and failed is not None  # noqa: PT018
        self.active, self.fallback = back, None
        self._drop_fallback()
        self._reset_window()
        self._retire(failed)
        self._changed()

    def _revert_on_disk(self, release: str, to: str, text: str, failures: int = 0) -> None:
        """Revert the release on disk; a failure is repeated, while the right release serves already."""

        def on_done(result: RevertResult) -> None:
            if result.done:
                self._counters.reverted(self.name, release, findings)
                if text:  # otherwise it was recorded when it happened
                    self._source.record("went-back", self.name, release, text=text)
            if self.wanted != release:
                return  # another release became current meanwhile
            if result.problem:
                self._counters.problem(result.problem)
                self._retry = self._loop.later(min(_DISK_S[0] * 2**failures, _DISK_S[1]), again)
            else:
                self.wanted, self.findings = to, []

        def again() -> None:
            self._revert_on_disk(release, to, text, min(failures + 1, 16))

        findings = self.findings
        if self.wanted == release and not self._stopping:
            self._source.revert(self.name, release, to, on_done)

    def _drop_fallback(self) -> None:
        """End the trial, and retire the fallback."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        if self.fallback is not None:
            self._retire(self.fallback)
            self.fallback = None

    # --- stopping

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def stop(self) -> None:
        """Load and revert nothing any more."""
        self._stopping = True
        self._cancel_retry()

    def end(self) -> None:
        """Kill all workers, whatever they run."""
        for pool in self._all():
            pool.kill(finding("LF408", "The service stopped before the request was finished."))
