"""Activates, confirms, reverts and rolls back releases; a power cut at any point leaves each operation undone or done.

Order: begin (synced) -> links, one rename each, synced together -> switched (under a lease), later confirmed or undone; or done
(without a lease).  What must be durable before what, from the first blob on:

    each blob's bytes, its name                 before the release is recorded as verified
    the release's file, the record              before the switch begins
    the lease's copy, begin                     before a link changes
    the links                                   before switched, or done
    switched, confirmed                         before the controller is told so

A confirmed rollout of one new file syncs 12 times: 2 for each blob, 2 each for release, record and lease, 1 for the links, 3 for
the journal's lines (bench/traced.py).

Each switch and revert holds the switch lock (`Store.switching`).  A session that requests one also holds the store's lock for as
long as it works; the lease watchdog does not, so that a session that hangs cannot keep a lease from expiring.
"""

from __future__ import annotations

import os

from ..formats.checked import number
from ..formats.light import NamedTuple, contextmanager
from .atomic import fsync_folder
from .journal import KEPT, NOBODY, Journal, Kind, LeaseCopies, Operation, Order, State, Told
from .lease import Lease
from .store import Store, StoreError, explain_os_error, safe_name

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Sequence


def point(models: str, model: str, **links: str) -> None:
    """Make links of `model` in the folder `models` point to releases, in this order, or remove them for "".  Raises OSError.

    They are durable together: the journal says of a switch that is interrupted between them that all of them go back.
    """
    folder = os.path.join(models, model)
    if not os.path.isdir(folder):
        if not any(links.values()):
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fsync_folder(models)
    for name, identity in links.items():
        path = os.path.join(folder, name)
        if identity:
            _replace(path, os.path.join("..", "..", "releases", identity + ".json"))
        elif os.path.lexists(path):
            os.unlink(path)
    fsync_folder(folder)  # also when nothing changed: the process that changed it may have died before this


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
    """Remove the links that an interrupted switch had not yet renamed.  Raises OSError."""
    for model in os.listdir(models):
        for name in ("current", "previous"):
            path = os.path.join(models, model, ".tmp-" + name)
            if os.path.lexists(path):
                os.unlink(path)


_LOST = "its lease could not be read any more"
_LONGEST_LEASE_S = 30 * 86400.0


class Activation(NamedTuple):
    """Result of an activation."""

    changed: bool
    lease_remaining_s: Optional[float]  # None: the release is confirmed


class Rollback(NamedTuple):
    """Result of a rollback; "" stands for no release."""

    changed: bool
    current: str
    before: str  # the current release when the rollback was requested


@contextmanager
def _explained(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, action) from error


@contextmanager
def _switching(store: Store, action: str) -> Iterator[None]:
    """Hold the switch lock; an OSError becomes a StoreError about `action`."""
    with _explained(action), store.switching():
        yield


# --- open operations


def open_leases(store: Store) -> Dict[str, Operation]:
    """Return the switch of each model that waits for its confirmation; its `to`, `before` and `before_previous` must stay.

    Raises StoreError when the journal cannot be read.
    """
    with _explained("the journal of %s cannot be read" % store.root):
        return {o.model: o for o in Journal(store.root).read().open() if o.lease is not None}


def overdue(store: Store) -> bool:
    """Return whether an operation was interrupted, or its lease has expired or was lost.  Raises StoreError."""
    with _explained("the journal of %s cannot be read" % store.root):
        held = Journal(store.root).read()
    return any(o.overdue(store.clock) for o in held.open()) or bool(
        _missing_from(held.operations, store, LeaseCopies(store.root).kept())
    )


def lock_and_recover(store: Store, timeout_s: float = 0.3) -> List[Operation]:
    """Acquire the store's lock, undo what is overdue, and return the undone operations.

    A recovery that fails (a full disk) is no error here: the caller may free space, and the next switch tries again and reports
    it.  Raises StoreError "busy" when another session holds the lock for longer than `timeout_s` seconds, "not-writable".
    """
    if store.locked:
        return []
    store.lock(timeout_s)
    try:
        return recover(store)
    except StoreError:
        return []


