"""An event loop whose time is virtual: it jumps to the next timer when nothing is ready, so that days pass in milliseconds.

Same coroutines, same order: nothing here depends on how fast the machine is.  Work in threads (`asyncio.to_thread`) and real
file descriptors (children, sockets) are waited for in real time, during which virtual time stands still.
"""

from __future__ import annotations

import asyncio
import ctypes
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["EPOCH", "Killed", "Stuck", "VirtualClock", "VirtualLoop", "run", "run_killed"]

_T = TypeVar("_T")
EPOCH = 1_780_000_000.0  # when a virtual clock starts, unless told: seconds since the epoch, UTC
_TIMEOUT_S = 60.0  # real seconds that a thread may take
_IDLE_S = 5.0  # the same for one that the loop has not started


class Stuck(Exception):
    """Nothing is ready, no timer is set and no thread is at work: the coroutines wait for each other."""


class VirtualClock:
    """The time of a simulated world.  It outlives loops: a second controller goes on where the first one died."""

    def __init__(self, epoch: float = EPOCH) -> None:
        self.epoch = epoch
        self.elapsed = 0.0  # seconds; what `loop.time()` gives

    def now(self) -> float:
        """Return the wall time: seconds since the epoch, UTC."""
        return self.epoch + self.elapsed

    __call__ = now

    def advance(self, seconds: float) -> None:
        """Let time pass while no loop runs."""
        self.elapsed += seconds


class _Selector(selectors.BaseSelector):
    """A real selector that lets virtual time pass instead of waiting."""

    def __init__(self, clock: VirtualClock) -> None:
        self._real = selectors.DefaultSelector()
        self._clock = clock
        self._own = 0  # file descriptors that are the loop's own
        self.jobs: set[Future[Any]] = set()  # in threads
        self.turns = 0
        self.last_turn: int | None = None
        self.stop: Callable[[], None] = lambda: None  # called in the last turn

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def start(self) -> None:
        """Take what is registered now (the loop's self-pipe) for no outside work."""
        self._own = len(self._real.get_map())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if self.turns == self.last_turn:
            self.stop()
        ready = self._real.select(0)
        if ready or timeout == 0 or self.turns == self.last_turn:
            return ready
        if timeout is None or self._busy():
            return self._wait()
        self._clock.elapsed += timeout
        return []

    def _busy(self) -> bool:
        return bool(self.jobs) or len(self._real.get_map()) > self._own

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        limit_s = _TIMEOUT_S if self._busy() else _IDLE_S
        ready = self._real.select(limit_s)
        if not ready:
            raise Stuck(f"nothing happened in {limit_s:.0f} real seconds: {Stuck.__doc__}")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop that lives in a clock's time."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.selector = _Selector(self.clock)
        super().__init__(self.selector)
        self.selector.start()
        self._pool: ThreadPoolExecutor | None = None

    def time(self) -> float:
        return self.clock.elapsed

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        job = (executor or self._default()).submit(func, *args)
        self.selector.jobs.add(job)
        future = asyncio.wrap_future(job, loop=self)
        future.add_done_callback(lambda _: self.selector.jobs.discard(job))
        return future

    def _default(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="virtual")
            self.set_default_executor(self._pool)
        return self._pool

    def drop(self) -> None:
        """End the work in threads: what has begun is done, what has not never is."""
        for job in self.selector.jobs:
            job.cancel()
        wait(self.selector.jobs)


def run(main: Coroutine[Any, Any, _T], clock: VirtualClock | None = None) -> _T:
    """Run a coroutine to its end in virtual time; Stuck when it never ends."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)


@dataclass(frozen=True)
class Killed(Generic[_T]):
    """How a run ended: `result` where it came to its end before it was killed; `turns` of the loop that it took."""

    done: bool
    turns: int
    result: _T | None = None


def run_killed(
    main: Coroutine[Any, Any, _T], clock: VirtualClock, *, turns: int | None = None, at: float | None = None
) -> Killed[_T]:
    """Run a coroutine until its loop's n-th turn or the wall time `at`, then drop it as kill -9 would: no `finally` runs.

    The dead are kept for ever, even when Python ends: freed coroutines would run their `finally`.

    What a thread has begun is done, what waits for one is not.  What the dead had open elsewhere is the caller's to hang up.
    """
    loop = VirtualLoop(clock)
    task = loop.create_task(main)
    task.add_done_callback(lambda _: loop.stop())
    loop.selector.last_turn, loop.selector.stop = turns, loop.stop
    if at is not None:
        loop.call_at(at - clock.epoch, loop.stop)
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        return _buried(loop, task)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _buried(loop: VirtualLoop, task: asyncio.Task[_T]) -> Killed[_T]:
    turns, loop.selector.last_turn = loop.selector.turns, None
    others = asyncio.all_tasks(loop)
    if not task.done():
        loop.drop()
        for dead in (loop, *others):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(dead))
        return Killed(False, turns)
    for other in others:
        other.cancel()
    loop.run_until_complete(asyncio.gather(*others, return_exceptions=True))
    return Killed(True, turns, task.result())
