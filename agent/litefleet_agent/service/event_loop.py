"""A small event loop on epoll: descriptors, timers, signals, threads.

It runs in one thread.  A callback must not raise: an exception ends the program.
"""

import heapq
import itertools
import os
import select
import signal
import threading
import time
from typing import Callable, Dict, List, Optional, Tuple, TypeVar

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_MAX_WAIT_S = 3600.0


class Timer:
    """A call that the loop makes once, at a given time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Optional[Callable[[], None]] = call

    def cancel(self) -> None:
        """Cancel the call.  Idempotent."""
        self.call = None


class _Watch:
    """A watched descriptor."""

    def __init__(self, events: int, call: Callable[[int], None]) -> None:
        self.events, self.call = events, call


class EventLoop:
    """Waits for descriptors, times and signals, and makes the registered calls."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: Dict[int, _Watch] = {}
        self._timers: List[Tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: Dict[int, Callable[[], None]] = {}
        self._wake: Optional[int] = None
        self._stopped = False

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    # --- descriptors

    def watch(self, fd: int, events: int, call: Callable[[int], None]) -> None:
        """Call `call(ready events)` whenever `fd` is ready for `events`: READ, WRITE, both, or 0 for none.

        Another call for the same `fd` replaces events and call.
        """
        known = self._watched.get(fd)
        if known is None:
            if events:
                self._watched[fd] = _Watch(events, call)
                self._poll.register(fd, events)
        elif not events:
            del self._watched[fd]
            self._poll.unregister(fd)
        else:
            known.call = call
            if known.events != events:
                known.events = events
                self._poll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; required before it is closed."""
        if fd in self._watched:
            del self._watched[fd]
            self._poll.unregister(fd)

    # --- timers

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make `call` once, in `seconds`."""
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now() + max(0.0, seconds), next(self._order), timer))
        return timer

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Make `call` every `seconds`, counted from the end of the previous call, as long as the loop runs."""

        def again() -> None:
            call()
            self.later(seconds, again)

        self.later(seconds, again)

    # --- signals

    def on_signal(self, number: int, call: Callable[[], None]) -> None:
        """Make `call` from the loop when the signal arrives.  Only in the main thread."""
        if self._wake is None:
            self._wake, write = os.pipe()
            os.set_blocking(self._wake, False)
            os.set_blocking(write, False)
            signal.set_wakeup_fd(write, warn_on_full_buffer=False)
            self.watch(self._wake, READ, self._signalled)
        self._signals[number] = call
        signal.signal(number, lambda *_: None)  # the wakeup descriptor reports it

    def take_signals(self) -> None:
        """Make the calls of signals that have arrived, and no other calls."""
        if self._wake is not None:
            self._signalled(READ)

    def _signalled(self, ready: int) -> None:
        assert self._wake is not None
        try:
            numbers = os.read(self._wake, 4096)
        except BlockingIOError:
            return
        for number in sorted(set(numbers)):
            if number in self._signals:
                self._signals[number]()

    # --- running

    def stop(self) -> None:
        """End `run` after the present callback."""
        self._stopped = True

    def run(self) -> None:
        """Make calls until `stop` is called."""
        self._stopped = False
        while not self._stopped:
            self.turn(_MAX_WAIT_S)

    def turn(self, longest_s: float) -> None:
        """Wait at most `longest_s` seconds for an event, and make the calls that are due."""
        events = self._poll.poll(min(longest_s, self._pause()))
        for watch, fd, ready in [(self._watched.get(fd), fd, ready) for fd, ready in events]:
            # an earlier callback of this turn may have removed the watch
            if watch is not None and self._watched.get(fd) is watch:
                happened = _wanted_events(ready, watch.events)
                if happened:
                    watch.call(happened)
        self._due()

    def _pause(self) -> float:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else _MAX_WAIT_S

    def _due(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._poll.close()


def _wanted_events(ready: int, wanted: int) -> int:
    """Return the events that a callback must handle: after a hang-up or an error, all that it waits for."""
    return ready & wanted if ready & ~(READ | WRITE) == 0 else wanted


Result = TypeVar("Result")


def run_in_thread(loop: EventLoop, work: Callable[[], Result], on_done: Callable[[Optional[Result]], None]) -> None:
    """Run `work` in a thread, and call `on_done` from the loop with its result.

    The result is None when `work` raised, or when no descriptor or thread was available.
    """
    result: List[Result] = []
    try:
        read_end, write_end = os.pipe()
    except OSError:  # too many open files
        loop.later(0.0, lambda: on_done(None))
        return

    def run() -> None:
        try:
            result.append(work())
        finally:
            os.close(write_end)

    def done(ready: int) -> None:
        loop.forget(read_end)
        os.close(read_end)
        on_done(result[0] if result else None)

    loop.watch(read_end, READ, done)
    try:
        threading.Thread(target=run, name="litefleet-aside", daemon=True).start()
    except RuntimeError:  # no more threads
        os.close(write_end)  # wakes the loop, which calls `done`


class Deadline:
    """Calls `late(seconds)` once `seconds` have passed since `set`, unless it is set again or cleared before."""

    def __init__(self, loop: EventLoop, late: Callable[[float], None]) -> None:
        self._loop, self._late = loop, late
        self._seconds = 0.0
        self._moment = 0.0  # monotonic; 0 = cleared
        self._timer = loop.later(0.0, lambda: None)
        self._timer.cancel()
        self._fires = 0.0  # when the timer is due

    @property
    def moment(self) -> float:
        """The monotonic time of the deadline, 0 when none is set."""
        return self._moment

    def set(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        self._seconds, self._moment = seconds, self._loop.now() + seconds
        if self._timer.call is None or self._fires > self._moment:
            self._timer.cancel()
            self._start()

    def clear(self) -> None:
        """Clear the deadline."""
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
