"""What `plan --offline` is based on: the facts that devices reported last, and what they were last confirmed to run.

No device is contacted.  What happened on a device since then is not in it, so that such a plan is never carried out: a rollout
asks every device and makes its own plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_inventory.model import Device

from ..devices.release import Release
from ..devices.steps import ReleaseProvider
from ..state import State
from ..state.model import Confirmed, KnownDevice
from .fleet_survey import FleetSurvey, ProbeResult, survey_probes


@dataclass(frozen=True)
class StoredFleet:
    """What the state knows of the devices."""

    known: Mapping[str, KnownDevice]  # by device
    confirmed: Mapping[tuple[str, str], Confirmed]  # by (device, model)
    releases: Mapping[str, Release]  # those that were confirmed, by id

    @classmethod
    def read(cls, state: State) -> StoredFleet:
        """Read it from the state."""
        confirmed = state.confirmed()
        found = {name: state.stored_release(name) for name in {entry.release for entry in confirmed.values()}}
        return cls(state.known(), confirmed, {name: release for name, release in found.items() if release is not None})


async def survey_stored(
    stored: StoredFleet, wanted: Mapping[Device, Sequence[str]], provider: ReleaseProvider
) -> FleetSurvey:
    """Return the releases that devices would get, if they still are as the state knows them."""
    probes = {device.name: _probe(stored, device, models) for device, models in wanted.items()}
    survey = await survey_probes(probes, wanted, provider)
    drafts = []
    for draft in survey.drafts:
        entry = stored.confirmed.get((draft.row.device, draft.row.model))
        drafts.append(replace(draft, confirmed_at=entry.at) if entry is not None and draft.seen_at else draft)
    return replace(survey, drafts=tuple(drafts))


def _probe(stored: StoredFleet, device: Device, models: Sequence[str]) -> ProbeResult:
    known = stored.known.get(device.name)
    if known is None:
        return ProbeResult(device, stored=True)
    try:
        facts = Facts.from_dict(dict(known.facts))
    except AgentError:  # an older litefleet's facts: as if it had never been met
        return ProbeResult(device, stored=True)
    entries = [entry for model in models if (entry := stored.confirmed.get((device.name, model))) is not None]
    return ProbeResult(device, _hello(stored, known, entries), facts, seen_at=known.seen_at, stored=True)


def _hello(stored: StoredFleet, known: KnownDevice, entries: Sequence[Confirmed]) -> dict[str, object]:
    """Return the answer that the device would give, if nothing happened since; it holds the files of what it runs."""
    held = [stored.releases[entry.release] for entry in entries if entry.release in stored.releases]
    return {
        "fingerprint": known.fingerprint,
        "current": {entry.model: entry.release for entry in entries},
        "verified": {entry.release: {"fingerprint": entry.fingerprint} for entry in entries},
        "blobs": {
            sha: path.stat().st_size for release in held for sha, path in release.blobs.items() if path.is_file()
        },
        "runtimes": sorted({entry.runtime for entry in entries if entry.runtime}),
    }
