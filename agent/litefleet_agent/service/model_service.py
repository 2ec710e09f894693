"""Serves one model: each accepted request waits in the queue, runs in a worker, and gets exactly one answer."""

from typing import Callable, List, Optional, Sequence, Set, Union

from ..findings import Finding, finding
from .event_loop import Deadline, EventLoop
from .messages import Job, Rejection, Response, ServedModel
from .metrics import ServiceCounters
from .queue import Budget, Queue
from .release_source import ReleaseSource
from .release_switch import ReleaseSwitch
from .settings import Settings
from .workers.pool import PoolCallbacks, WorkerPool

_FAULTS = ("bad-output", "crashed")  # the errors that count against a release on trial

Reply = Callable[[Job, Union[Response, Rejection], float, float, int], None]


class ModelService:
    """Serves one model.

    `reply(job, result, seconds waited, seconds run, batch size)` answers a request; `changed()` reports that another release
    became active, or none, or that the reason for none is known.
    """

    def __init__(
        self,
        name: str,
        loop: EventLoop,
        settings: Settings,
        budget: Budget,
        source: ReleaseSource,
        counters: ServiceCounters,
        reply: Reply,
        changed: Callable[[], None],
    ) -> None:
        self.name, self.settings = name, settings
        self._loop, self._source, self._counters, self._reply, self._changed = loop, source, counters, reply, changed
        self.queue = Queue(settings.queue, budget)
        callbacks = PoolCallbacks(
            self._pool_ready,
            self._pool_failed,
            self._worker_free,
            self._answered,
            self._worker_recycled,
            self._worker_died,
        )
        self.releases = ReleaseSwitch(name, loop, settings, source, counters, callbacks, self._switched)
        self.last_good = 0.0  # monotonic time of the latest successful inference; 0 = never
        self._running: Set[Job] = set()  # in a worker, not answered yet
        self._expiry = Deadline(loop, lambda seconds: self.expire())
        self._batch_wait = Deadline(loop, lambda seconds: self._dispatch())
        self._probe_due = False  # the next free worker runs a golden
        self._stopping = False

    # --- releases

    def want(self, release: str) -> None:
        """Load this release and serve it once it is ready; "" = serve none."""
        self.releases.want(release)

    @property
    def active(self) -> Optional[WorkerPool]:
        """The workers of the active release, None without one."""
        return self.releases.active

    @property
    def model(self) -> Optional[ServedModel]:
        """The model of the active release, None without one."""
        return self.releases.active.model if self.releases.active is not None else None

    @property
    def warming(self) -> bool:
        """Whether no release is active yet, and the first one is loading."""
        return self.releases.active is None and self.releases.warming_up and not self._stopping

    def _switched(self) -> None:
        if self.releases.active is None:
            if not self.warming:
                self._reject_all(self.not_ready())
        else:
            self._dispatch()
        self._changed()

    def _pool_ready(self, pool: WorkerPool) -> None:
        self.last_good, self._probe_due = self._loop.now(), False
        self.releases.ready(pool)

    def _pool_failed(self, pool: WorkerPool, findings: List[Finding]) -> None:
        self.releases.failed(pool, findings)

    # --- requests

    def submit(self, job: Job) -> None:
        """Queue a request.  Raises Rejection "not-ready", "stopping" or "busy"."""
        if self.releases.active is None or self._stopping:
            raise self.not_ready()
        self.queue.put(job)
        if not self._expiry.moment or job.deadline < self._expiry.moment:
            self._expiry.set(job.deadline - self._loop.now())
        self._dispatch()

    def not_ready(self) -> Rejection:
        """Return the rejection that explains why no release is active."""
        releases = self.releases
        if self._stopping:
            return Rejection("the service is stopping; try again in a moment", "stopping")
        if releases.findings:
            first = releases.findings[0]
            return Rejection("%s is not served: %s" % (self.name, first.observed), "not-ready", first)
        wanted = releases.wanted[:12]
        warming = "its release %s is being loaded" % wanted if wanted else "no release of it is current"
        return Rejection("%s is not ready: %s" % (self.name, warming), "not-ready")

    def _worker_free(self, pool: WorkerPool) -> None:
        if pool is self.releases.active:
            if self._probe_due and self.since_last_good_s > self.settings.probe_every_s:
                self.probe()
            self._dispatch()

    def _dispatch(self) -> None:
        """Assign waiting requests to free workers."""
        active = self.releases.active
        most = self.settings.max_batch if active is not None and active.model.batches else 1
        while active is not None and len(self.queue):
            pipelined = most == 1 and not self._probe_due  # with batches, requests that wait longer make larger ones
            worker = active.idle() or (active.pipelined() if pipelined else None)
            if worker is None:
                return
            wait_s = self.settings.batch_wait_s
            jobs = self.queue.pop_batch(self._loop.now(), most, wait_s)
            if not jobs:  # the first request waits for others to batch with
                due = self.queue.due(wait_s)
                self._batch_wait.set(max(0.0, (due or 0.0) - self._loop.now()))
                return
            self._running.update(jobs)
            worker.run(jobs, active.plan.run_limit_s)

    def _answered(
        self, pool: WorkerPool, jobs: Sequence[Job], results: Sequence[Union[Response, Rejection]], ms: float
    ) -> None:
        now = self._loop.now()
        for job, result in zip(jobs, results):  # noqa: B905 - 3.7
            self._answer(job, result, max(0.0, now - job.accepted - ms / 1e3), ms / 1e3, len(jobs))
        bad = sum(isinstance(r, Rejection) and r.code in _FAULTS for r in results)
        if any(isinstance(result, Response) for result in results):
            self.last_good, self._probe_due = now, False
        self.releases.count(pool, len(jobs), bad)

    def _answer(self, job: Job, result: Union[Response, Rejection], wait_s: float, run_s: float, batch: int) -> None:
        self._running.discard(job)
        if not job.answered:  # otherwise its deadline has passed meanwhile
            job.answered = True
            self._reply(job, result, wait_s, run_s, batch)

    def _worker_recycled(self, pool: WorkerPool, why: Finding) -> None:
        self._source.record("worker-worn", self.name, pool.release, [why])
        self._counters.worker_recycled(self.name)

    def _worker_died(
        self, pool: WorkerPool, findings: List[Finding], jobs: Sequence[Job], not_started: Sequence[Job]
    ) -> None:
        """Answer the request of a dead worker; of several, each is retried once alone, since one may be the cause."""
        self._source.record("worker-died", self.name, pool.release, findings)
        self._counters.worker_died(self.name)
        again = [job for job in jobs if len(jobs) > 1 and not job.attempts and not job.answered]
        for job in jobs:
            job.attempts, job.begun = job.attempts + 1, False
            if job not in again:
                self._answer(job, _crashed(findings), self._loop.now() - job.accepted, 0.0, len(jobs))
        again += [job for job in not_started if not job.answered]
        self._running.difference_update(again)
        self.queue.put_back(again)
        if self.releases.active is None:
            self._reject_all(self.not_ready())
        self.releases.count(pool, len(jobs), len([job for job in jobs if job not in again]), 1)
        self._dispatch()

    # --- expired and dropped requests

    def expire(self) -> None:
        """Answer requests past their deadline; a worker finishes the ones that it runs, and their outputs are dropped."""
        now = self._loop.now()
        late = [job for job in self._running if job.deadline <= now]
        for job in self.queue.expired(now) + [job for job in late if not job.begun]:
            rejection = Rejection("the request waited until its deadline; the service is too busy for it", "timed-out")
            self._answer(job, rejection, now - job.accepted, 0.0, 0)
        for job in [job for job in late if job.begun]:
            observed = "%s was still running the request after %.3g s" % (self.name, now - job.accepted)
            self._answer(
                job, Rejection(observed, "timed-out", finding("LF408", observed + ".")), now - job.accepted, 0.0, 0
            )
        moments = [job.deadline for job in self.queue.jobs] + [job.deadline for job in self._running]
        if moments:
            self._expiry.set(min(moments) - now)
        else:
            self._expiry.clear()

    def _reject_all(self, rejection: Rejection) -> None:
        for job in self.queue.clear():
            self._answer(job, rejection, self._loop.now() - job.accepted, 0.0, 0)

    def drop(self, matches: Callable[[Job], bool]) -> None:
        """Drop the queued requests that match; running ones finish."""
        self.queue.drop([job for job in self.queue.jobs if matches(job)])

    # --- health

    def probe(self) -> None:
        """Run a golden on a free worker, or on the next one that is free, so that an idle service proves its health."""
        active = self.releases.active
        worker = active.idle() if active is not None else None
        self._probe_due = active is not None and worker is None
        if worker is None or active is None:
            return

        def done(ok: bool, findings: List[Finding], ms: float) -> None:
            assert worker is not None and active is not None  # noqa: PT018
            self._counters.probed(self.name, ok, findings)
            if ok:
                self.last_good = self._loop.now()
                return
            why = findings or [finding("LF403", "the outputs of a golden are no longer correct")]
            self._source.record(
                "health", self.name, active.release, why, "the outputs of a golden are no longer correct"
            )
            worker.kill(why[0])

        worker.probe(active.plan.run_limit_s, done)

    @property
    def since_last_good_s(self) -> float:
        """Seconds since the latest successful inference."""
        return self._loop.now() - self.last_good

    @property
    def max_silence_s(self) -> float:
        """Seconds without a successful inference after which the model no longer counts as healthy."""
        active, settings = self.releases.active, self.settings
        loading = active.plan.start_limit_s if active is not None and active.restarting else 0.0
        return 3 * settings.probe_every_s + self.run_limit_s + loading

    @property
    def run_limit_s(self) -> float:
        """Seconds that a request may take: of the settings, or more where the release's proof took long on this device."""
        active = self.releases.active
        return self.settings.time_limit_s if active is None else active.plan.run_limit_s

    @property
    def healthy(self) -> bool:
        """Whether a release is active and an inference has succeeded recently."""
        return self.releases.active is not None and self.since_last_good_s < self.max_silence_s

    # --- stopping

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(len(self.queue) or self._running)

    @property
    def running(self) -> bool:
        """Whether any worker process exists."""
        return self.releases.running

    def stop(self) -> None:
        """Accept no more requests; those that wait or run are still answered."""
        self._stopping = True
        self.releases.stop()

    def end(self) -> None:
        """Reject the requests that are left, and kill all workers."""
        self._reject_all(self.not_ready())
        for job in list(self._running):
            message = "the service stopped before the request was finished"
            self._answer(job, Rejection(message, "timed-out"), self._loop.now() - job.accepted, 0.0, 0)
        self.releases.end()


def _crashed(findings: List[Finding]) -> Rejection:
    first = findings[0] if findings else finding("LF900", "its worker ended")
    code = "timed-out" if first.code == "LF408" else "crashed"
    return Rejection("the worker ended while it ran this request: %s" % first.observed, code, first)
