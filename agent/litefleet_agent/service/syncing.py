"""Makes written files durable beside the loop: fsync may take seconds on flash, and nobody may wait for it."""

import os
import threading
from typing import Optional

__all__ = ["Syncer"]


class Syncer:
    """Syncs one file at a time in a thread; a file that comes in the meantime is synced after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Optional[int] = None
        self._thread: Optional[threading.Thread] = None

    def sync(self, fd: int) -> None:
        """See to it that what was written to `fd` gets on the disk; the caller may close it.  OSError when there are no files."""
        copy = os.dup(fd)
        with self._lock:
            if self._next is not None:
                os.close(self._next)  # mostly the same file: the newer descriptor syncs both
            self._next = copy
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._work, name="litefleet-sync", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads are to be had: it gets on the disk by itself, later
            if self._next is not None:
                os.close(self._next)
                self._next = None
        else:
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._lock:
                fd, self._next = self._next, None
                if fd is None:
                    self._thread = None
                    return
            try:
                os.fsync(fd)
            except OSError:
                pass  # it is on its way all the same
            finally:
                os.close(fd)

    def close(self, patience_s: float = 2.0) -> None:
        """Wait until nothing is left to sync, or `patience_s` seconds."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(patience_s)
