"""Which releases a bench may run: those that are on this device, and current or proven here."""

from typing import Any, List, Mapping

from ..store import Store, StoreError, plain_name
from ..switch import open_leases

__all__ = ["no_lease", "releases_of"]

_LEAST_DIGITS = 8
_LINKS = ("current", "previous")


def no_lease(store: Store) -> None:
    """Raise StoreError "busy" while a switch waits for its confirmation: a held lock would keep the device from going back."""
    for model, operation in open_leases(store).items():
        left = operation.lease.remaining_s(store.clock) if operation.lease is not None else 0.0
        seen = "the switch of %s waits for its confirmation (another %.0f s): measure after it" % (model, left)
        raise StoreError(seen, "busy")


def releases_of(store: Store, header: Mapping[str, Any]) -> List[str]:
    """Return the ids of {model, release?, against?}: the one to measure, then the one to compare it with, if any.

    Raises StoreError: "not-current", "not-kept", "bad-request".
    """
    model = plain_name(header.get("model"))
    current = store.current()
    if header.get("release") is None and model not in current:
        others = ", ".join(sorted(current)) or "nothing"
        seen = "no release of %s is current on this device, which runs %s: roll it out first" % (model, others)
        raise StoreError(seen, "not-current")
    words = [header.get("release") or "current", header.get("against")]
    return [_identity(store, model, word) for word in words if word is not None]


def _identity(store: Store, model: str, word: Any) -> str:
    """Return the id that "current", "previous", an id or the beginning of one stands for."""
    if word in _LINKS:
        identity = store.link(model, word)
        if not identity:
            raise StoreError("%s has no %s release on this device" % (model, word), "not-kept")
        return identity
    if not isinstance(word, str) or not _LEAST_DIGITS <= len(word) <= 64:
        wanted = "a release is named by its id (%d digits of it will do), by current or by previous" % _LEAST_DIGITS
        raise StoreError(wanted, "bad-request")
    here = {identity for identity in store.proven() + list(store.current().values()) if identity.startswith(word)}
    if len(here) != 1:
        seen = "more than one release begins with %s" if here else "no release %s was proven on this device"
        raise StoreError(seen % word[:12], "not-kept")
    identity = here.pop()
    name = store.release(identity)["model"]["name"]
    if name != model:
        raise StoreError("%s is a release of %s, not of %s" % (identity[:12], name, model), "bad-request")
    return identity
