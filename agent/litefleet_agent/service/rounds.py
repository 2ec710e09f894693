"""What the service does by the clock: which releases are current, goldens in silence, whether the device has changed."""

from typing import Callable, Dict, List

from ..facts import Facts
from ..findings import Finding
from ..store import Store, StoreError
from .drift import DriftWatch
from .figures import ServiceFigures
from .ground import Ground
from .loop import Loop
from .model import ModelService
from .settings import Settings

__all__ = ["DriftRounds", "Rounds"]

_LOOK_S = 0.5  # between looks at which releases are current: a readlink for each model
_TICK_S = 1.0  # goldens are not run oftener


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
