"""`litefleet-agent serve`: builds the parts of the daemon and runs its main loop.  It never imports Paddle-Lite."""

import fcntl
import gc
import os
import signal
import sys
from dataclasses import replace
from typing import Callable, Dict, Mapping

from ..errors import AgentError
from ..facts import gather
from ..findings.crashlog import decode as _loaded_now  # noqa: F401  an update may remove the archive before a worker crashes
from ..releases.archive import keep_bytecode
from ..releases.store import Store
from .connections import ConnectionSet
from .event_loop import EventLoop
from .history import History
from .lifecycle import DriftTask, PeriodicTasks, Reexec, Watchdog
from .listener import AccessControl, check, close_listener, connection_limit, listen
from .messages import Rejection
from .metrics import ServiceCounters
from .model_service import ModelService
from .publisher import StatusPublisher
from .queue import Budget
from .release_source import ReleaseSource
from .request_handler import RequestHandler
from .settings import Settings, SettingsError, load_settings
from .systemd import Log

_DRAIN_S = 20.0  # time for running requests to finish when the service stops
_END_S = 3.0  # and then for the workers' processes to end
_POLL_S = 0.02
_AGENT_S = 10.0  # between checks for a newer agent
_FLUSH_S = 60.0  # between writes of repeated history entries that were only counted
_TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SWITCH_S = 0.0005  # after which a thread beside the loop gives up the interpreter's lock


