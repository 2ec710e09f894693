"""How many callers fit into what the system lets one process have open."""

import resource

__all__ = ["callers_that_fit"]

_OWN_FILES = 256  # of the service itself: its workers' sockets and pipes, the store, the history, a status
_NO_LIMIT = resource.RLIM_INFINITY


def callers_that_fit(wanted: int) -> int:
    """Raise this process's limit of open files as far as `wanted` callers need it and it may, and return how many fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OWN_FILES
    if soft != _NO_LIMIT and soft < needed:
        soft = needed if hard == _NO_LIMIT else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == _NO_LIMIT or soft >= needed:
        return wanted
    return max(1, soft - _OWN_FILES, soft // 4)