def recover(store: Store) -> List[Operation]:
    """Undo interrupted operations and those that were not confirmed in time, or not in this boot, and return them.

    Idempotent, and may itself be interrupted anywhere.  Raises StoreError when the device cannot write.
    """
    undone = []
    with _switching(store, "the switches of %s cannot be recovered" % store.root):
        journal = Journal(store.root)
        journal.clear_unfinished()
        clear_unfinished(store.path("models"))
        undone += _undo_forgotten(store)
        for operation in journal.read().open():
            why = operation.overdue(store.clock)
            if why:
                undone.append(_undo(store, operation, why))
    return undone


def _undo_forgotten(store: Store) -> List[Operation]:
    """Undo the switches whose lease the journal has lost, and remove the copies of finished ones.  Raises OSError."""
    copies = LeaseCopies(store.root)
    kept = copies.kept()
    undone = [_undo(store, lease, _LOST) for lease in forgotten(store, kept)]
    if kept:
        still_open = {o.number for o in Journal(store.root).read().open()}
        for lease in kept:
            if lease.number not in still_open:
                copies.drop(lease.model)
    return undone


def forgotten(store: Store, leases: Sequence[Operation]) -> List[Operation]:
    """Return those of `leases` that the journal no longer holds, and whose release still runs.

    A journal that cannot be read at all has forgotten those whose time is over: nobody can confirm them.
    """
    if not leases:
        return []
    try:
        held = Journal(store.root).read().operations
    except OSError:
        return _still_running(store, [lease for lease in leases if lease.overdue(store.clock)])
    return _missing_from(held, store, leases)


def _missing_from(held: List[Operation], store: Store, leases: Sequence[Operation]) -> List[Operation]:
    """As `forgotten`: an emptied or damaged journal forgets operations; a compacted one keeps the latest `KEPT`."""
    numbers = {o.number for o in held}
    finished = [o.number for o in held if not o.open]
    oldest = min(finished) if len(finished) >= KEPT else 0
    return _still_running(store, [lease for lease in leases if lease.number not in numbers and lease.number > oldest])


def _still_running(store: Store, leases: List[Operation]) -> List[Operation]:
    return [lease for lease in leases if store.link(lease.model, "current") == lease.to]


def revert_forgotten(store: Store, leases: Sequence[Operation]) -> None:
    """Revert leases that the journal has lost: one that cannot be read counts as expired.  Raises StoreError."""
    with _switching(store, "a release whose lease was lost cannot be reverted"):
        for lease in forgotten(store, leases):
            _undo(store, lease, _LOST)


def _undo(store: Store, operation: Operation, why: str) -> Operation:
    """Put the links back and record it.  Raises OSError."""
    models, journal = store.path("models"), Journal(store.root)
    if not operation.overdue(store.clock):  # an overdue one is undone by every reader of the journal anyway
        operation = operation.moved(State.UNDOING, store.clock, why)
        journal.append(operation)
    # the current release first
    point(models, operation.model, current=operation.before, previous=operation.before_previous)
    after = operation.moved(State.UNDONE, store.clock, why)
    journal.append(after)
    LeaseCopies(store.root).drop(operation.model)
    return after


def _open_operation(store: Store, model: str) -> Optional[Operation]:
    return next((o for o in Journal(store.root).read().open() if o.model == model), None)


# --- switching


