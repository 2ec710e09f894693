"""The releases of one rollout, as they were planned: a resumed rollout, or a device that joins late, gets the same bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding
from litefleet_inventory.model import Device

from ..common.errors import FindingError
from ..devices.deliver import is_special, kind_of
from ..devices.release import Release
from ..devices.steps import ReleaseProvider
from ..rollout import DeviceRow

StoreRelease = Callable[[Release], Awaitable[Release]]  # seals and stores a release that was built late


def _ready(stored: Release, signers: str) -> Release:
    """Return a stored release ready to be sent.

    Raises: FindingError with LF616 when one of its files is missing.
    """
    missing_files = [path for path in stored.files.values() if not path.is_file()]
    if missing_files:
        observed = f"{missing_files[0]}, a file of the planned release {stored.id[:12]}, is missing"
        raise FindingError.of("LF616", observed)
    return replace(stored, trusted_signers=signers)


class ReleaseCache:
    """A ReleaseProvider that returns the planned releases, and builds one only for a kind of device that the plan lacked."""

    def __init__(
        self,
        planned: Mapping[tuple[str, str], str],
        releases: Iterable[Release],
        live: ReleaseProvider,
        store: StoreRelease,
        signers: str = "",
        runtime_findings: Mapping[str, tuple[Finding, ...]] | None = None,
        built: Mapping[str, Release] | None = None,
        recipes: Mapping[str, str] | None = None,
    ) -> None:
        self._recipes = (
            recipes or {}
        )  # by model: what the rollout was planned with, also where no release was built then
        self._built = built or {}  # by release: as this process built it, with what the state does not keep
        self._runtime_findings = runtime_findings or {}  # by release: why it brings no runtime
        self._planned = dict(planned)  # (device, model) -> release
        self._by_id = {r.id: r for r in releases}
        self._live = live
        self._store = store
        self._signers = signers

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        """Return the planned release for this device.

        Raises: FindingError: LF616 when it is no longer available as planned, and what building a new one raises.
        """
        stored = self._find(model, device, kind_of(facts))
        if stored is None:
            return await self._build_late(model, device, facts)
        ready = replace(_ready(stored, self._signers), no_runtime=self._runtime_findings.get(stored.id, ()))
        built = self._built.get(stored.id)
        if built is None:
            return ready
        weak = tuple(found for found in built.findings if found.code == "LF425")
        return replace(ready, outputs=built.outputs, golden=built.golden, findings=(*ready.findings, *weak))

    def files_of(self, rows: Sequence[DeviceRow]) -> frozenset[str]:
        """Return the SHA-256 of all files of the releases that were planned for these rows."""
        planned = [self._by_id.get(row.release) for row in rows]
        return frozenset(sha for release in planned if release is not None for sha in release.files)

    def _find(self, model: str, device: Device, kind: str) -> Release | None:
        planned = self._by_id.get(self._planned.get((device.name, model), ""))
        if planned is not None and planned.kind == kind:
            return planned
        if is_special(device):
            return None  # what others of its kind get is not for this one
        return next((r for r in self._by_id.values() if r.model == model and r.kind == kind and not r.special), None)

    async def _build_late(self, model: str, device: Device, facts: Facts) -> Release:
        """Build a release for a kind of device that the plan lacked; LF616 unless its recipe is the planned one."""
        built = await self._live.release_for(model, device, facts)
        if not built.id:
            return built
        recipes = {r.recipe for r in self._by_id.values() if r.model == model}
        recipes |= {self._recipes[model]} if model in self._recipes else set()
        if recipes and built.recipe not in recipes:
            observed = (
                f"{model} is not what the rollout was planned with, and there is no release for {kind_of(facts)} yet"
            )
            raise FindingError.of("LF616", observed)
        stored = self._by_id[built.id] = await self._store(built)
        return _ready(stored, self._signers)
