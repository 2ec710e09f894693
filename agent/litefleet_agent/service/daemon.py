"""`litefleet-agent serve`: the daemon around the models' services.  It never imports Paddle-Lite itself."""

import os
import signal
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from ..archive import NAME
from ..errors import AgentError
from ..facts import Facts, gather
from ..findings import Finding, Severity
from ..preflight import static_findings
from ..store import Store, StoreError
from ..switch import rollback, take
from .callers import Caller, Callers, listen
from .drift import DriftWatch
from .history import History
from .loop import Loop
from .metrics import metrics_text, write_textfile
from .model import Ground, ModelService
from .notify import Log, Notifier, watchdog_interval
from .queue import Budget
from .report import ServiceFigures, health_dict, status_dict, write_status
from .screen import in_order, screen_inputs
from .settings import Settings, load_settings
from .values import Job, Refusal, tensors_of, tensors_to
from .workers import Answer, WorkerPlan, plan_of

__all__ = ["Daemon", "serve"]

_LOOK_S = 0.5  # between looks at which releases are current: a readlink for each model
_TICK_S = 1.0
_DRAIN_S = 20.0  # what is being run when the service stops has this long to finish
_ARCHIVE_EVERY = 10  # ticks between looks for a newer agent


class Daemon(Ground):
    """Everything that the service is, until it is told to stop."""

    def __init__(self, root: str, settings: Settings, version: str, environ: Mapping[str, str] = os.environ) -> None:
        self.root, self.settings, self.version = root, settings, version
        self.store = Store(root)
        self.loop = Loop()
        self.figures = ServiceFigures(version, self.loop.now())
        self.budget = Budget(settings.queue_bytes)
        self.models: Dict[str, ModelService] = {}
        self.log = Log(environ)
        self.notifier = Notifier(environ)
        self.history = History(root, settings.history_bytes)
        self.drift = DriftWatch(self.store)
        self.facts: Facts = gather(root)
        self._environ = environ
        self._archive = _archive_of(root)
        self._stopping = False
        self._again = False  # whether to start again, as a newer agent
        self._ticks = 0
        self._announced = False
        self.callers: Optional[Callers] = None

    # --- life

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT and return the exit code; AgentError when the socket can't be had."""
        listening = listen(self.settings, self.root, self._environ)
        self.callers = Callers(self.loop, listening, self.settings, self._screen, self._request, self._gone)
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.on_signal(number, self._stop)
        self.loop.on_signal(signal.SIGHUP, self._look)
        self.tell("started", "", "", text="agent %s" % self.version[:12])
        self._look()
        self._every(_LOOK_S, self._look)
        self._every(_TICK_S, self._tick)
        self._every(self.settings.status_every_s, self._write_status)
        self._every(self.settings.check_every_s, self._check_drift)
        every = watchdog_interval(self._environ, os.getpid())
        if every:
            self._every(every / 3, self._feed)
        self.loop.run()
        self._end()
        if self._again:
            self._start_again(listening.fileno())
        return 0

    def _every(self, seconds: float, call: Callable[[], None]) -> None:
        self.loop.every(seconds, call)

    def _stop(self) -> None:
        """Take nothing new, finish what is there, and end."""
        if self._stopping:
            self.loop.stop()
            return
        self._stopping = True
        if self._again:
            self.notifier.reloading()  # after STOPPING=1 systemd would not take this same process as active again
        else:
            self.notifier.send("STOPPING=1")
        if self.callers is not None:
            self.callers.stop_accepting()
        for service in self.models.values():
            service.stop()
        self._drain(self.loop.now() + _DRAIN_S)

    def _drain(self, until: float) -> None:
        busy = any(s.busy for s in self.models.values()) or (self.callers is not None and self.callers.unsent)
        if busy and self.loop.now() < until:
            self.loop.later(0.02, lambda: self._drain(until))
        else:
            self.loop.stop()

    def _end(self) -> None:
        for service in self.models.values():
            service.end()
        end = self.loop.now() + 3.0
        while any(service.running for service in self.models.values()) and self.loop.now() < end:
            self.loop.turn(0.05)
        if self.callers is not None:
            self.callers.close()
        self.tell("stopped", "", "", text="starting again as a newer agent" if self._again else "")
        self.history.close()
        self._write_status()

    def _start_again(self, socket_fd: int) -> None:
        """Become the newer agent in this same process: the socket goes along, so that callers only wait a moment."""
        if socket_fd != 3:
            os.dup2(socket_fd, 3)
        os.set_inheritable(3, True)
        env = dict(self._environ, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        archive = os.path.join(self.root, "agent", NAME)
        os.execve(sys.executable, [sys.executable, "-Es", archive, "serve", "--root", self.root], env)  # noqa: S606

    # --- the clock's work

    def _look(self) -> None:
        """See which releases are current, and have them served."""
        if self._stopping:
            return
        current = self.store.current()
        names = self.settings.models or tuple(current)
        for name in [n for n in names if n not in self.models]:
            self.models[name] = ModelService(
                name, self.loop, self.settings, self.budget, self, self.figures, self._answered
            )
        for name, service in self.models.items():
            service.want(current.get(name, ""))

    def _tick(self) -> None:
        for service in self.models.values():
            service.expire()
            if service.silent_s > self.settings.probe_every_s:
                service.probe()
        if not self._announced and not self._starting and self._alive():
            self._announced = True
            self.notifier.send("READY=1")
        self.notifier.send("STATUS=%s" % self._sentence())
        self.history.flush()
        self._ticks += 1
        if self._ticks % _ARCHIVE_EVERY == 0 and _archive_of(self.root) != self._archive and not self._stopping:
            self._again = True
            self._stop()

    @property
    def _starting(self) -> bool:
        """Whether any model is still being loaded for the first time."""
        return any(s.incoming is not None and s.active is None for s in self.models.values())

    def _sentence(self) -> str:
        serving = [name for name, service in self.models.items() if service.model is not None]
        missing = [name for name, service in self.models.items() if service.model is None and service.wanted]
        said = "serving %s" % ", ".join(serving) if serving else "nothing to serve"
        return said + ("; not served: %s" % ", ".join(missing) if missing else "")

    def _feed(self) -> None:
        """Feed systemd's watchdog, but only while inference really works, or the first load still has time."""
        loading = not self._announced and self.loop.now() < self.figures.started + self.settings.start_limit_s
        if loading or self._alive():
            self.notifier.send("WATCHDOG=1")

    def _alive(self) -> bool:
        wanted = [service for service in self.models.values() if service.wanted]
        served = [service for service in wanted if service.model is not None]
        patience = 3 * self.settings.probe_every_s + self.settings.time_limit_s
        return not wanted or (bool(served) and all(service.silent_s < patience for service in served))

    def _check_drift(self) -> None:
        self.drift.look(self.loop, self.facts, self._drifted)

    def _drifted(self, findings: List[Finding]) -> None:
        if self.figures.set_drift(findings):  # only what is new is told
            self.tell("drift", "", "", findings, "" if findings else "as it was proven again")

    def _write_status(self) -> None:
        status = self.status()
        try:
            write_status(self.root, self._environ, status)
            if self.settings.textfile:
                write_textfile(self.settings.textfile, metrics_text(status))
        except OSError as error:
            self.figures.problem("status could not be written: %s" % (error.strerror or error))

    def status(self) -> Dict[str, Any]:
        """Return what `status` answers and status.json holds."""
        return status_dict(self.figures, self.models, self.callers, self.loop.now(), self.store.clock.wall())

    # --- releases (Ground)

    def plan(self, model: str, release: str) -> WorkerPlan:
        """Return how the release is to be run here; AgentError when its files are not here."""
        return plan_of(self.store, release, self.settings)

    def check(self, plan: WorkerPlan) -> List[Finding]:
        """Return what speaks against running it, before anything is loaded."""
        found = static_findings(plan.nb, self.facts, plan.runtime, plan.nb_sha256)
        return [f for f in found if f.severity is Severity.ERROR]

    def take_back(self, model: str, release: str, to: str, why: str) -> bool:
        """Make `to` current on disk; False while another session holds the store or nothing can be written."""
        try:
            take(self.store, patience_s=0.2)
            if self.store.link(model, "current") == release:
                rollback(self.store, model, to)
                self.tell("went-back", model, release, text=why)
        except StoreError as error:
            self.figures.problem("%s could not be taken back: %s" % (release[:12], error))
            return False
        finally:
            if self.store.locked:
                self.store.unlock()
        return True

    def tell(self, kind: str, model: str, release: str, findings: Sequence[Finding] = (), text: str = "") -> None:
        """Write it into history and log."""
        self.history.add(kind, model=model, release=release, findings=findings, text=text)
        self.log.event(kind, model=model, release=release, findings=findings, text=text)

    # --- requests

    def _screen(self, caller: Caller, header: Dict[str, Any], body_size: int) -> None:
        """Refuse by its header what need not be read."""
        try:
            self._screened(header, body_size)
        except Refusal as refusal:
            self.figures.refused(str(header.get("model") or ""), refusal.code)
            raise

    def _screened(self, header: Dict[str, Any], body_size: int) -> None:
        if header.get("op") != "infer":
            if body_size:
                raise Refusal("only `infer` takes a body", "bad-request")
            return
        service = self._service(header.get("model"))
        model = service.expected
        if model is None:
            service.refuse()
        else:
            screen_inputs(model, tensors_of(header.get("inputs")), body_size)

    def _service(self, name: Any) -> ModelService:
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        service = self.models.get(name) if isinstance(name, str) else None
        if service is None:
            raise Refusal(
                "there is no model %.80r; there are %s" % (name, ", ".join(self.models) or "none"), "unknown-model"
            )
        return service

    def _request(self, caller: Caller, header: Dict[str, Any], body: bytes) -> None:
        """Answer a whole request, now or when a worker has."""
        number = header.get("id")
        try:
            told = self._told(header)
            if told is not None:
                caller.reply({"re": number, "result": told})
                return
            self._submit(caller, header, body)
        except Refusal as refusal:
            self.figures.refused(str(header.get("model") or ""), refusal.code)
            caller.reply({"re": number, "error": refusal.to_dict()})

    def _told(self, header: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Return the answer to what needs no worker, None for `infer`."""
        operation = header.get("op")
        if operation == "infer":
            return None
        if operation == "status":
            return self.status()
        if operation == "health":
            return health_dict(self.status())
        if operation == "metrics":
            return {"text": metrics_text(self.status())}
        if operation == "models":
            return {"models": [s.model.to_dict() for s in self.models.values() if s.model is not None]}
        raise Refusal(
            "unknown request %.40r; known are infer, status, health, models, metrics" % (operation,), "bad-request"
        )

    def _submit(self, caller: Caller, header: Dict[str, Any], body: bytes) -> None:
        if self._stopping:
            raise Refusal("the service is stopping; ask again in a moment", "stopping")
        service = self._service(header.get("model"))
        model = service.expected
        if model is None:
            service.refuse()
            return
        given = tensors_of(header.get("inputs"))
        screen_inputs(model, given, len(body))  # the release may have changed while the body came in
        inputs, data = in_order(model, given, body)
        now = self.loop.now()
        limit = _limit(header.get("deadline_ms"), self.settings.time_limit_s)
        service.submit(Job(service.name, inputs, data, now, now + limit, (caller, header.get("id"))))

    def _answered(self, job: Job, result: Union[Answer, Refusal], wait_s: float, run_s: float, batch: int) -> None:
        caller, number = job.tag
        self.figures.answered(job.model, "ok" if isinstance(result, Answer) else result.code, wait_s, run_s)
        if isinstance(result, Refusal):
            caller.reply({"re": number, "error": result.to_dict()})
            return
        told = {
            "model": job.model,
            "release": result.release,
            "outputs": tensors_to(result.outputs),
            "ms": {"wait": round(wait_s * 1e3, 3), "run": round(run_s * 1e3, 3)},
            "batch": batch,
        }
        caller.reply({"re": number, "result": told}, result.body)

    def _gone(self, caller: Caller) -> None:
        """Forget what a caller that is gone still waits for; what is being run is finished, and dropped."""
        for service in self.models.values():
            service.queue.drop([job for job in service.queue.jobs if job.tag[0] is caller])


def _limit(deadline_ms: Any, most_s: float) -> float:
    if deadline_ms is None:
        return most_s
    if isinstance(deadline_ms, bool) or not isinstance(deadline_ms, (int, float)) or not 0 < deadline_ms < 1e9:
        raise Refusal("`deadline_ms` is %.40r; it must be a number above 0" % (deadline_ms,), "bad-request")
    return min(deadline_ms / 1e3, most_s)


def _archive_of(root: str) -> str:
    """Return which agent the link names; "" where there is none (a checkout)."""
    try:
        return os.readlink(os.path.join(root, "agent", NAME))
    except OSError:
        return ""


def serve(root: str, version: str) -> int:
    """Run the daemon and return its exit code; what an operator can cause is a sentence on stderr."""
    os.umask(0o077)
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        return Daemon(root, load_settings(root), version).run()
    except AgentError as error:
        sys.stderr.write("litefleet-agent: %s\n" % error)
        return 1
    except OSError as error:
        sys.stderr.write("litefleet-agent: %s: %s\n" % (error.filename or root, error.strerror or error))
        return 1
