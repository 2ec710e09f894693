"""Actions that are done when they return.  They block: an endpoint calls them in a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import litefleet

from ...common.errors import LitefleetError
from ...common.operator import system_user
from ..auth import Person
from ..service import Service
from .selection import EVERYTHING, Selection


class KeyChanged(LitefleetError):
    """The device shows another key now than the one that the person compared."""


@contextmanager
def acting(person: Person) -> Iterator[None]:
    """Record what follows as done by a person."""
    with litefleet.acting_as(person.name.removesuffix(f" as {system_user()}")):
        yield


def pause(service: Service, person: Person, rollout_id: str) -> str:
    """Pause a rollout, and return the sentence that reports it.  Raises: UsageError when there is nothing to pause."""
    with acting(person):
        return litefleet.pause(service.options.config, rollout_id)


def abort(service: Service, person: Person, rollout_id: str) -> str:
    """End a rollout, and return the sentence that reports it.  Raises: UsageError when there is nothing to abort."""
    with acting(person):
        return litefleet.abort(service.options.config, rollout_id)


def preview_of_rollback(
    service: Service, to: str = "previous", rollout_id: str = "", wave: int = 0, selection: Selection = EVERYTHING
) -> litefleet.RollbackPlan:
    """Return what `rollback` with these arguments would do.  Raises: UsageError, StillOpen, as the command."""
    return litefleet.plan_rollback(selection.opened(service), to=to, rollout_id=rollout_id, wave=wave)


def shown_key(service: Service, name: str) -> litefleet.ShownKey:
    """Contact a device and return the key that it shows now.  Raises: UsageError; FindingError when it cannot be reached."""
    return litefleet.shown_key(EVERYTHING.opened(service), name)


def accept_key(service: Service, person: Person, name: str, fingerprint: str) -> Sequence[str]:
    """Trust a device's key, whose fingerprint ("SHA256:…") the person has compared; return old keys that other files hold.

    Raises: KeyChanged when the device shows another key by now; UsageError; FindingError when it cannot be reached.
    """
    project = EVERYTHING.opened(service)
    shown = litefleet.shown_key(project, name)
    if shown.fingerprint != fingerprint:
        raise KeyChanged(
            f"{name} shows {shown.fingerprint} now, and not {fingerprint[:80]}: compare the new fingerprint, then accept that one"
        )
    if shown.known:
        return ()
    with acting(person):
        return litefleet.accept_key(project, shown)


def what_is_stored(service: Service, name: str) -> Mapping[str, int]:
    """Return what `forget` would delete.  Raises: UsageError when nothing is stored."""
    return litefleet.what_is_stored(EVERYTHING.opened(service), name)


def forget(service: Service, person: Person, name: str) -> None:
    """Delete what the state stores of a device.  Raises: UsageError when nothing is stored; FleetLocked."""
    with acting(person):
        litefleet.forget(EVERYTHING.opened(service), name)
