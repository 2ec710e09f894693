"""Switches releases on, back and off: each a journalled operation that a power cut at any point leaves undone or done.

begin (synced) -> links, one rename each -> switched (under a lease), later confirmed or undone; or done (without a lease).

Whoever calls what changes something holds the store's lock.
"""

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from .atomic import fsync_folder
from .journal import Journal, Kind, Lease, Operation, State
from .store import Store, StoreError, explain_os_error, needed, safe_name

__all__ = [
    "Activation",
    "Rollback",
    "activate",
    "clear_unfinished",
    "confirm",
    "lock_and_recover",
    "open_leases",
    "overdue",
    "point",
    "recover",
    "rollback",
]


def point(models: str, model: str, name: str, identity: str) -> None:
    """Make the link `name` of `model` in the folder `models` point to a release, or remove it for ""; OSError."""
    folder = os.path.join(models, model)
    if not os.path.isdir(folder):
        if not identity:
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fsync_folder(models)
    path = os.path.join(folder, name)
    if identity:
        _replace(path, os.path.join("..", "..", "releases", identity + ".json"))
    elif os.path.lexists(path):
        os.unlink(path)
    fsync_folder(folder)  # also when nothing was changed just now: whoever changed it may have been cut off before this


def _replace(path: str, target: str) -> None:
    folder, name = os.path.split(path)
    if os.path.islink(path) and os.readlink(path) == target:
        return
    temp = os.path.join(folder, ".tmp-" + name)
    if os.path.lexists(temp):
        os.unlink(temp)
    os.symlink(target, temp)
    os.replace(temp, path)


def clear_unfinished(models: str) -> None:
    """Remove the links that a switch which was cut short had not yet renamed; OSError when one can't be."""
    for model in os.listdir(models):
        for name in ("current", "previous"):
            path = os.path.join(models, model, ".tmp-" + name)
            if os.path.lexists(path):
                os.unlink(path)


_LONGEST_LEASE_S = 30 * 86400.0


class Activation(NamedTuple):
    """What an activation did."""

    changed: bool
    lease_remaining_s: Optional[float]  # None: it is final


class Rollback(NamedTuple):
    """What a rollback did; "" stands for nothing."""

    changed: bool
    current: str
    before: str  # what ran when it was asked for


@contextmanager
def _explained(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, action) from error


# --- what stands open


def open_leases(store: Store) -> Dict[str, Operation]:
    """Return the switch of each model that waits for its confirmation: `to`, `before` and `before_previous` are needed.

    Raises StoreError when the journal can't be read.
    """
    with _explained("the journal of %s could not be read" % store.root):
        return {o.model: o for o in Journal(store.root).read().open() if o.lease is not None}


def overdue(store: Store) -> bool:
    """Say whether there is something to recover; StoreError."""
    with _explained("the journal of %s could not be read" % store.root):
        return any(o.overdue(store.clock) for o in Journal(store.root).read().open())


def lock_and_recover(store: Store, timeout_s: float = 0.3) -> List[Operation]:
    """Become the one session that may change the store, undo what is overdue, and return what was undone.

    A recovery that fails (a full disk) does not hinder: room can be made, and a switch tries again and says so.
    Raises StoreError "busy" while another session holds the store for longer than `patience_s`, "not-writable".
    """
    if store.locked:
        return []
    store.lock(timeout_s)
    try:
        return recover(store)
    except StoreError:
        return []


def recover(store: Store) -> List[Operation]:
    """Undo what was cut short and what nobody confirmed in time, in this boot, and return it.

    Twice is no more than once, and it can itself be cut short anywhere.  Raises StoreError when the device can't write.
    """
    undone = []
    with _explained("the switches of %s could not be recovered" % store.root):
        journal = Journal(store.root)
        journal.clear_unfinished()
        clear_unfinished(store.path("models"))
        for operation in journal.read().open():
            why = operation.overdue(store.clock)
            if why:
                undone.append(_undo(store, operation, why))
    return undone


def _undo(store: Store, operation: Operation, why: str) -> Operation:
    """Put the links back and record it; OSError."""
    models, journal = store.path("models"), Journal(store.root)
    if not operation.overdue(store.clock):  # else whoever finds it half-way knows anyhow that it has to go back
        operation = operation.moved(State.UNDOING, store.clock, why)
        journal.append(operation)
    point(models, operation.model, "current", operation.before)  # first what runs
    point(models, operation.model, "previous", operation.before_previous)
    after = operation.moved(State.UNDONE, store.clock, why)
    journal.append(after)
    return after


def _open_operation(store: Store, model: str) -> Optional[Operation]:
    return next((o for o in Journal(store.root).read().open() if o.model == model), None)


# --- switching


def activate(store: Store, identity: str, lease_s: float = 0.0) -> Activation:
    """Make a release the current one of its model; with a lease it goes back by itself unless it is confirmed in time.

    Asked again under its lease, the lease is renewed, or made final with `lease_s` 0.  A release that is final already takes
    no lease.  Raises StoreError: "not-verified" unless it was proven here, "missing", "bad-request".
    """
    lease_s = _seconds(lease_s)
    model = safe_name(store.release(identity)["model"]["name"])
    if store.verified(identity) is None:
        raise StoreError("the release %s was not proven on this device" % identity[:12], "not-verified")
    found = store.link(model, "current")
    with _explained("the release %s could not be switched on" % identity[:12]):
        recover(store)
        leased = _open_operation(store, model)
        if leased is not None and leased.to == identity == store.link(model, "current"):
            return Activation(False, _renew(store, leased, lease_s))
        if leased is not None:
            _undo(store, leased, "the release %s was to be switched on instead" % identity[:12])
        if store.link(model, "current") == identity:
            return Activation(found != identity, None)
        _switch(store, Kind.ACTIVATE, model, identity, lease_s)
    return Activation(True, lease_s or None)


