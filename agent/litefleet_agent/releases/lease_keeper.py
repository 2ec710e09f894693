"""The lease watchdog: a small process on the device that reverts a release whose lease expires without a confirmation.

One process serves all leases of a root.  It holds the switch lock only while it reverts, never the store's lock, which a session
that hangs may hold, and nothing of the SSH channel.
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import IO, List, Optional, Sequence

from .. import ARCHIVE_ROOT
from .activation import (  # imported now: the archive may have been removed when a lease expires
    forgotten,
    open_leases,
    recover,
    revert_forgotten,
)
from .archive import keep_bytecode
from .journal import Operation
from .store import Store, StoreError

_CODE = (
    "import sys; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if p]; "
    "from litefleet_agent.releases.lease_keeper import main; main(sys.argv[2], int(sys.argv[3]))"
)
_POLL_S = 5.0  # a lease may be confirmed, or the device suspended, in the meantime
_RETRY_S = 1.0
_READY_S = 20.0  # for an interpreter to start on a slow device


def start(root: str) -> bool:
    """Start a watchdog for this root unless one runs; return whether one runs now."""
    if not sys.executable:
        return False
    keep_bytecode()  # the watchdog needs it
    ready, notify_fd = os.pipe()
    try:
        argv = [sys.executable, "-Es", "-c", _CODE, ARCHIVE_ROOT, os.path.abspath(root), str(notify_fd)]
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            argv, stdin=null, stdout=null, stderr=null, cwd="/", pass_fds=(notify_fd,), start_new_session=True
        )
    except OSError:
        os.close(ready)
        return False
    finally:
        os.close(notify_fd)
    try:
        return _reports(ready, process)
    finally:
        os.close(ready)


def _reports(ready: int, process: "subprocess.Popen[bytes]") -> bool:
    readable, _, _ = select.select([ready], [], [], _READY_S)
    if not readable or os.read(ready, 1) != b"1":
        return False
    process.wait(timeout=_READY_S)  # it has forked the watchdog and ends
    return True


def main(root: str, notify_fd: int) -> None:
    """Become the watchdog of `root`, unless one runs; a "1" on `notify_fd` reports that one runs."""
    lock = _single_instance_lock(root)
    if lock is not None and os.fork() == 0:
        os.close(notify_fd)
        try:
            _guard(Store(root), lock)
        finally:
            os._exit(0)
    os.write(notify_fd, b"1")
    os._exit(0)


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
