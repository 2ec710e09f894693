"""The releases of one rollout, as they were planned: a resumed rollout, or a device that joins late, gets the very same bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ..common.errors import FindingError
from ..devices.deliver import Supplied
from ..devices.steps import Supplier
from ..state.model import KeptRelease

__all__ = ["Shelf", "kind_of", "to_kept", "to_supplied"]

Keeper = Callable[[KeptRelease], Awaitable[KeptRelease]]  # seals and stores a release that was made late


def kind_of(facts: Facts) -> str:
    """Return what a release is made for: "x86_64 cp311 glibc 2.36"."""
    return f"{facts.arch or facts.machine} {facts.python.tag} {facts.libc.kind} {facts.libc.version}".strip()


def _special(device: Device) -> bool:
    """Say whether a device has a file or runtime of its own, which is not for others of its kind."""
    return bool(device.artifact or device.runtime)


def to_kept(supplied: Supplied, model: str, device: Device, facts: Facts) -> KeptRelease:
    """Return a release that was made for a device in the form that the state keeps."""
    return KeptRelease(
        id=supplied.release,
        model=model,
        kind=kind_of(facts),
        manifest=supplied.manifest,
        artifact=supplied.artifact,
        blobs=supplied.blobs,
        runtime_key=supplied.runtime_key,
        runtime_blob=supplied.runtime_blob,
        runtime_size=supplied.runtime_size,
        recipe=supplied.recipe,
        sealed=supplied.sealed,
        special=_special(device),
    )


def to_supplied(kept: KeptRelease, signers: str = "") -> Supplied:
    """Return a kept release ready to be sent; FindingError LF616 when one of its files is gone."""
    files = {**kept.blobs, **({kept.runtime_blob[0]: kept.runtime_blob[1]} if kept.runtime_blob else {})}
    gone = [path for path in files.values() if not path.is_file()]
    if gone:
        raise FindingError([finding("LF616", f"{gone[0]}, a file of the planned release {kept.id[:12]}, is gone")])
    return Supplied(
        release=kept.id,
        manifest=kept.manifest,
        artifact=kept.artifact,
        blobs=kept.blobs,
        runtime_key=kept.runtime_key,
        runtime_blob=kept.runtime_blob,
        runtime_size=kept.runtime_size,
        recipe=kept.recipe,
        sealed=kept.sealed,
        trusted_signers=signers,
    )


class Shelf:
    """A Supplier that hands out what was planned, and makes anew only what was planned for but never made."""

    def __init__(
        self,
        planned: Mapping[tuple[str, str], str],
        releases: Iterable[KeptRelease],
        live: Supplier,
        keep: Keeper,
        signers: str = "",
        asides: Mapping[str, tuple[Finding, ...]] | None = None,
    ) -> None:
        self._asides = asides or {}  # by release: why it brings no runtime
        self._planned = dict(planned)  # (device, model) -> release
        self._by_id = {r.id: r for r in releases}
        self._live = live
        self._keep = keep
        self._signers = signers

    async def supply(self, model: str, device: Device, facts: Facts) -> Supplied:
        """Return the planned release for this device.

        Raises: FindingError: LF616 when it can't be had as planned, and whatever making one anew meets.
        """
        kept = self._find(model, device, kind_of(facts))
        if kept is None:
            return await self._late(model, device, facts)
        return replace(to_supplied(kept, self._signers), no_runtime=self._asides.get(kept.id, ()))

    def _find(self, model: str, device: Device, kind: str) -> KeptRelease | None:
        planned = self._by_id.get(self._planned.get((device.name, model), ""))
        if planned is not None and planned.kind == kind:
            return planned
        if _special(device):
            return None  # what others of its kind get is not for this one
        return next((r for r in self._by_id.values() if r.model == model and r.kind == kind and not r.special), None)

    async def _late(self, model: str, device: Device, facts: Facts) -> Supplied:
        """Make a release for a kind of device that the plan had not met, from the same recipe or not at all."""
        supplied = await self._live.supply(model, device, facts)
        if not supplied.release:
            return supplied
        recipes = {r.recipe for r in self._by_id.values() if r.model == model}
        if recipes and supplied.recipe not in recipes:
            seen = f"{model} is not what the rollout was planned with, and there is no release for {kind_of(facts)} yet"
            raise FindingError([finding("LF616", seen)])
        made = to_kept(supplied, model, device, facts)
        kept = self._by_id[made.id] = await self._keep(made)
        return to_supplied(kept, self._signers)
