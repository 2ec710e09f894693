"""The releases of one rollout, as they were planned: a resumed rollout, or a device that joins late, gets the very same bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ..common.errors import FindingError
from ..devices.deliver import Release
from ..devices.steps import ReleaseProvider
from ..state.model import StoredRelease

__all__ = ["ReleaseCache", "kind_of", "to_release", "to_stored"]

StoreRelease = Callable[[StoredRelease], Awaitable[StoredRelease]]  # seals and stores a release that was made late


def kind_of(facts: Facts) -> str:
    """Return what a release is made for: "x86_64 cp311 glibc 2.36"."""
    return f"{facts.arch or facts.machine} {facts.python.tag} {facts.libc.kind} {facts.libc.version}".strip()


def _special(device: Device) -> bool:
    """Say whether a device has a file or runtime of its own, which is not for others of its kind."""
    return bool(device.artifact or device.runtime)


def to_stored(built: Release, model: str, device: Device, facts: Facts) -> StoredRelease:
    """Return a release that was made for a device in the form that the state keeps."""
    return StoredRelease(
        id=built.release,
        model=model,
        kind=kind_of(facts),
        manifest=built.manifest,
        artifact=built.artifact,
        blobs=built.blobs,
        runtime_key=built.runtime_key,
        runtime_blob=built.runtime_blob,
        runtime_size=built.runtime_size,
        recipe=built.recipe,
        signed=built.signed,
        special=_special(device),
    )


def to_release(stored: StoredRelease, signers: str = "") -> Release:
    """Return a kept release ready to be sent; FindingError LF616 when one of its files is gone."""
    files = {**stored.blobs, **({stored.runtime_blob[0]: stored.runtime_blob[1]} if stored.runtime_blob else {})}
    missing_files = [path for path in files.values() if not path.is_file()]
    if missing_files:
        raise FindingError(
            [finding("LF616", f"{missing_files[0]}, a file of the planned release {stored.id[:12]}, is gone")]
        )
    return Release(
        release=stored.id,
        manifest=stored.manifest,
        artifact=stored.artifact,
        blobs=stored.blobs,
        runtime_key=stored.runtime_key,
        runtime_blob=stored.runtime_blob,
        runtime_size=stored.runtime_size,
        recipe=stored.recipe,
        signed=stored.signed,
        trusted_signers=signers,
    )


class ReleaseCache:
    """A Supplier that hands out what was planned, and makes anew only what was planned for but never made."""

    def __init__(
        self,
        planned: Mapping[tuple[str, str], str],
        releases: Iterable[StoredRelease],
        live: ReleaseProvider,
        store: StoreRelease,
        signers: str = "",
        runtime_findings: Mapping[str, tuple[Finding, ...]] | None = None,
    ) -> None:
        self._runtime_findings = runtime_findings or {}  # by release: why it brings no runtime
        self._planned = dict(planned)  # (device, model) -> release
        self._by_id = {r.id: r for r in releases}
        self._live = live
        self._store = store
        self._signers = signers

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        """Return the planned release for this device.

        Raises: FindingError: LF616 when it can't be had as planned, and whatever making one anew meets.
        """
        stored = self._find(model, device, kind_of(facts))
        if stored is None:
            return await self._build_late(model, device, facts)
        return replace(to_release(stored, self._signers), no_runtime=self._runtime_findings.get(stored.id, ()))

    def _find(self, model: str, device: Device, kind: str) -> StoredRelease | None:
        planned = self._by_id.get(self._planned.get((device.name, model), ""))
        if planned is not None and planned.kind == kind:
            return planned
        if _special(device):
            return None  # what others of its kind get is not for this one
        return next((r for r in self._by_id.values() if r.model == model and r.kind == kind and not r.special), None)

    async def _build_late(self, model: str, device: Device, facts: Facts) -> Release:
        """Make a release for a kind of device that the plan had not met, from the same recipe or not at all."""
        built = await self._live.release_for(model, device, facts)
        if not built.release:
            return built
        recipes = {r.recipe for r in self._by_id.values() if r.model == model}
        if recipes and built.recipe not in recipes:
            observed = (
                f"{model} is not what the rollout was planned with, and there is no release for {kind_of(facts)} yet"
            )
            raise FindingError([finding("LF616", observed)])
        made = to_stored(built, model, device, facts)
        stored = self._by_id[made.id] = await self._store(made)
        return to_release(stored, self._signers)
