"""`litefleet-agent serve`: the daemon around the models' services, from its start to its end.  It never imports Paddle-Lite."""

import fcntl
import gc
import os
import signal
import sys
from dataclasses import replace
from typing import Callable, Dict, Mapping

from ..errors import AgentError
from ..facts import gather
from ..releases.store import Store
from .connections import Callers
from .event_loop import Loop
from .history import History
from .lifecycle import DriftRounds, Heart, Rounds, Takeover
from .listener import Allowed, callers_that_fit, check, leave, listen
from .messages import Refusal
from .metrics import ServiceFigures
from .model_service import ModelService
from .queue import Budget
from .release_source import Device
from .request_handler import Desk
from .settings import Settings, SettingsError, load_settings
from .status import Bulletin
from .systemd import Log

__all__ = ["Daemon", "serve"]

_DRAIN_S = 20.0  # what is being run when the service stops has this long to finish
_END_S = 3.0  # and then the workers' processes
_POLL_S = 0.02
_AGENT_S = 10.0  # between looks for a newer agent
_FLUSH_S = 60.0  # after which the history writes down what it only counted
_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_SWITCH_S = 0.0005  # a thread that computes beside the loop gives way after this


class Daemon:
    """Everything that the service is, until it is told to stop."""

    def __init__(self, root: str, settings: Settings, version: str, environ: Mapping[str, str] = os.environ) -> None:
        self._root, self._settings, self._version, self._environ = root, settings, version, environ
        self._loop = loop = Loop()
        store, facts = Store(root), gather(root)
        self._figures = figures = ServiceFigures(version, loop.now())
        self._history = History(root, settings.history_bytes)
        self._ground = Device(loop, store, facts, settings, figures, self._history, Log(environ))
        self._models: Dict[str, ModelService] = {}
        self._budget = Budget(settings.queue_bytes)
        self._bulletin = Bulletin(loop, root, environ, settings, figures, self._models)
        self._desk = Desk(loop, settings, self._models, figures, self._bulletin.status)
        self._listening = listen(settings, root, environ)
        asking = self._desk.screen, self._desk.request, self._desk.gone
        self._callers = Callers(loop, self._listening, self._within_limits(settings), *asking)
        self._bulletin.callers = self._callers
        self._rounds = Rounds(loop, store, settings, figures, self._models, self._make)
        self._drift = DriftRounds(loop, store, facts, figures, self._ground)
        self._heart = Heart(loop, environ, self._models, settings.start_limit_s, self._settled)
        self._takeover = Takeover(root, environ)
        self._stopping = False
        self._again = False  # whether to start again in this process

    def _within_limits(self, settings: Settings) -> Settings:
        """Return the settings with as many callers as there can be."""
        most = callers_that_fit(settings.connections)
        if most < settings.connections:
            self._figures.problem(
                "`connections` is %d, and so few files may be open that %d callers are taken: raise LimitNOFILE= of the "
                "unit, or ulimit -n" % (settings.connections, most)
            )
        return replace(settings, connections=most)

    def _make(self, name: str) -> ModelService:
        return ModelService(
            name, self._loop, self._settings, self._budget, self._ground, self._figures,
            self._desk.answered, self._callers.resume,
        )  # fmt: skip

    # --- life

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT and return the exit code."""
        sys.setswitchinterval(_SWITCH_S)
        for number in _ENDINGS:
            self._loop.on_signal(number, self._told_to_end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)  # see _goes_on
        self._loop.on_signal(signal.SIGHUP, self._reload)
        self._ground.tell("started", "", "", text="agent %s" % (self._version[:12] or "of a checkout"))
        self._rounds.begin()
        self._heart.begin()
        self._every(self._settings.status_every_s, self._bulletin.write)
        self._every(_FLUSH_S, self._history.flush)
        self._every(_AGENT_S, self._look_for_agent)
        self._loop.run()
        self._end()
        if self._goes_on():
            self._takeover.go(self._listening)
        return 0

    def _goes_on(self) -> bool:
        """Whether this process becomes another program; who tells it to end from now on tells that one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        self._loop.take_signals()
        if self._again:
            self._heart.beat()
        return self._again

    def _every(self, seconds: float, call: Callable[[], None]) -> None:
        self._loop.every(seconds, call)

    def _settled(self) -> None:
        gc.freeze()  # what is there by now stays: looking through it again and again would only hold up requests
        self._bulletin.write()
        self._drift.begin(self._settings.check_every_s)

    def _look_for_agent(self) -> None:
        if not self._stopping and self._takeover.due:
            self._start_again()

    def _reload(self) -> None:
        """Look at once: where service.json says something else by now, or the agent is another one, begin again with that."""
        try:
            settings = load_settings(self._root)
            changed = settings != self._settings
            if changed:
                Allowed(settings)
                check(settings, self._root, self._environ)
                self._takeover.check()
        except AgentError as error:
            self._ground.tell("settings", "", "", text="%s; the service goes on with those it has" % error)
            return
        self._rounds.look()
        if (changed or self._takeover.due) and not self._stopping:
            self._start_again()

    def _start_again(self) -> None:
        self._again = True
        self._stop()

    def _told_to_end(self) -> None:
        """Finish what is there, and end; told twice, end at once.  Who is about to start again ends instead."""
        if self._stopping and not self._again:
            self._loop.stop()
        elif self._stopping:
            self._again = False
            self._leave()
        else:
            self._stop()

    def _leave(self) -> None:
        self._heart.ends(self._again)
        if not self._again:
            leave(self._listening, self._environ)

    def _stop(self) -> None:
        """Take nothing new, finish what is there, and end."""
        self._stopping = True
        self._rounds.stop()
        self._callers.stop_accepting()
        self._leave()
        for service in self._models.values():
            service.stop()
        self._callers.resume()
        self._drain(self._loop.now() + _DRAIN_S)

    def _drain(self, until: float) -> None:
        busy = any(service.busy for service in self._models.values()) or self._callers.unsent
        if busy and self._loop.now() < until:
            self._loop.later(_POLL_S, lambda: self._drain(until))
        else:
            self._loop.stop()

    def _end(self) -> None:
        for service in self._models.values():
            service.end()
        self._callers.close(Refusal("the service is stopping; ask again in a moment", "stopping"))
        end = self._loop.now() + _END_S
        while any(service.running for service in self._models.values()) and self._loop.now() < end:
            self._loop.turn(_POLL_S)
        self._ground.tell("stopped", "", "", text="starting again in the same process" if self._again else "")
        self._history.close()
        if not self._again:
            self._bulletin.write(ended=True)


def serve(root: str, version: str) -> int:
    """Run the daemon and return its exit code; what an operator can cause is a sentence on stderr."""
    os.umask(0o077)
    try:
        lock = _alone(root)
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


def _alone(root: str) -> int:
    """Return a lock that only one service of a root holds.  Raises AgentError."""
    if not os.path.isdir(root):
        raise AgentError(
            "there is no folder %s: `litefleet provision` makes it; or name the agent's with --root" % root
        )
    lock = os.open(os.path.join(root, "service.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise AgentError("another service already serves %s: stop it first" % root, "busy") from None
    return lock
