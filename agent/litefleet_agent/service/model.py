"""One model's service: its queue, the generation that serves, the one that warms up beside it, and the way back.

A switch: the new release's workers load it and pass its goldens while the old ones serve; then it takes over between two
requests.  The old workers stay warm through the health window; failures in it take the release back, on disk too.
"""

from typing import Callable, List, Optional, Sequence, Union

from ..errors import AgentError
from ..findings import Finding, finding
from .generation import Generation, Owner
from .loop import Loop
from .queue import Budget, Queue
from .report import ServiceFigures
from .settings import Settings
from .values import Job, Refusal, ServedModel
from .workers import Answer, WorkerPlan

__all__ = ["ModelService"]

_DEATHS = 3  # workers that may die within the health window
_LEAST_ASKED = 20  # answers from which on their share counts
_BAD_SHARE = 0.5
_AGAIN_S = (5.0, 300.0)  # before a release that failed and has nothing to go back to is tried again: first, longest

Reply = Callable[[Job, Union[Answer, Refusal], float, float, int], None]


class Ground:
    """What a model's service asks of the daemon: releases on disk, and somebody to tell."""

    def plan(self, model: str, release: str) -> WorkerPlan:
        """Return how the release is to be run here.  Raises AgentError when it can't be."""
        raise NotImplementedError

    def check(self, plan: WorkerPlan) -> List[Finding]:
        """Return what speaks against running it, before anything is loaded; errors refuse it."""
        raise NotImplementedError

    def take_back(self, model: str, release: str, to: str, why: str) -> bool:
        """Make `to` current again on disk, and say whether that was possible now."""
        raise NotImplementedError

    def tell(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write it into history and log."""
        raise NotImplementedError


class ModelService(Owner):
    """Serves one model, whatever its releases and workers do."""

    def __init__(
        self,
        name: str,
        loop: Loop,
        settings: Settings,
        budget: Budget,
        ground: Ground,
        figures: ServiceFigures,
        reply: Reply,
    ) -> None:
        self.name, self.loop, self.settings, self.ground, self.figures = name, loop, settings, ground, figures
        self._reply = reply
        self.queue = Queue(settings.queue, budget)
        self.active: Optional[Generation] = None
        self.incoming: Optional[Generation] = None
        self.before: Optional[Generation] = None  # kept warm through the health window of `active`
        self.wanted = ""
        self.findings: List[Finding] = []  # why the wanted release is not served
        self.last_good = 0.0  # monotonic: when an inference last worked; 0 = never
        self.switched_at = 0.0
        self._asked = self._bad = self._deaths = 0
        self._failures = 0
        self._stopping = False

    # --- releases

    def want(self, release: str) -> None:
        """Serve this release from as soon as it is ready; "" = none."""
        if release == self.wanted:
            return
        self.wanted, self.findings, self._failures = release, [], 0
        if self.incoming is not None:
            self.incoming.retire()
            self.incoming = None
        if not release:
            self._settle_window()
            if self.active is not None:
                self.ground.tell("stopped", self.name, self.active.release, text="no release is current any more")
                self.active.retire()
                self.active = None
            self._refuse_all()
        elif self.active is not None and self.active.release == release:
            self.findings = []  # back to what serves already
        elif self.before is not None and self.before.release == release:
            self._return_to_before()
        else:
            self._warm(release)

    def _warm(self, release: str) -> None:
        if release != self.wanted or self._stopping:
            return
        try:
            plan = self.ground.plan(self.name, release)
            against = [f for f in self.ground.check(plan) if f.decides]
        except AgentError as error:
            against, plan = [finding("LF601", "The release %s can't be used: %s." % (release[:12], error))], None
        if against or plan is None:
            self._not_served(release, against)
            return
        self.incoming = Generation(self.loop, plan, self.settings.workers, self)

    def generation_ready(self, generation: Generation) -> None:
        """Take over: the next request goes to the new release."""
        if generation is not self.incoming:
            return
        self._settle_window()
        old, self.active, self.incoming = self.active, generation, None
        self.before = old
        self.last_good = self.switched_at = self.loop.now()
        self._asked = self._bad = self._deaths = 0
        self.findings = []
        self.ground.tell("switched", self.name, generation.release)
        self.figures.switched(self.name, generation.release)
        if old is not None:
            self.loop.later(self.settings.health_window_s, lambda: self._window_ends(generation))
        self._pump()

    def generation_failed(self, generation: Generation, findings: List[Finding]) -> None:
        """The release did not pass here; what served before goes on serving."""
        if generation is self.incoming:
            self.incoming = None
            self._not_served(generation.release, findings)

    def _not_served(self, release: str, findings: List[Finding]) -> None:
        self.findings = list(findings)
        self.ground.tell("refused-release", self.name, release, findings)
        if self.active is not None and self.settings.roll_back:
            self._take_back(release, self.active.release, "it did not pass its goldens in the service")
            return
        low, high = _AGAIN_S
        self.loop.later(min(low * 2**self._failures, high), lambda: self._warm(release))
        self._failures = min(self._failures + 1, 16)
        self._refuse_all()

    def _take_back(self, release: str, to: str, why: str) -> None:
        """Go back on disk, again and again until it can be written: what serves is right already."""
        if self.wanted != release:
            return
        if self.ground.take_back(self.name, release, to, why):
            self.figures.went_back(self.name, release)
            self.wanted = to
        else:
            self.loop.later(1.0, lambda: self._take_back(release, to, why))

    def _window_ends(self, generation: Generation) -> None:
        if generation is self.active:
            self._settle_window()

    def _settle_window(self) -> None:
        if self.before is not None:
            self.before.retire()
            self.before = None

    def _return_to_before(self) -> None:
        """What served before the switch, and is still warm, takes over again between two requests."""
        back, failed = self.before, self.active
        if back is None:
            return
        self.active, self.before = back, None
        self.wanted = back.release
        self.figures.switched(self.name, back.release)
        if failed is not None:
            failed.retire()
        self._pump()

    def _look_at_health(self) -> None:
        """Within the window after a switch, failures take the release back."""
        if self.before is None or self.active is None or not self.settings.roll_back:
            return
        too_bad = self._asked >= _LEAST_ASKED and self._bad > self._asked * _BAD_SHARE
        if not too_bad and self._deaths < _DEATHS:
            return
        release, to = self.active.release, self.before.release
        why = "%d of %d requests failed and %d workers died within %d s of the switch" % (
            self._bad, self._asked, self._deaths, self.loop.now() - self.switched_at,
        )  # fmt: skip
        self.findings = list(self.active.findings)
        self._return_to_before()
        self.wanted = release  # until it is so on disk too
        self.ground.tell("went-back", self.name, release, self.findings, why)
        self._take_back(release, to, why)

    # --- requests

    @property
    def model(self) -> Optional[ServedModel]:
        """What is served now, None when nothing is."""
        return self.active.model if self.active is not None else None

    @property
    def expected(self) -> Optional[ServedModel]:
        """What a request must fit: what is served now, else what is being loaded; None when that is nothing."""
        generation = self.active or self.incoming
        return generation.model if generation is not None else None

    def submit(self, job: Job) -> None:
        """Take a request in; it waits while a model is being loaded for the first time.  Refusal when it can't be taken."""
        if self.expected is None:
            self.refuse()
        self.queue.put(job)
        self._pump()

    def refuse(self) -> None:
        """Raise the Refusal that says why nothing is served now."""
        raise self._not_ready()

    def _not_ready(self) -> Refusal:
        if self._stopping:
            return Refusal("the service is stopping; ask again in a moment", "stopping")
        if self.findings:
            return Refusal("%s is not served: %s" % (self.name, self.findings[0].seen), "not-ready", self.findings[0])
        warming = "its release %s is being loaded" % self.wanted[:12] if self.wanted else "no release of it is current"
        return Refusal("%s is not ready: %s" % (self.name, warming), "not-ready")

    def worker_free(self, generation: Generation) -> None:
        """Give it work."""
        if generation is self.active:
            self._pump()

    def _pump(self) -> None:
        """Give waiting requests to waiting workers."""
        self.expire()
        while self.active is not None:
            worker = self.active.idle()
            if worker is None:
                return
            most = self.settings.max_batch if self.active.model.batches else 1
            now = self.loop.now()
            jobs = self.queue.take(now, most, self.settings.batch_wait_s)
            if not jobs:
                due = self.queue.due(self.settings.batch_wait_s)
                if due is not None:
                    self.loop.later(due - now, self._pump)
                return
            worker.run(jobs, max(0.05, min(job.deadline for job in jobs) - now))

    def answered(
        self, generation: Generation, jobs: Sequence[Job], results: Sequence[Union[Answer, Refusal]], ms: float
    ) -> None:
        """Pass answers on to whoever asked."""
        now = self.loop.now()
        good = 0
        for job, result in zip(jobs, results):  # noqa: B905 - 3.7
            good += isinstance(result, Answer)
            self._reply(job, result, max(0.0, now - job.accepted - ms / 1e3), ms / 1e3, len(jobs))
        if good:
            self.last_good = now
        bad = sum(isinstance(r, Refusal) and r.code == "bad-output" for r in results)
        self._count(generation, len(jobs), bad)

    def _count(self, generation: Generation, asked: int, bad: int) -> None:
        if generation is self.active:
            self._asked += asked
            self._bad += bad
            if bad:
                self._look_at_health()

    def worker_died(self, generation: Generation, findings: List[Finding], jobs: Sequence[Job]) -> None:
        """Answer for the dead; of several requests each is tried once more, alone, since only one of them may be to blame."""
        self.ground.tell("worker-died", self.name, generation.release, findings)
        self.figures.worker_died(self.name)
        again = [job for job in jobs if len(jobs) > 1 and not job.attempts]
        for job in jobs:
            job.attempts += 1
            if job not in again:
                self._reply(job, _crashed(findings), 0.0, 0.0, 1)
        self.queue.put_back(again)
        if generation is self.active:
            self._deaths += 1
            self._count(generation, len(jobs), len(jobs) - len(again))
            self._look_at_health()
        self._pump()

    def expire(self) -> None:
        """Answer those whose time is over."""
        for job in self.queue.expired(self.loop.now()):
            why = "the service is too busy for it" if self.active is not None else str(self._not_ready())
            late = Refusal("the request waited until its deadline; %s" % why, "timed-out")
            self._reply(job, late, self.loop.now() - job.accepted, 0.0, 0)

    def _refuse_all(self) -> None:
        for job in self.queue.clear():
            self._reply(job, self._not_ready(), self.loop.now() - job.accepted, 0.0, 0)

    # --- health

    def probe(self) -> None:
        """Run a golden on a waiting worker, so that silence is not taken for health."""
        worker = self.active.idle() if self.active is not None else None
        if worker is None or self.active is None:
            return
        generation = self.active

        def done(ok: bool, findings: List[Finding], ms: float) -> None:
            self.figures.probed(self.name, ok, findings)
            if ok:
                self.last_good = self.loop.now()
            else:
                self.ground.tell(
                    "health", self.name, generation.release, findings, "a golden no longer comes out right"
                )
                self._count(generation, 1, 1)
                worker.kill(findings[0] if findings else finding("LF403", "a golden no longer comes out right"))

        worker.probe(self.settings.time_limit_s, done)

    @property
    def silent_s(self) -> float:
        """Seconds since an inference last worked."""
        return self.loop.now() - self.last_good

    def stop(self) -> None:
        """Take no more requests in; those that run, and those that wait for a model that serves, are still answered."""
        self._stopping = True
        if self.active is None:
            self._refuse_all()

    @property
    def busy(self) -> bool:
        """Whether any request waits or is being run."""
        return bool(len(self.queue)) or any(g is not None and g.busy for g in (self.active, self.before))

    @property
    def running(self) -> bool:
        """Whether any worker process is there."""
        return any(g is not None and g.alive for g in (self.active, self.incoming, self.before))

    def end(self) -> None:
        """End all workers."""
        for generation in (self.active, self.incoming, self.before):
            if generation is not None:
                generation.retire()


def _crashed(findings: List[Finding]) -> Refusal:
    first = findings[0] if findings else finding("LF900", "its worker ended")
    code = "timed-out" if first.code == "LF408" else "crashed"
    return Refusal("the worker ended while it ran this request: %s" % first.seen, code, first)
