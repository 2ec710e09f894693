"""Where a bench waits: for its processes, with a tick about every second, and for nothing longer than its limit."""

from typing import Callable, List

from ..service.loop import Loop

__all__ = ["Floor"]

_TICK_S = 1.0


class Floor:
    """One loop for all processes of a bench.  As a context it ends them, whatever happened.

    What `on_tick` raises (the controller is gone) goes through to the caller.
    """

    def __init__(self, on_tick: Callable[[], None]) -> None:
        self.loop = Loop()
        self._on_tick = on_tick
        self._next_tick = self.loop.now() + _TICK_S
        self._leavers: List[Callable[[], None]] = []

    def __enter__(self) -> "Floor":
        return self

    def __exit__(self, *_: object) -> None:
        for leave in self._leavers:
            leave()
        self.loop.close()

    def at_end(self, leave: Callable[[], None]) -> None:
        """Have `leave` called when all is over; it must not raise, and may be called twice."""
        self._leavers.append(leave)

    def until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Wait until `done()`, and say whether it came true within `limit_s`."""
        end = self.loop.now() + limit_s
        while not done():
            now = self.loop.now()
            if now >= end:
                return False
            self.tick()
            self.loop.turn(max(0.0, min(end, self._next_tick) - now))
        self.tick()
        return True

    def tick(self) -> None:
        """Tell that the bench still runs, if it is time to; long computations call it."""
        if self.loop.now() >= self._next_tick:
            self._next_tick = self.loop.now() + _TICK_S
            self._on_tick()
