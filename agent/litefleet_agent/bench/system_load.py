"""Reads the machine's load during a bench: temperature, clock rate, free memory, and the CPU time of other programs."""

import os
from typing import Dict, List, NamedTuple, Optional, Sequence

from ..facts.sensors import available_bytes, cpu_celsius, cpu_mhz, cpu_ticks, ticks_of
from ..formats.files import Tree

_ENOUGH = 50  # ticks of all CPUs, below which a share of them is mostly rounding
_MOST_FILES = 20000


class _Ticks(NamedTuple):
    """CPU ticks since the boot, of all CPUs together."""

    worked: int
    ours: int  # of these, by the bench's processes
    all: int


class SystemLoad:
    """The sensors of this machine, and the CPU time of this process and of `pids` since the construction."""

    def __init__(self, tree: Tree, pids: Sequence[int]) -> None:
        self._tree, self._pids = tree, (os.getpid(),) + tuple(pids)
        self._first = self._before = self._ticks()

    def sample(self) -> Dict[str, Optional[float]]:
        """Return {temperature, frequency, available, others}; None where the kernel does not report a value."""
        return {
            "temperature": cpu_celsius(self._tree),
            "frequency": cpu_mhz(self._tree),
            "available": available_bytes(self._tree),
            "others": self._others_lately(),
        }

    def others(self) -> Optional[float]:
        """Return the share of all CPUs' time used by other processes since the construction, 0 to 1; None = unknown."""
        return _share(self._first, self._ticks())

    def _others_lately(self) -> Optional[float]:
        """Return the same share since the previous sample, None for too short a time."""
        now = self._ticks()
        share = _share(self._before, now)
        if share is not None:
            self._before = now
        return share

    def _ticks(self) -> Optional[_Ticks]:
        ticks = cpu_ticks(self._tree)
        if ticks is None:
            return None
        return _Ticks(ticks[0], sum(ticks_of(self._tree, pid) for pid in self._pids), ticks[1])


def _share(before: Optional[_Ticks], now: Optional[_Ticks]) -> Optional[float]:
    if before is None or now is None or now.all - before.all < _ENOUGH:
        return None
    others = (now.worked - before.worked) - (now.ours - before.ours)
    return round(min(1.0, max(0.0, others / (now.all - before.all))), 3)


def forget_files(paths: Sequence[str]) -> None:
    """Ask the kernel to drop the pages of files, and of all files in folders, so that they are read from storage again.

    Pages that a process has mapped stay; files that cannot be opened are skipped.
    """
    for name in [name for path in paths for name in _files(path)][:_MOST_FILES]:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:  # a file system without a page cache
            pass
        finally:
            os.close(fd)


def _files(path: str) -> List[str]:
    if not os.path.isdir(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
