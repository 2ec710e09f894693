"""Which release is meant: the current one, the one before, or an id; only what is current or was proven on this device."""

from typing import Any

from .store import Store, StoreError, plain_name

__all__ = ["release_named"]

_LEAST_DIGITS = 8
_LINKS = ("current", "previous")


def release_named(store: Store, model: Any, word: Any = None) -> str:
    """Return the id that "current" (or None), "previous", an id or the beginning of one stands for.

    Raises StoreError: "not-current" for a model without a current release, "not-kept" for one that is not here or was not
    proven here, "bad-request".
    """
    name = plain_name(model)
    if word is None and name not in store.current():
        others = ", ".join(sorted(store.current())) or "nothing"
        seen = "no release of %s is current on this device, which runs %s: roll it out first" % (name, others)
        raise StoreError(seen, "not-current")
    if word is None or word in _LINKS:
        identity = store.link(name, word or "current")
        if not identity:
            raise StoreError("%s has no %s release on this device" % (name, word), "not-kept")
        return identity
    if not isinstance(word, str) or not _LEAST_DIGITS <= len(word) <= 64:
        wanted = "a release is named by its id (%d digits of it will do), by current or by previous" % _LEAST_DIGITS
        raise StoreError(wanted, "bad-request")
    here = {identity for identity in store.proven() + list(store.current().values()) if identity.startswith(word)}
    if len(here) != 1:
        seen = "more than one release begins with %s" if here else "no release %s was proven on this device"
        raise StoreError(seen % word[:12], "not-kept")
    identity = here.pop()
    whose = store.release(identity)["model"]["name"]
    if whose != name:
        raise StoreError("%s is a release of %s, not of %s" % (identity[:12], whose, name), "bad-request")
    return identity
