"""A moment that is moved often: with one timer, however often that is."""

from typing import Callable

from .loop import Loop

__all__ = ["Deadline"]


class Deadline:
    """Calls `late(seconds)` when `seconds` have passed since `set`, unless it was set or cleared again."""

    def __init__(self, loop: Loop, late: Callable[[float], None]) -> None:
        self._loop, self._late = loop, late
        self._seconds = 0.0
        self._moment = 0.0  # 0 = none
        self._timer = loop.later(0.0, lambda: None)
        self._timer.cancel()
        self._fires = 0.0  # when the timer is due

    @property
    def moment(self) -> float:
        """When it will be late; 0 = never."""
        return self._moment

    def set(self, seconds: float) -> None:
        """Be late in `seconds`."""
        self._seconds, self._moment = seconds, self._loop.now() + seconds
        if self._timer.call is None or self._fires > self._moment:
            self._timer.cancel()
            self._start()

    def clear(self) -> None:
        """Never be late."""
        self._moment = 0.0

    def _start(self) -> None:
        self._fires = self._moment
        self._timer = self._loop.later(self._moment - self._loop.now(), self._due)

    def _due(self) -> None:
        self._timer.cancel()
        if self._moment and self._loop.now() >= self._moment:
            self._moment = 0.0
            self._late(self._seconds)
        elif self._moment:
            self._start()
