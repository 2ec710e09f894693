"""Which releases a bench may run, and when."""

from typing import Any, List, Mapping

from ..naming import release_named
from ..store import Store, StoreError
from ..switch import open_leases

__all__ = ["no_lease", "releases_of"]


def no_lease(store: Store) -> None:
    """Raise StoreError "busy" while a switch waits for its confirmation: a held lock would keep the device from going back."""
    for model, operation in open_leases(store).items():
        left = operation.lease.remaining_s(store.clock) if operation.lease is not None else 0.0
        seen = "the switch of %s waits for its confirmation (another %.0f s): measure after it" % (model, left)
        raise StoreError(seen, "busy")


def releases_of(store: Store, header: Mapping[str, Any]) -> List[str]:
    """Return the ids of {model, release?, against?}: the one to measure, then the one to compare it with, if any.

    Raises StoreError as `release_named` does.
    """
    model, against = header.get("model"), header.get("against")
    first = release_named(store, model, header.get("release"))
    return [first] if against is None else [first, release_named(store, model, against)]