def activate(store: Store, identity: str, lease_s: float = 0.0, order: Optional[Order] = None) -> Activation:
    """Make a release the current one of its model; with a lease it reverts unless it is confirmed within `lease_s` seconds.

    A second call under the lease renews it, or confirms the release with `lease_s` 0.  A release that is confirmed already takes
    no lease.  `order` is stored with the switch.  Raises StoreError: "not-verified" unless it was verified here, "missing",
    "bad-request", "another-state" when another controller has switched something here since `order.seen` was read.
    """
    lease_s = _checked_lease(lease_s)
    model = store.release(identity).model
    if store.verified(identity) is None:
        raise StoreError("the release %s was not proven on this device" % identity[:12], "not-verified")
    found = store.link(model, "current")
    with _switching(store, "the release %s cannot be activated" % identity[:12]):
        recover(store)
        told = _told(store, order)
        leased = _open_operation(store, model)
        if leased is not None and leased.to == identity == store.link(model, "current"):
            return Activation(False, _renew(store, leased._replace(told=told), lease_s))
        if leased is not None:
            _undo(store, leased, "the release %s was activated instead" % identity[:12])
        if store.link(model, "current") == identity:
            return Activation(found != identity, None)
        _switch(store, Kind.ACTIVATE, model, identity, lease_s, told)
    return Activation(True, lease_s or None)


def _told(store: Store, order: Optional[Order]) -> Told:
    """Return what a switch is stored with; StoreError "another-state" where the device was told something else meanwhile."""
    now = Journal(store.root).read().told
    if order is None:
        return now
    ours = now[:2] == order.told[:2] and now.number <= order.told.number  # this session's, or an earlier one's
    if not ours and now not in (NOBODY, order.seen):
        raise StoreError(
            "the state %s of fleet '%s' has switched releases here meanwhile (its number %d)"
            % (now.state[:12], now.fleet, now.number),
            "another-state",
        )
    return order.told


def follow(store: Store, order: Order) -> bool:
    """Store that the device follows another state from now on; False where nothing was ever switched here.

    Raises StoreError "another-state" as `activate` does.
    """
    with _switching(store, "the controller's state cannot be recorded"):
        told, journal = _told(store, order), Journal(store.root)
        operations = journal.read().operations
        if operations:
            journal.append(operations[-1]._replace(told=told))
        return bool(operations)


def _checked_lease(value: object) -> float:
    try:
        return float(number(value, 0, _LONGEST_LEASE_S, "a lease (in seconds)"))
    except ValueError as error:
        raise StoreError(str(error), "bad-request") from None


def _renew(store: Store, leased: Operation, lease_s: float) -> Optional[float]:
    after = leased.moved(State.SWITCHED if lease_s else State.CONFIRMED, store.clock)
    if lease_s:
        after = after._replace(lease=Lease.grant(store.clock, lease_s))
    Journal(store.root).append(after)
    if not lease_s:
        LeaseCopies(store.root).drop(leased.model)
    return lease_s or None


def _switch(store: Store, kind: Kind, model: str, to: str, lease_s: float, told: Told) -> None:
    """Change the links as one operation.  Raises OSError, after they were put back."""
    journal, clock, models = Journal(store.root), store.clock, store.path("models")
    before, before_previous = store.link(model, "current"), store.link(model, "previous")
    lease = Lease.grant(clock, lease_s) if lease_s else None
    number = max([o.number for o in journal.read().operations] or [0]) + 1
    begun = Operation(number, kind, model, before, before_previous, to, State.BEGUN, clock.wall(), lease, told=told)
    if lease:
        LeaseCopies(store.root).keep(begun)
    journal.append(begun)
    try:
        point(models, model, previous=before, current=to)
        journal.append(begun.moved(State.SWITCHED if lease else State.DONE, clock))
    except OSError as error:
        _try_undo(store, begun, "the switch failed: %s" % (error.strerror or error))
        raise


def _try_undo(store: Store, operation: Operation, why: str) -> None:
    try:
        _undo(store, operation, why)
    except OSError:
        pass  # it stays open in the journal: the next session that acquires the lock undoes it