class Daemon:
    """The service: builds its parts from the settings, and runs until it is stopped."""

    def __init__(self, root: str, settings: Settings, version: str, environ: Mapping[str, str] = os.environ) -> None:
        self._root, self._settings, self._version, self._environ = root, settings, version, environ
        self._loop = loop = EventLoop()
        store, facts = Store(root), gather(root)
        self._counters = counters = ServiceCounters(version, loop.now())
        self._history = History(root, settings.history_bytes)
        self._source = ReleaseSource(loop, store, facts, settings, counters, self._history, Log(environ))
        self._models: Dict[str, ModelService] = {}
        self._budget = Budget(settings.queue_bytes)
        self._handler = RequestHandler(loop, self._models, counters, lambda: self._publisher.status())
        self._listener = listen(settings, root, environ)
        callbacks = self._handler.validate_request, self._handler.handle, self._handler.connection_closed
        self._connections = ConnectionSet(loop, self._listener, self._within_limits(settings), *callbacks)
        self._publisher = StatusPublisher(loop, root, environ, settings, counters, self._models, self._connections)
        self._tasks = PeriodicTasks(loop, store, settings, counters, self._models, self._create_model)
        self._drift = DriftTask(loop, store, facts, counters, self._source)
        self._watchdog = Watchdog(loop, environ, self._models, settings.start_limit_s, self._on_started)
        self._reexec = Reexec(root, environ)
        self._stopping = False
        self._restarting = False  # whether to execute the daemon again in this process

    def _within_limits(self, settings: Settings) -> Settings:
        """Return the settings with no more connections than the limit of open files allows."""
        most = connection_limit(settings.connections)
        if most < settings.connections:
            self._counters.problem(
                "`connections` is %d, but the limit of open files allows %d: raise LimitNOFILE= of the unit, or ulimit -n"
                % (settings.connections, most)
            )
        return replace(settings, connections=most)

    def _create_model(self, name: str) -> ModelService:
        return ModelService(
            name, self._loop, self._settings, self._budget, self._source, self._counters,
            self._handler.answered, self._connections.resume,
        )  # fmt: skip

    # --- running

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, and return the exit code."""
        keep_bytecode()  # also for the workers
        sys.setswitchinterval(_SWITCH_S)
        for number in _TERMINATION_SIGNALS:
            self._loop.on_signal(number, self._on_terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINATION_SIGNALS)  # see _must_reexec
        self._loop.on_signal(signal.SIGHUP, self._reload)
        self._source.record("started", "", "", text="agent %s" % (self._version[:12] or "of a checkout"))
        self._tasks.begin()
        self._watchdog.begin()
        self._every(self._settings.status_every_s, self._publisher.write)
        self._every(_FLUSH_S, self._history.flush)
        self._every(_AGENT_S, self._check_agent)
        self._loop.run()
        self._end()
        if self._must_reexec():
            self._reexec.execute(self._listener)
        return 0

    def _must_reexec(self) -> bool:
        """Return whether this process executes the daemon again; signals from now on are delivered to that program."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATION_SIGNALS)
        self._loop.take_signals()
        if self._restarting:
            self._watchdog.ping()
        return self._restarting

    def _every(self, seconds: float, call: Callable[[], None]) -> None:
        self._loop.every(seconds, call)

    def _on_started(self) -> None:
        gc.freeze()  # these objects stay: examining them in every collection would only delay requests
        self._publisher.write()
        self._drift.begin(self._settings.check_every_s)

    def _check_agent(self) -> None:
        if not self._stopping and self._reexec.due:
            self._restart()

    def _reload(self) -> None:
        """Check settings, models and agent now; restart in this process when the settings or the agent changed."""
        try:
            settings = load_settings(self._root)
            changed = settings != self._settings
            if changed:
                AccessControl(settings)
                check(settings, self._root, self._environ)
                self._reexec.check()
        except AgentError as error:
            self._source.record("settings", "", "", text="%s; the service keeps its present settings" % error)
            return
        self._tasks.check_models()
        if (changed or self._reexec.due) and not self._stopping:
            self._restart()

    def _restart(self) -> None:
        self._restarting = True
        self._stop()

    def _on_terminate(self) -> None:
        """Finish the accepted requests and end; at the second signal, end at once.  A pending restart is cancelled."""
        if self._stopping and not self._restarting:
            self._loop.stop()
        elif self._stopping:
            self._restarting = False
            self._stop_listening()
        else:
            self._stop()

    def _stop_listening(self) -> None:
        self._watchdog.announce_end(self._restarting)
        if not self._restarting:
            close_listener(self._listener, self._environ)

    def _stop(self) -> None:
        """Accept no more requests, finish those that were accepted, and end."""
        self._stopping = True
        self._tasks.stop()
        self._connections.stop_accepting()
        self._stop_listening()
        for service in self._models.values():
            service.stop()
        self._connections.resume()
        self._drain(self._loop.now() + _DRAIN_S)

    def _drain(self, until: float) -> None:
        busy = any(service.busy for service in self._models.values()) or self._connections.unsent
        if busy and self._loop.now() < until:
            self._loop.later(_POLL_S, lambda: self._drain(until))
        else:
            self._loop.stop()

    def _end(self) -> None:
        for service in self._models.values():
            service.end()
        self._connections.close(Rejection("the service is stopping; try again in a moment", "stopping"))
        end = self._loop.now() + _END_S
        while any(service.running for service in self._models.values()) and self._loop.now() < end:
            self._loop.turn(_POLL_S)
        self._source.record("stopped", "", "", text="restarting in the same process" if self._restarting else "")
        self._history.close()
        if not self._restarting:
            self._publisher.write(stopped=True)


def serve(root: str, version: str) -> int:
    """Run the daemon on the agent's folder `root` and return its exit code.

    0: stopped, 1: failed, 2: wrong settings; the reason of a failure is a sentence on stderr.
    """
    os.umask(0o077)
    try:
        lock = _lock_instance(root)
        try:
            return Daemon(root, load_settings(root), version).run()
        finally:
            os.close(lock)
    except AgentError as error:
        sys.stderr.write("litefleet-agent: %s\n" % error)
        return 2 if isinstance(error, SettingsError) else 1
    except OSError as error:
        sys.stderr.write("litefleet-agent: %s: %s\n" % (error.filename or root, error.strerror or error))
        return 1


def _lock_instance(root: str) -> int:
    """Return the descriptor of a lock that one service of a root holds.

    Raises AgentError when the folder is missing, or "busy" when another service holds the lock.
    """
    if not os.path.isdir(root):
        raise AgentError(
            "the folder %s is missing: `litefleet provision` creates it; or name the agent's folder with --root" % root
        )
    lock = os.open(os.path.join(root, "service.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise AgentError("another service already serves %s: stop it first" % root, "busy") from None
    return lock
