"""Which release of a model a request or an operator means: its current or previous one, or one by the beginning of its id."""

from typing import NamedTuple, Optional

from .store import Store, StoreError, safe_name

_LEAST_DIGITS = 8
_LINKS = ("current", "previous")


class ReleaseSelector(NamedTuple):
    """A model and which of its releases."""

    model: str
    release: Optional[str]  # "current", "previous", an id or 8 digits and more of one; None: the current one

    @classmethod
    def parse(cls, model: object, release: object = None) -> "ReleaseSelector":
        """Read both from a request.  Raises StoreError "bad-request"."""
        if release is None or release in _LINKS:
            return cls(safe_name(model), None if release is None else str(release))
        if not isinstance(release, str) or not _LEAST_DIGITS <= len(release) <= 64:
            message = "a release is named by its id (%d digits of it are enough), by current or by previous"
            raise StoreError(message % _LEAST_DIGITS, "bad-request")
        return cls(safe_name(model), release)

    def resolve(self, store: Store) -> str:
        """Return the id of the release.

        Raises StoreError: "not-current" for a model without a current release, "not-kept" for a release that is not here or was
        not verified here, or is one of another model.
        """
        if self.release is None or self.release in _LINKS:
            return self._linked(store)
        known = set(store.verified_releases()) | set(store.current().values())
        matches = [identity for identity in known if identity.startswith(self.release)]
        if len(matches) != 1:
            message = "more than one release begins with %s" if matches else "no release %s was proven on this device"
            raise StoreError(message % self.release[:12], "not-kept")
        owner = store.release(matches[0]).model
        if owner != self.model:
            message = "%s is a release of %s, not of %s" % (matches[0][:12], owner, self.model)
            raise StoreError(message, "not-kept")
        return matches[0]

    def _linked(self, store: Store) -> str:
        if self.release is None and self.model not in store.current():
            others = ", ".join(sorted(store.current())) or "nothing"
            message = "no release of %s is current on this device, which runs %s: roll it out first"
            raise StoreError(message % (self.model, others), "not-current")
        identity = store.link(self.model, self.release or "current")
        if not identity:
            raise StoreError("%s has no %s release on this device" % (self.model, self.release), "not-kept")
        return identity