def confirm(store: Store, identity: str) -> None:
    """Confirm a leased release, so that it stays; nothing happens when it is confirmed already.

    Raises StoreError "lease-expired", with the reason, when the device has reverted or has to by now; "missing".
    """
    model = store.release(identity).model
    with _switching(store, "the release %s cannot be confirmed" % identity[:12]):
        recover(store)
        runs = store.link(model, "current") == identity
        leased = _open_operation(store, model)
        if leased is not None and leased.to == identity:
            if runs:
                Journal(store.root).append(leased.moved(State.CONFIRMED, store.clock))
                LeaseCopies(store.root).drop(model)
                return
            _undo(store, leased, "the links of %s were changed by something else" % model)
        elif runs and _is_recorded(store, identity):
            return
        elif runs:
            raise StoreError("the lease of the release %s cannot be read any more" % identity[:12], "lease-expired")
    raise StoreError(_why_not(store, identity, model), "lease-expired")


def _is_recorded(store: Store, identity: str) -> bool:
    """Return whether the journal says that a release became current, or has had to forget so early a switch."""
    operations = Journal(store.root).read().operations
    return len(operations) >= KEPT or any(o.to == identity or o.before == identity for o in operations)


def _why_not(store: Store, identity: str, model: str) -> str:
    """Return the sentence for a release that cannot be confirmed because it is not current."""
    now = store.link(model, "current")[:12] or "nothing"
    past = [o for o in Journal(store.root).read().operations if o.to == identity and o.state is State.UNDONE]
    if not past:
        return "the release %s is not current: %s runs %s" % (identity[:12], model, now)
    ago = max(0, store.clock.wall() - past[-1].at)
    return "the release %s cannot be confirmed: %s; the device reverted %d s ago, and %s runs %s" % (
        identity[:12],
        past[-1].why,
        ago,
        model,
        now,
    )


# --- rolling back


def rollback(store: Store, model: str, to: str, order: Optional[Order] = None) -> Rollback:
    """Make `to` current: "previous" (under a lease: the release before it), "nothing", or the id of a release kept here.

    The release that was current becomes `previous`; one under a lease does not, it is reverted first.
    `order` is stored with the switch.  Raises StoreError "not-kept" when the target is not here, whole and verified;
    "bad-request"; "another-state" as `activate` does.
    """
    model = safe_name(model)
    with _switching(store, "%s cannot be rolled back" % model):
        recover(store)
        told = _told(store, order)
        found, leased = store.link(model, "current"), _open_operation(store, model)
        target = _target(store, model, to, leased)
        if leased is not None:
            _undo(store, leased, "a rollback was requested")
        if store.link(model, "current") != target:
            _switch(store, Kind.ROLLBACK, model, target, 0.0, told)
    return Rollback(found != target, target, found)


def _target(store: Store, model: str, to: str, leased: Optional[Operation]) -> str:
    """Return the id of the target, "" for nothing.  Raises StoreError "not-kept" unless it can run at once."""
    if to == "nothing":
        return ""
    if to == "previous":
        to = leased.before if leased else store.link(model, "previous")
        if not to:
            raise StoreError("%s has no previous release: to switch it off, roll back to nothing" % model, "not-kept")
    problem = _missing_part(store, model, to)
    if problem:
        raise StoreError("cannot roll back to the release %s of %s: %s" % (to[:12], model, problem), "not-kept")
    return to


def _missing_part(store: Store, model: str, identity: str) -> str:
    """Return what a release lacks to run at once, or ""; StoreError "bad-request" for what is no id."""
    record = store.verified(identity)
    try:
        manifest = store.release(identity)
    except StoreError as error:
        return str(error)
    lost = [sha for sha in manifest.blobs if not os.path.isfile(store.blob(sha))]
    if manifest.model != model:
        return "it is a release of %s" % manifest.model
    if record is None:
        return "it was not proven on this device"
    if lost:
        return "its file %s is missing" % lost[0][:12]
    if manifest.runtime != "system" and not os.path.isdir(store.path("runtimes", manifest.runtime)):
        return "its runtime %s is missing" % manifest.runtime[:12]
    return ""
