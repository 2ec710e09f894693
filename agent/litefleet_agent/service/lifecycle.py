"""Becoming another agent, or the same one with other settings, in this very process: callers wait a moment and lose nothing."""

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
from .event_loop import Loop
from .listener import hand_on
from .metrics import ServiceFigures
from .model_service import ModelService
from .release_source import Ground
from .settings import Settings
from .systemd import Notifier, watchdog_interval

__all__ = ["DriftRounds", "Heart", "Rounds", "Takeover"]


_MOST = 64 << 20  # bytes of an agent


class Takeover:
    """Knows which agent this one is, and which one it is to become."""

    def __init__(self, root: str, environ: Mapping[str, str]) -> None:
        self._root, self._environ = root, environ
        self._link = os.path.join(root, "agent", NAME)
        self._named = self._name()

    def _name(self) -> str:
        """Return which agent the link names; "" where there is none (a checkout)."""
        try:
            return os.readlink(self._link)
        except OSError:
            return ""

    @property
    def due(self) -> bool:
        """Whether the link names another agent by now, and it is there, whole."""
        name = self._name()
        if not name or name == self._named:
            return False
        try:
            with open(os.path.join(self._root, "agent", name), "rb") as file:
                whole = hashlib.sha256(file.read(_MOST)).hexdigest() + ".pyz" == os.path.basename(name)
        except OSError:
            whole = False
        return whole

    def check(self) -> None:
        """Raise AgentError when the next start would run an agent that is not to be run."""
        name = self._name()
        if name and name != self._named and not self.due:
            raise AgentError(
                "the agent %s is not what its name promises, and a restart would run it: push it again (`litefleet "
                "rollout`, or `litefleet-agent install`)" % name
            )

    def go(self, listening: socket.socket) -> None:
        """Become it.  The socket goes along; everything else of this process ends here."""
        argv = [sys.executable, "-Es", self._link, "serve", "--root", self._root] if self.due else _own_argv()
        os.execve(sys.executable, argv, hand_on(listening, self._environ))  # noqa: S606


def _own_argv() -> List[str]:
    """Return how this process was started."""
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]


_TICK_S = 1.0


class Heart:
    """What the service manager hears: ready, alive, and a sentence."""

    def __init__(
        self,
        loop: Loop,
        environ: Mapping[str, str],
        models: Mapping[str, ModelService],
        start_limit_s: float,
        on_settled: Callable[[], None],
    ) -> None:
        self._loop, self._models, self._on_settled = loop, models, on_settled
        self._notifier = Notifier(environ)
        self._until = loop.now() + start_limit_s  # the first load has this long
        self._settled = self._ready = False
        self._said = ""
        self._every = watchdog_interval(environ, os.getpid())

    def begin(self) -> None:
        """Beat from now on."""
        self._loop.every(_TICK_S, self.tell)
        if self._every:
            self.beat()
            self._loop.every(self._every / 3, self._feed)

    def tell(self) -> None:
        """Tell what has changed; `on_settled` once, when it is known of each model whether it can be served."""
        if not self._settled and not any(service.warming for service in self._models.values()):
            self._settled = True
            self._on_settled()
        if not self._ready and self._settled and self.alive:
            self._ready = True
            self._notifier.send("READY=1")
        said = self._sentence()
        if said != self._said and self._notifier.status(said):
            self._said = said

    def _sentence(self) -> str:
        serving = [name for name, service in self._models.items() if service.model is not None]
        missing = [name for name, s in self._models.items() if s.model is None and s.releases.wanted]
        said = "serving %s" % ", ".join(serving) if serving else "nothing to serve"
        return said + ("; not served: %s" % ", ".join(missing) if missing else "")

    def _feed(self) -> None:
        """Feed the watchdog, but only while inference really works, or a model's first load still has time."""
        loading = not self._ready and self._loop.now() < self._until
        warming = any(service.warming for service in self._models.values())  # each load has its own limit
        if loading or warming or self.alive:
            self.beat()

    def beat(self) -> None:
        """Feed the watchdog: at a start, and before the process becomes another program, which needs a moment."""
        self._notifier.send("WATCHDOG=1")

    @property
    def alive(self) -> bool:
        """Whether all that is served works, and something is served if anything is to be."""
        wanted = [service for service in self._models.values() if service.releases.wanted]
        served = [service for service in wanted if service.model is not None]
        return not wanted or (bool(served) and all(service.working for service in served))

    def ends(self, again: bool) -> None:
        """Tell that the service stops, or (`again`) becomes another one in this same process."""
        if again:
            self._notifier.reloading()  # after STOPPING=1 systemd would not take this same process as active again
        else:
            self._notifier.send("STOPPING=1")


_LOOK_S = 0.5  # between looks at which releases are current: a readlink for each model


class Rounds:
    """Keeps `models` as they are to be; `make(name)` makes the service of one more."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        settings: Settings,
        figures: ServiceFigures,
        models: Dict[str, ModelService],
        make: Callable[[str], ModelService],
    ) -> None:
        self._loop, self._store, self._settings, self._figures = loop, store, settings, figures
        self._models, self._make = models, make
        self._stopped = False

    def begin(self) -> None:
        """Look at once, and then again and again."""
        self.look()
        self._loop.every(_LOOK_S, self.look)
        self._loop.every(_TICK_S, self._tick)

    def stop(self) -> None:
        """Have nothing new served."""
        self._stopped = True

    def look(self) -> None:
        """See which releases are current, and have them served."""
        if self._stopped:
            return
        try:
            current = self._store.current()
        except StoreError as error:  # too many open files, say: what is served stays so
            self._figures.problem(str(error))
            return
        for name in self._settings.models or current:
            if name not in self._models:
                self._models[name] = self._make(name)
        for name, service in list(self._models.items()):
            service.want(current.get(name, ""))
            if not (service.releases.wanted or service.running or name in self._settings.models):
                del self._models[name]  # it was switched off, and nobody named it

    def _tick(self) -> None:
        for service in self._models.values():
            if service.silent_s > self._settings.probe_every_s:
                service.probe()


class DriftRounds:
    """Looks now and then whether the device is still what its releases were proven on."""

    def __init__(self, loop: Loop, store: Store, facts: Facts, figures: ServiceFigures, ground: Ground) -> None:
        self._loop, self._facts, self._figures, self._ground = loop, facts, figures, ground
        self._watch = DriftWatch(store)

    def begin(self, every_s: float) -> None:
        """Look at once, and then again and again."""
        self._look()
        self._loop.every(every_s, self._look)

    def _look(self) -> None:
        self._watch.look(self._loop, self._facts, self._drifted)

    def _drifted(self, findings: List[Finding]) -> None:
        if self._figures.set_drift(findings):  # only what is new is told
            self._ground.tell("drift", "", "", findings, "" if findings else "as it was proven again")
