"""The lease watchdog: a small process on the device that reverts a release whose lease expires without a confirmation.

One process serves all leases of a root.  It holds the switch lock only while it reverts, never the store's lock, which a session
that hangs may hold, and nothing of the SSH channel.
"""

import fcntl
import gc
import os
import select
import signal
import time
from contextlib import suppress
from typing import IO, List, Optional, Sequence

from .activation import forgotten, open_leases, recover, revert_forgotten
from .journal import Operation
from .store import Store, StoreError

_POLL_S = 5.0  # a lease may be confirmed, or the device suspended, in the meantime
_RETRY_S = 1.0
_READY_S = 20.0  # on a slow device
_NAME = "litefleet-lease"  # in `ps`; the kernel keeps 15 characters


def start(root: str) -> bool:
    """Start a watchdog for this root unless one runs; return whether one runs now.

    It is a copy of this process, which has loaded what it needs: an interpreter of its own would cost 40 to 70 ms of CPU, and the
    archive may have been removed when a lease expires.  The only other thread of a session waits in `poll`, and holds no lock.
    """
    root = os.path.abspath(root)
    ready, notify_fd = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(ready)
        os.close(notify_fd)
        return False
    if pid == 0:
        try:
            _become(root, notify_fd)
        finally:
            os._exit(0)
    os.close(notify_fd)
    try:
        readable, _, _ = select.select([ready], [], [], _READY_S)
        return bool(readable) and os.read(ready, 1) == b"1"
    finally:
        os.close(ready)


def _become(root: str, notify_fd: int) -> None:
    """Become the watchdog of `root`, unless one runs; a "1" on `notify_fd` reports that one runs."""
    gc.freeze()  # an object of the session that is freed here would close a descriptor by a number that is another file's by now
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for number in _open_files():
        if number > 2 and number != notify_fd:
            with suppress(OSError):
                os.close(number)
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(_NAME)
    lock = _single_instance_lock(root)
    os.write(notify_fd, b"1")
    os.close(notify_fd)
    if lock is not None:
        _guard(Store(root), lock)


def _open_files() -> List[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return list(range(1024))


def _single_instance_lock(root: str) -> Optional[IO[str]]:
    """Return the held lock of the watchdog, or None where another one holds it."""
    # Not `keeper.lock`: an older agent's watchdog, which may still run, waits for the session's lock and does not count.
    handle = open(os.path.join(root, "lease.lock"), "a")  # noqa: SIM115 - held as long as the watchdog runs
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def _guard(store: Store, lock: IO[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _protect_from_oom()
    held: Optional[IO[str]] = lock
    while held is not None:
        _serve(store)
        held.close()
        # A lease that was granted just now found this watchdog running and started no other one.
        held = _single_instance_lock(store.root) if _leases(store) else None


def _protect_from_oom() -> None:
    """Ask the kernel to kill other processes first when memory is short; only root may."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-500")
    except OSError:
        pass


def _leases(store: Store, unreadable: Sequence[Operation] = ()) -> List[Operation]:
    """Return the open leases; `unreadable` when the journal cannot be read."""
    try:
        return list(open_leases(store).values())
    except StoreError:
        return list(unreadable)


def _serve(store: Store) -> None:
    """Revert expired and lost leases until no lease is open."""
    known: List[Operation] = []
    while True:
        leases = _leases(store, known)
        lost = forgotten(store, known)
        if lost or any(lease.overdue(store.clock) for lease in leases):
            _revert(store, lost)
            leases = _leases(store, known)
            lost = forgotten(store, lost)
        known = leases + [lease for lease in lost if lease not in leases]
        if not known:
            return
        pauses = [_pause(store, lease) for lease in leases] + [_RETRY_S for _ in lost]
        time.sleep(max(0.05, min([_POLL_S] + pauses)))


def _pause(store: Store, operation: Operation) -> float:
    if operation.lease is None or operation.overdue(store.clock):
        return _RETRY_S  # another session holds the lock, or nothing can be written
    return operation.lease.remaining_s(store.clock)


def _revert(store: Store, lost: List[Operation]) -> None:
    """Revert what is overdue, and the leases in `lost`.  A session that is at work does not hinder; it may hang."""
    if store.switched_by_old_agent():
        return
    with suppress(StoreError):  # tried again
        recover(store)
    with suppress(StoreError):
        revert_forgotten(store, lost)
