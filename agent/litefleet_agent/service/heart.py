"""What the service manager hears of the service: that it is ready, that it is alive, and a sentence."""

import os
from typing import Callable, Mapping

from .loop import Loop
from .model import ModelService
from .notify import Notifier, watchdog_interval

__all__ = ["Heart"]

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