def _seconds(value: Any) -> float:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not known or not 0 <= value <= _LONGEST_LEASE_S:
        raise StoreError("a lease lasts 0 to %d seconds, not %.40r" % (_LONGEST_LEASE_S, value), "bad-request")
    return float(value)


def _renew(store: Store, leased: Operation, lease_s: float) -> Optional[float]:
    after = leased.moved(State.SWITCHED if lease_s else State.CONFIRMED, store.clock)
    if lease_s:
        after = replace(after, lease=Lease.grant(store.clock, lease_s))
    Journal(store.root).append(after)
    return lease_s or None


def _switch(store: Store, kind: Kind, model: str, to: str, lease_s: float) -> None:
    """Change the links as one operation; OSError, after they were put back."""
    journal, clock, models = Journal(store.root), store.clock, store.path("models")
    before, before_previous = store.link(model, "current"), store.link(model, "previous")
    lease = Lease.grant(clock, lease_s) if lease_s else None
    number = max([o.number for o in journal.read().operations] or [0]) + 1
    begun = Operation(number, kind, model, before, before_previous, to, State.BEGUN, clock.wall(), lease)
    journal.append(begun)
    try:
        point(models, model, "previous", before)
        point(models, model, "current", to)
        journal.append(begun.moved(State.SWITCHED if lease else State.DONE, clock))
    except OSError as error:
        _try_undo(store, begun, "the switch failed: %s" % (error.strerror or error))
        raise


def _try_undo(store: Store, operation: Operation, why: str) -> None:
    try:
        _undo(store, operation, why)
    except OSError:
        pass  # it stays open in the journal: whoever takes the lock next undoes it


def confirm(store: Store, identity: str) -> None:
    """Make a leased release final; nothing to do when it is already.

    Raises StoreError "lease-expired", with the reason, when the device went back or has to by now; "missing".
    """
    model = safe_name(store.release(identity)["model"]["name"])
    with _explained("the release %s could not be confirmed" % identity[:12]):
        recover(store)
        runs = store.link(model, "current") == identity
        leased = _open_operation(store, model)
        if leased is not None and leased.to == identity:
            if runs:
                Journal(store.root).append(leased.moved(State.CONFIRMED, store.clock))
                return
            _undo(store, leased, "somebody else changed the links of %s" % model)
        elif runs:
            return
    raise StoreError(_why_not(store, identity, model), "lease-expired")


def _why_not(store: Store, identity: str, model: str) -> str:
    """Return the sentence for a release that can't be confirmed because it does not run."""
    now = store.link(model, "current")[:12] or "nothing"
    past = [o for o in Journal(store.root).read().operations if o.to == identity and o.state is State.UNDONE]
    if not past:
        return "the release %s is not what runs here: %s runs %s" % (identity[:12], model, now)
    ago = max(0, store.clock.wall() - past[-1].at)
    return "the release %s can't be confirmed: %s; the device went back %d s ago, and %s runs %s" % (
        identity[:12],
        past[-1].why,
        ago,
        model,
        now,
    )


# --- going back


def rollback(store: Store, model: str, to: str) -> Rollback:
    """Make `to` current: "previous" (under a lease: what it came from), "nothing", or the id of a release kept here.

    What ran before becomes `previous`; a release under a lease does not count as that, its lease is settled first.
    Raises StoreError "not-kept" when the target is not here, whole and proven; "bad-request".
    """
    model = safe_name(model)
    with _explained("%s could not be rolled back" % model):
        recover(store)
        found, leased = store.link(model, "current"), _open_operation(store, model)
        target = _target(store, model, to, leased)
        if leased is not None:
            _undo(store, leased, "a rollback was asked for")
        if store.link(model, "current") != target:
            _switch(store, Kind.ROLLBACK, model, target, 0.0)
    return Rollback(found != target, target, found)


def _target(store: Store, model: str, to: str, leased: Optional[Operation]) -> str:
    """Return the id that is meant, "" for nothing; StoreError "not-kept" unless it can run here at once."""
    if to == "nothing":
        return ""
    if to == "previous":
        to = leased.before if leased else store.link(model, "previous")
        if not to:
            raise StoreError(
                "nothing ran before what %s runs: to switch it off, go back to nothing" % model, "not-kept"
            )
    problem = _missing_part(store, model, to)
    if problem:
        raise StoreError("can't go back to the release %s of %s: %s" % (to[:12], model, problem), "not-kept")
    return to


def _missing_part(store: Store, model: str, identity: str) -> str:
    """Return what a release lacks to be run at once, or ""; StoreError "bad-request" for what is no id."""
    record = store.verified(identity)
    try:
        manifest: Dict[str, Any] = store.release(identity)
        lost = [sha for sha in needed(manifest) if not os.path.isfile(store.blob(sha))]
    except StoreError as error:
        return str(error)
    runtime = safe_name(manifest.get("runtime"))
    if manifest["model"]["name"] != model:
        return "it is a release of %s" % manifest["model"]["name"]
    if record is None:
        return "it was not proven on this device"
    if lost:
        return "its file %s is no longer here" % lost[0][:12]
    if runtime != "system" and not os.path.isdir(store.path("runtimes", runtime)):
        return "its runtime %s is no longer here" % runtime[:12]
    return ""
