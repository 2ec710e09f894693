"""Cuts a piece of work off at any of its calls that change the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CALLS = ("fsync", "replace", "rename", "unlink", "symlink", "write", "ftruncate", "mkdir")

# Where syncing costs nothing: what is cut off here is a process, not the power.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Cut(BaseException):
    """The power went."""


class Cutter:
    """Counts the calls; at call number `at` (from 1) it does `end`.  A write is cut in its middle when `torn`."""

    def __init__(self, at: int, end: Callable[[], None], torn: bool = False) -> None:
        self.names: list = []
        self._at, self._end, self._torn = at, end, torn

    def wrap(self, name: str, real: Callable) -> Callable:
        def call(*args: object, **named: object) -> object:
            self.names.append(name)
            if self._at and len(self.names) >= self._at:  # also whatever cleans up afterwards: the power is gone
                if self._torn and name == "write" and len(self.names) == self._at:
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                self._end()
            return real(*args, **named)

        return call


@contextmanager
def cut(at: int, end: Callable[[], None], torn: bool = False) -> Iterator[Cutter]:
    """Within, the `at`-th call that changes the disk does `end` instead; 0: they are only counted."""
    cutter, real = Cutter(at, end, torn), {name: getattr(os, name) for name in CALLS}
    for name, call in real.items():
        setattr(os, name, cutter.wrap(name, call))
    try:
        yield cutter
    finally:
        for name, call in real.items():
            setattr(os, name, call)


def in_child(work: Callable[[], None], at: int, torn: bool = False) -> int:
    """Run `work` in a forked child that dies at its `at`-th call; return the exit code: 0 came to its end, 9 died, 7 failed."""
    pid = os.fork()
    if pid == 0:
        code = 7
        try:
            with cut(at, lambda: os._exit(9), torn):
                work()
            code = 0
        finally:
            os._exit(code)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])


def calls(work: Callable[[], None]) -> list:
    """Run `work` to its end in this process and return the names of the calls that changed the disk."""
    with cut(0, lambda: None) as cutter:
        work()
    return cutter.names
