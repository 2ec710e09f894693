"""What a device tells of its switches: leases that run, what went back, and what it could go back to."""

from typing import Any, Dict, List, Tuple

from ..releases.activation import lock_and_recover, overdue
from ..releases.journal import Contents, Journal, State
from ..releases.store import Store, StoreError

__all__ = ["hello_status", "kept_releases", "revert_expired"]

_UNDONE = 10
_KEPT = 100  # releases of one model that are named


def revert_expired(store: Store) -> None:
    """Recover what is overdue, if that needs no waiting; the lock is given back.  Never raises for what the device lacks."""
    if store.locked:
        return
    try:
        if overdue(store):
            lock_and_recover(store, timeout_s=0)
            store.unlock()
    except StoreError:
        pass  # another session is at work, or nothing can be written: a switch says so


def hello_status(store: Store) -> Dict[str, Any]:
    """Return {leases, undone, kept}, JSON throughout, as "hello" tells them."""
    try:
        contents = Journal(store.root).read()
    except OSError:
        contents = Contents([], 0)
    undone = [o for o in contents.operations if o.state is State.UNDONE]
    return {
        "leases": {
            o.model: {"release": o.to, "before": o.before, "remaining_s": o.lease.remaining_s(store.clock)}
            for o in contents.open()
            if o.lease is not None and o.state is State.SWITCHED
        },
        "undone": [{"model": o.model, "release": o.to, "why": o.why, "at": o.at} for o in undone[-_UNDONE:]],
        "kept": kept_releases(store),
    }


def kept_releases(store: Store) -> Dict[str, List[str]]:
    """Return the releases that were proven here and are still kept, by model, the latest proof first."""
    found: Dict[str, List[Tuple[float, str]]] = {}
    for identity in store.verified_releases():
        try:
            model = store.release(identity).model
        except StoreError:  # dropped by another session, or damaged
            continue
        record = store.verified(identity)
        found.setdefault(model, []).append((record.at if record is not None else 0, identity))
    return {model: [identity for _, identity in sorted(ids, reverse=True)[:_KEPT]] for model, ids in found.items()}
