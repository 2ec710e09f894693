"""Work beside the loop: what reads files or waits for a disk holds nobody up."""

import os
import threading
from typing import Callable, List, Optional, TypeVar

from .loop import READ, Loop

__all__ = ["aside"]

Result = TypeVar("Result")


def aside(loop: Loop, work: Callable[[], Result], then: Callable[[Optional[Result]], None]) -> None:
    """Do `work` in a thread, and call `then` with what it returned from the loop; with None when it could not be done."""
    result: List[Result] = []
    try:
        wake, woken = os.pipe()
    except OSError:  # too many open files
        loop.later(0.0, lambda: then(None))
        return

    def run() -> None:
        try:
            result.append(work())
        finally:
            os.close(woken)

    def done(ready: int) -> None:
        loop.forget(wake)
        os.close(wake)
        then(result[0] if result else None)

    loop.watch(wake, READ, done)
    try:
        threading.Thread(target=run, name="litefleet-aside", daemon=True).start()
    except RuntimeError:  # no more threads
        os.close(woken)  # the loop hears of that
