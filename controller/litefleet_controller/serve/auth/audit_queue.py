"""Entries for the audit log that no request waits for: a rollout may keep the state's database busy for seconds.

An entry is first kept in the server's own journal, synced; a thread moves it to the audit log, and tries again while the state is
busy or cannot be written.  A server that is killed in between moves it when it starts the next time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from ...common.errors import LitefleetError
from ..journal import Journal

PATIENCE_S = 0.25  # for which a request waits, so that its entry is usually there when its answer is
LATE_S = 60.0  # an entry written later than this names the time at which it was noted
_AGAIN_S = (0.2, 1.0, 5.0, 15.0)  # between two tries; the last one repeats
_LOG = logging.getLogger("litefleet.serve")
Write = Callable[[str, str, Mapping[str, object]], None]


class AuditQueue:
    """Moves entries from the journal to the audit log, in their order."""

    def __init__(self, write: Write, journal: Callable[[], Journal], clock: Callable[[], float] = time.time) -> None:
        self._write, self._journal, self._clock = write, journal, clock
        self._changed = threading.Condition()
        self._kept = 0  # number of the last entry that was kept
        self._written = 0  # of the last one that was moved
        self._waiting = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Move what an earlier server left."""
        with self._changed:
            self._wake()

    def add(self, who: str, action: str, what: Mapping[str, object]) -> None:
        """Keep an entry, and wait for a moment until it is in the audit log.  Raises: LitefleetError where it is nowhere."""
        try:
            number = self._journal().keep_entry(who, action, what)
        except LitefleetError as error:
            _LOG.warning("%s", error)
            self._write(who, action, what)  # it waits, but nothing is lost
            return
        with self._changed:
            self._kept = max(self._kept, number)
            self._wake()
            self._changed.wait_for(lambda: self._written >= number or self._closed, PATIENCE_S)

    def settle(self, within_s: float) -> bool:
        """Return whether all entries were moved within a time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._written >= self._kept, within_s)

    def _wake(self) -> None:
        self._waiting = True
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="audit-entries", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._waiting = False
            try:
                self._move()
                failures = 0
            except LitefleetError as error:
                _LOG.warning("the audit log cannot be written now: %s. It is tried again", error)
                wait_s = _AGAIN_S[min(failures, len(_AGAIN_S) - 1)]
                failures += 1
                with self._changed:
                    self._waiting = True
                    self._changed.wait_for(lambda: self._closed, wait_s)

    def _move(self) -> None:
        journal = self._journal()
        for entry in journal.entries():
            late = self._clock() - entry.at > LATE_S
            self._write(entry.who, entry.action, {**entry.what, "noted_at": entry.at} if late else entry.what)
            journal.forget_entry(entry.number)
            with self._changed:
                self._written = entry.number
                self._changed.notify_all()

    def close(self, within_s: float = 2.0) -> None:
        """Stop within about this time; what is not in the audit log then stays in the journal."""
        self.settle(within_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(within_s)
