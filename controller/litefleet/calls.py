"""How the functions of the public API run: their event loop, who acts, and how another thread stops them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from litefleet_controller.devices.outcome import Interrupted, RunReport
from litefleet_controller.devices.progress import Progress, QuietProgress
from litefleet_controller.project import Files, Options
from litefleet_controller.project.project import Project

PathLike = str | os.PathLike[str]
_T = TypeVar("_T")
_stopper: ContextVar[Stopper | None] = ContextVar("stopper", default=None)


class Stopper:
    """Lets another thread stop the calls made under it, as Ctrl-C stops a command: they raise `Interrupted`, nothing is lost.

    stopper = litefleet.Stopper()
    threading.Timer(60, stopper.stop).start()
    with stopper:
        report = litefleet.rollout(project)
    """

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._asked = False
        self._token: Token[Stopper | None] | None = None

    @property
    def asked(self) -> bool:
        """Whether `stop` was called."""
        return self._asked

    def stop(self) -> None:
        """Stop the call under way, and each later one at its beginning.  From any thread, any number of times."""
        with self._one:
            first, self._asked = not self._asked, True
            if first and self._running is not None:  # a second time would disturb what the first one ends
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    def __enter__(self) -> Self:
        self._token = _stopper.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _stopper.reset(self._token)

    async def guard(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run the work where `stop` can reach it.  Raises: Interrupted once it was stopped."""
        task = asyncio.current_task()
        with self._one:
            if self._asked or task is None:
                work.close()
                raise _interrupted()
            self._running = (asyncio.get_running_loop(), task)
        try:
            return await work
        except asyncio.CancelledError:
            raise _interrupted() from None
        finally:
            with self._one:
                self._running = None


def _interrupted() -> Interrupted:
    """Return what ends a call that had nothing to report yet."""
    return Interrupted(RunReport("", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), 0.0, ()))


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end in an event loop of its own, under the stopper of this thread if there is one."""
    stopper = _stopper.get()
    return asyncio.run(work if stopper is None else stopper.guard(work))


def run_checked(project: Project, work: Callable[[], Coroutine[Any, Any, _T]], files: Files = Files.ALL) -> _T:
    """Check the project's local files as the commands do, then run the work.  Raises: ConfigError with every problem."""
    from litefleet_controller.project.check import checked_project

    async def both() -> _T:
        await checked_project(project.options, files)
        return await work()

    return run(both())


def progress_for(progress: Progress | None) -> Callable[[int], Progress]:
    """Return what makes the display of a run: the given one, else one that shows nothing."""
    return lambda total: progress if progress is not None else QuietProgress()


def options_of(project: Project | PathLike) -> Options:
    """Return the options of an open project, or of the whole fleet of a litefleet.yaml, whose inventory is not read then."""
    return project.options if isinstance(project, Project) else Options(Path(project))
