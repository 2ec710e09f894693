"""Which release of a model serves: the one that does, the one that warms up beside it, and the way back.

A switch: the new release's workers load it and pass its goldens while the old ones serve; then it takes over between two
requests.  It is on trial for the health window, and the old workers stay warm for as long: failures take the release back,
first here and then on disk.  Where nothing serves yet, a release that does not pass is followed by the one before it on disk.
"""

from typing import Callable, List, Optional

from ..findings import Finding, finding
from .event_loop import Loop, Timer
from .metrics import ServiceFigures
from .release_source import Ground, Prepared, TakenBack
from .settings import Settings
from .workers.pool import Generation, Owner

__all__ = ["Succession"]

_DEATHS = 3  # workers that may die within the health window
_LEAST_ASKED = 20  # answers from which on their share counts
_BAD_SHARE = 0.5
_AGAIN_S = (5.0, 300.0)  # before a release that failed and has nothing to go back to is tried again: first, longest
_DISK_S = (1.0, 60.0)  # before the disk is tried again: first, longest


class Succession:
    """The generations of one model.  `changed` is called whenever another one serves, or none."""

    def __init__(
        self,
        name: str,
        loop: Loop,
        settings: Settings,
        ground: Ground,
        figures: ServiceFigures,
        owner: Owner,
        changed: Callable[[], None],
    ) -> None:
        self.name, self._loop, self._settings, self._ground, self._figures = name, loop, settings, ground, figures
        self._owner, self._changed = owner, changed
        self.active: Optional[Generation] = None
        self.incoming: Optional[Generation] = None
        self.before: Optional[Generation] = None  # kept warm while `active` is on trial
        self.wanted = ""
        self.findings: List[Finding] = []  # why the wanted release is not served
        self.switched_at = 0.0
        self._retired: List[Generation] = []  # still answer what they run
        self._preparing = ""  # the release that is being looked at
        self._again: Optional[Timer] = None  # until something is tried once more
        self._failures = 0
        self._window: Optional[Timer] = None
        self._asked = self._bad = self._deaths = 0  # on trial
        self._stopping = False

    @property
    def loading(self) -> bool:
        """Whether a release is on its way, and it is not known yet whether it can be served."""
        return bool(self._preparing) or self.incoming is not None

    @property
    def hopeful(self) -> bool:
        """Whether that is for the first time since it is wanted."""
        return self.loading and not self._failures

    @property
    def running(self) -> bool:
        """Whether any worker process is there."""
        return any(one.alive for one in self._all())

    def _all(self) -> List[Generation]:
        serving = [one for one in (self.active, self.incoming, self.before) if one is not None]
        return serving + self._retired

    # --- what is wanted

    def want(self, release: str) -> None:
        """Serve this release from as soon as it is ready; "" = none."""
        if release == self.wanted or self._stopping:
            return
        self.wanted, self.findings, self._failures, self._preparing = release, [], 0, ""
        self._cancel_again()
        if self.incoming is not None:
            self._retire(self.incoming)
            self.incoming = None
        if not release:
            self._serve_nothing()
        elif self.active is not None and self.active.release == release:
            pass  # back to what serves already
        elif self.before is not None and self.before.release == release:
            self._return()
            self._ground.tell("switched", self.name, release, text="back to what served before")
        else:
            self._prepare(release)

    def _serve_nothing(self) -> None:
        self._settle()
        if self.active is not None:
            self._ground.tell("stopped", self.name, self.active.release, text="no release is current any more")
            self._retire(self.active)
            self.active = None
        self._changed()

    def _prepare(self, release: str) -> None:
        if not self._stopping:
            self._preparing = release
            self._ground.prepare(self.name, release, lambda made: self._prepared(release, made))

    def _prepared(self, release: str, made: Prepared) -> None:
        if release != self._preparing or self._stopping:
            return  # something else is wanted by now
        self._preparing = ""
        if made.plan is None:
            self._not_served(release, made.against)
        else:
            self.incoming = Generation(self._loop, made.plan, self._settings.workers, self._owner)

    def _retire(self, generation: Generation) -> None:
        generation.retire()
        self._retired = [one for one in self._retired if one.alive] + [generation]

    # --- it came out well, or not

    def ready(self, generation: Generation) -> None:
        """Take over: the next request goes to the new release."""
        if generation is not self.incoming:
            return
        self._settle()
        self.before, self.active, self.incoming = self.active, generation, None
        self._ground.tell("switched", self.name, generation.release)
        self._begin()
        if generation.release == self.wanted:
            self.findings = []
        else:
            why = "it did not pass its goldens in the service, and the one before it does"
            self._go_back_on_disk(self.wanted, generation.release, why)
        window = self._settings.health_window_s if self._settings.roll_back else 0
        if self.before is not None:
            self._window = self._loop.later(window, self._settle)
        self._changed()

    def _begin(self) -> None:
        assert self.active is not None
        self.switched_at = self._loop.now()
        self._asked = self._bad = self._deaths = 0
        self._figures.switched(self.name, self.active.release)

    def failed(self, generation: Generation, findings: List[Finding]) -> None:
        """The release did not pass here; what served before goes on serving."""
        if generation is self.incoming:
            self._retire(generation)
            self.incoming = None
            self._not_served(generation.release, findings)

    def _not_served(self, release: str, findings: List[Finding]) -> None:
        self._ground.tell("refused-release", self.name, release, findings)
        if release == self.wanted:
            self.findings = list(findings)
        if self.active is not None and self._settings.roll_back:
            self._go_back_on_disk(release, self.active.release, "it did not pass its goldens in the service")
            return
        before = self._ground.previous(self.name) if self._settings.roll_back else ""
        if self.active is None and release == self.wanted and before not in ("", release):
            self._prepare(before)
            return
        low, high = _AGAIN_S
        self._again = self._loop.later(min(low * 2**self._failures, high), lambda: self._prepare(self.wanted))
        self._failures = min(self._failures + 1, 16)
        self._changed()

    # --- the way back

    def count(self, generation: Generation, asked: int, bad: int, deaths: int = 0) -> None:
        """Take into account what a release on trial did."""
        if generation is not self.active or self.before is None or self._stopping:
            return
        self._asked, self._bad, self._deaths = self._asked + asked, self._bad + bad, self._deaths + deaths
        too_bad = self._asked >= _LEAST_ASKED and self._bad > self._asked * _BAD_SHARE
        if (too_bad or self._deaths >= _DEATHS) and self._settings.roll_back:
            self._fail(generation)

    def _fail(self, failed: Generation) -> None:
        why = "%d of %d requests failed and %d workers died within %d s of the switch" % (
            self._bad, self._asked, self._deaths, self._loop.now() - self.switched_at,
        )  # fmt: skip
        self.findings = list(failed.findings)
        self._return()
        assert self.active is not None
        self._ground.tell("went-back", self.name, failed.release, self.findings, why)
        self._go_back_on_disk(failed.release, self.active.release, "")

    def _return(self) -> None:
        """What served before the switch, and is still warm, takes over again between two requests."""
        back, failed = self.before, self.active
        assert back is not None and failed is not None  # noqa: PT018
        self.active, self.before = back, None
        self._settle()
        self._begin()
        self._retire(failed)
        self._changed()

    def _go_back_on_disk(self, release: str, to: str, text: str, failures: int = 0) -> None:
        """Go back on disk, again and again until it can be written: what serves is right already."""

        def then(said: TakenBack) -> None:
            if said.done:
                self._figures.went_back(self.name, release, findings)
                if text:  # else it was told when it happened
                    self._ground.tell("went-back", self.name, release, text=text)
            if self.wanted != release:
                return  # the disk was looked at meanwhile
            if said.why_not:
                self._figures.problem(said.why_not)
                self._again = self._loop.later(min(_DISK_S[0] * 2**failures, _DISK_S[1]), again)
            else:
                self.wanted, self.findings = to, []

        def again() -> None:
            self._go_back_on_disk(release, to, text, min(failures + 1, 16))

        findings = self.findings
        if self.wanted == release and not self._stopping:
            self._ground.take_back(self.name, release, to, then)

    def _settle(self) -> None:
        """The trial is over: what served before is let go."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        if self.before is not None:
            self._retire(self.before)
            self.before = None

    # --- its end

    def _cancel_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        self._cancel_again()

    def end(self) -> None:
        """End all workers, whatever they run."""
        for generation in self._all():
            generation.kill(finding("LF408", "The service stopped, and could not wait any longer."))
