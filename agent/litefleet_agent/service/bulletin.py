"""The service's status: made when somebody asks, and written for those who do not ask."""

from typing import Any, Dict, Mapping, Optional, Sized

from ..clock import Clock
from .figures import ServiceFigures
from .loop import Loop
from .metrics import metrics_text, write_textfile
from .model import ModelService
from .report import status_dict
from .settings import Settings
from .statusfile import write_status

__all__ = ["Bulletin"]


class Bulletin:
    """Tells how the service is, over the socket and in files."""

    def __init__(
        self,
        loop: Loop,
        root: str,
        environ: Mapping[str, str],
        settings: Settings,
        figures: ServiceFigures,
        models: Mapping[str, ModelService],
    ) -> None:
        self._loop, self._root, self._environ, self._settings = loop, root, environ, settings
        self._figures, self._models = figures, models
        self._clock = Clock()
        self.callers: Optional[Sized] = None

    def status(self) -> Dict[str, Any]:
        """Return what `status` answers and status.json holds."""
        return status_dict(self._figures, self._models, self.callers, self._loop.now(), self._clock.wall())

    def write(self, ended: bool = False) -> None:
        """Write status.json and the textfile; `ended` says in them that the service was stopped."""
        status = dict(self.status(), **_ENDED) if ended else self.status()
        try:
            write_status(self._root, self._environ, status)
            if self._settings.textfile:
                write_textfile(self._settings.textfile, metrics_text(status))
        except OSError as error:
            self._figures.problem("status could not be written: %s" % (error.strerror or error))


_ENDED: Dict[str, Any] = {
    "health": "failed",
    "reasons": [{"health": "failed", "model": "", "text": "the service was stopped"}],
}
