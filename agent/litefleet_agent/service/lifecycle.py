"""The life of the daemon: re-execution with a newer agent or new settings, the watchdog, and periodic tasks."""

import hashlib
import os
import socket
import sys
from typing import Callable, Dict, List, Mapping

from ..errors import AgentError
from ..facts import Facts
from ..findings import Finding
from ..releases.archive import NAME
from ..releases.store import Store, StoreError
from .drift import DriftWatch
from .event_loop import EventLoop
from .listener import pass_on_environment
from .metrics import ServiceCounters
from .model_service import ModelService
from .release_source import ReleaseSource
from .settings import Settings
from .systemd import Notifier, watchdog_interval

_MOST = 64 << 20  # bytes of an agent's archive
_TICK_S = 1.0
_CHECK_S = 0.5  # between checks of the current releases: one readlink for each model


class Reexec:
    """Executes the daemon again in this process, keeping the listening socket so that no request is lost.

    The program is the agent that the link `agent/litefleet-agent.pyz` names by then.
    """

    def __init__(self, root: str, environ: Mapping[str, str]) -> None:
        self._root, self._environ = root, environ
        self._link = os.path.join(root, "agent", NAME)
        self._named = self._name()

    def _name(self) -> str:
        """Return the link's target, "" where it is missing (a source checkout)."""
        try:
            return os.readlink(self._link)
        except OSError:
            return ""

    @property
    def due(self) -> bool:
        """Whether the link names another agent by now, whose archive is complete."""
        name = self._name()
        if not name or name == self._named:
            return False
        try:
            with open(os.path.join(self._root, "agent", name), "rb") as file:
                complete = hashlib.sha256(file.read(_MOST)).hexdigest() + ".pyz" == os.path.basename(name)
        except OSError:
            complete = False
        return complete

    def check(self) -> None:
        """Raise AgentError when the next start would run a damaged agent."""
        name = self._name()
        if name and name != self._named and not self.due:
            raise AgentError(
                "the agent %s does not match the SHA-256 in its name, and a restart would run it: push it again "
                "(`litefleet rollout`, or `litefleet-agent install`)" % name
            )

    def execute(self, listener: socket.socket) -> None:
        """Execute the daemon again with `listener` as its socket.  Does not return."""
        argv = [sys.executable, "-Es", self._link, "serve", "--root", self._root] if self.due else _own_argv()
        os.execve(sys.executable, argv, pass_on_environment(listener, self._environ))  # noqa: S606


def _own_argv() -> List[str]:
    """Return the command line of this process."""
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]


class Watchdog:
    """Reports to the service manager: ready, alive, and a status sentence."""

    def __init__(
        self,
        loop: EventLoop,
        environ: Mapping[str, str],
        models: Mapping[str, ModelService],
        start_limit_s: float,
        on_started: Callable[[], None],
    ) -> None:
        self._loop, self._models, self._on_started = loop, models, on_started
        self._notifier = Notifier(environ)
        self._until = loop.now() + start_limit_s  # the limit of the first load
        self._started = self._ready = False
        self._last_message = ""
        self._every = watchdog_interval(environ, os.getpid())

    def begin(self) -> None:
        """Start reporting, and pinging where the service manager has a watchdog."""
        self._loop.every(_TICK_S, self.report)
        if self._every:
            self.ping()
            self._loop.every(self._every / 3, self._ping_if_alive)

    def report(self) -> None:
        """Report changes; call `on_started` once, when each model is active or has failed to load."""
        if not self._started and not any(service.warming for service in self._models.values()):
            self._started = True
            self._on_started()
        if not self._ready and self._started and self.alive:
            self._ready = True
            self._notifier.send("READY=1")
        message = self._status_text()
        if message != self._last_message and self._notifier.status(message):
            self._last_message = message

    def _status_text(self) -> str:
        serving = [name for name, service in self._models.items() if service.model is not None]
        missing = [name for name, s in self._models.items() if s.model is None and s.releases.wanted]
        message = "serving %s" % ", ".join(serving) if serving else "nothing to serve"
        return message + ("; not served: %s" % ", ".join(missing) if missing else "")

    def _ping_if_alive(self) -> None:
        """Ping while inference works, a model is loading, or the first load is within its limit."""
        loading = not self._ready and self._loop.now() < self._until
        warming = any(service.warming for service in self._models.values())  # each load has a limit of its own
        if loading or warming or self.alive:
            self.ping()
        if warming and not self._ready and self._every:
            # A board whose proof took long may load for longer than TimeoutStartSec.
            self._notifier.send("EXTEND_TIMEOUT_USEC=%d" % (self._every * 1e6))

    def ping(self) -> None:
        """Ping once: at the start, and before the daemon is executed again, which takes a moment."""
        self._notifier.send("WATCHDOG=1")

    @property
    def alive(self) -> bool:
        """Whether every active model is healthy, and at least one is active if any release is current."""
        wanted = [service for service in self._models.values() if service.releases.wanted]
        served = [service for service in wanted if service.model is not None]
        return not wanted or (bool(served) and all(service.healthy for service in served))

    def announce_end(self, restarting: bool) -> None:
        """Report that the service stops or, when `restarting`, that it is executed again in this process."""
        if restarting:
            self._notifier.reloading()  # after STOPPING=1 systemd would not accept this process as active again
        else:
            self._notifier.send("STOPPING=1")


class PeriodicTasks:
    """Keeps `models` equal to the device's current releases; `create(name)` returns the service of a new model."""

    def __init__(
        self,
        loop: EventLoop,
        store: Store,
        settings: Settings,
        counters: ServiceCounters,
        models: Dict[str, ModelService],
        create: Callable[[str], ModelService],
    ) -> None:
        self._loop, self._store, self._settings, self._counters = loop, store, settings, counters
        self._models, self._create = models, create
        self._stopped = False

    def begin(self) -> None:
        """Check the models now and every 0.5 s, and run goldens on idle ones."""
        self.check_models()
        self._loop.every(_CHECK_S, self.check_models)
        self._loop.every(_TICK_S, self._tick)

    def stop(self) -> None:
        """Change nothing any more."""
        self._stopped = True

    def check_models(self) -> None:
        """Read which releases are current on disk, and have them served."""
        if self._stopped:
            return
        try:
            current = self._store.current()
        except StoreError as error:  # too many open files, for example: the active releases stay
            self._counters.problem(str(error))
            return
        for name in self._settings.models or current:
            if name not in self._models:
                self._models[name] = self._create(name)
        for name, service in list(self._models.items()):
            service.want(current.get(name, ""))
            if not (service.releases.wanted or service.running or name in self._settings.models):
                del self._models[name]  # it has no current release, and the settings do not name it

    def _tick(self) -> None:
        for service in self._models.values():
            if service.since_last_good_s > self._settings.probe_every_s:
                service.probe()


class DriftTask:
    """Checks periodically whether the device has changed since its releases were verified."""

    def __init__(
        self, loop: EventLoop, store: Store, facts: Facts, counters: ServiceCounters, source: ReleaseSource
    ) -> None:
        self._loop, self._facts, self._counters, self._source = loop, facts, counters, source
        self._watch = DriftWatch(store)

    def begin(self, every_s: float) -> None:
        """Check now and every `every_s` seconds."""
        self._check()
        self._loop.every(every_s, self._check)

    def _check(self) -> None:
        self._watch.start_check(self._loop, self._facts, self._on_drift)

    def _on_drift(self, findings: List[Finding]) -> None:
        if self._counters.set_drift(findings):  # only changes are recorded
            self._source.record("drift", "", "", findings, "" if findings else "the device is as it was verified again")
