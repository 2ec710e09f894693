"""Ends a session whose controller is gone or silent, whatever the session is doing.

A session that hangs keeps other sessions from the store.  The kernel reports a closed connection; it does not report a network
that drops packets or a stopped controller, so controllers send a heartbeat.  The process may end at any point: the next session
undoes a switch that was interrupted, children end with their parent, and the kernel releases the store's lock.
"""

import _thread
import fcntl
import os
import select
import sys
import time

from ..protocol import BlockingStream, Header

HEARTBEAT_S = 5.0  # the interval at which the agent requests a heartbeat
_SILENCE_S = 30.0  # with heartbeats: TCP has sent a lost packet again several times by then
# While the session waits for a controller that sends no heartbeat (of before): it may convert a model first, and itself waits at
# most 300 s for a step by default.  While a request runs there is no limit: the session sends an event every five seconds, so
# that TCP reports a dead connection within about a quarter of an hour.
_SILENCE_OLD_S = 3600.0
_GRACE_S = 2.0  # for the session to notice a closed connection itself, and then to clean up
_POLL_S = 1.0
_SIGINT = 2  # of POSIX; the module signal loads enum
_FULL = 60000  # unread bytes, of 65536 that a pipe holds: heartbeats may wait behind them while a request runs


def is_heartbeat(header: Header) -> bool:
    """Return whether a frame is a heartbeat, which has no answer."""
    return header.get("event") == "alive"


class Watch:
    """Watches one session's connection, from a thread of its own."""

    def __init__(self, stream: BlockingStream) -> None:
        self._stream = stream
        self._heartbeats = False
        self.gone = False  # the connection is closed

    def start(self) -> None:
        """Begin watching."""
        _thread.start_new_thread(self._run, ())

    def expect_heartbeats(self) -> None:
        """Require heartbeats from now on: the controller has sent one."""
        self._heartbeats = True

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stream.write_fd, 0)  # reports only that nobody can read any more
        last, changed = (-1, -1, False), time.monotonic()
        while True:
            if poll.poll(_POLL_S * 1e3):
                self.gone = True
                time.sleep(_GRACE_S)
                _end()
            # Also when a request has ended: from then on the controller may take its time.
            state, now = (self._stream.count_read, self._unread(), self._stream.waiting), time.monotonic()
            if state != last:
                last, changed = state, now
            elif now - changed > self._limit_s(state[1]):
                text = "litefleet-agent: the controller has been silent for %.0f s: the session ends\n"
                sys.stderr.write(text % (now - changed))
                sys.stderr.flush()  # before Python 3.9 it waits for the exit, which may be os._exit
                _end()

    def _limit_s(self, unread: int) -> float:
        if self._heartbeats and unread < _FULL:
            return _SILENCE_S
        return _SILENCE_OLD_S if self._stream.waiting else float("inf")

    def _unread(self) -> int:
        """Return how many bytes wait to be read; 0 where the kernel does not report it."""
        from termios import FIONREAD  # a second after the start: most first answers are given by then

        try:
            answer = fcntl.ioctl(self._stream.read_fd, FIONREAD, b"\0\0\0\0")
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)


def _end() -> None:
    """End the process: by KeyboardInterrupt in the main thread, so that it cleans up; without it, where it does not get there."""
    os.kill(os.getpid(), _SIGINT)
    time.sleep(_GRACE_S)
    os._exit(1)
