"""`litefleet bundle`: a signed file with all that some devices need, for those that no network reaches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_inventory.model import Device

from ..airgap import WrittenBundle, write_bundle
from ..common.errors import FindingError, UsageError
from ..project.project import Options
from ..rollout_engine.release_cache import to_kept
from ..state.model import KeptRelease
from .context import Desk, ProgressFor, open_desk, who

__all__ = ["write_for"]


@dataclass(frozen=True)
class _Kind:
    """One device that the file is for, and what it is."""

    device: Device
    facts: Facts


async def write_for(
    options: Options, progress_for: ProgressFor, out: Path, facts_files: Sequence[Path]
) -> WrittenBundle:
    """Write the bundle for the selected devices as they last told of themselves, and for those that the files describe.

    Raises: UsageError for a device that nothing is known of; FindingError where no release can be made for one.
    """
    described = [_described(path) for path in facts_files]
    with progress_for(0) as progress:
        async with open_desk(options, progress) as desk:
            kinds = described
            if not described or options.limit:
                kinds = [*await _remembered(desk), *described]
            releases = await _releases(desk, kinds)
            numbers = {m: await desk.write(desk.state.next_number, desk.config.fleet, m) for m in desk.project.models}
            sealed = await desk.sealed(releases, numbers)
            await desk.write(desk.state.keep_releases, desk.hold, sealed)
            now = desk.clock.now()
            made = await write_bundle(out, sealed, desk.config.fleet, desk.signer, desk.contact.archive, now)
            what = {"file": str(out), "sha256": made.sha256, "releases": list(made.releases), **desk.origin()}
            await desk.write(desk.state.log, who(), "bundle written", what)
            return made


async def _remembered(desk: Desk) -> list[_Kind]:
    known = await desk.write(desk.state.known)
    kinds = []
    for device in desk.project.devices:
        entry = known.get(device.name)
        if entry is None:
            raise UsageError(
                f"nothing is known of {device.name}: probe it once (`litefleet plan`), or run "
                "`litefleet-agent facts > FILE` on it and name that file with --facts"
            )
        kinds.append(_Kind(device, Facts.from_dict(entry.facts)))
    return kinds


def _described(path: Path) -> _Kind:
    try:
        facts = Facts.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, AgentError) as error:
        raise UsageError(f"{path} is not what `litefleet-agent facts` prints: {error}") from error
    return _Kind(Device(path.stem, path.stem), facts)


async def _releases(desk: Desk, kinds: Sequence[_Kind]) -> list[KeptRelease]:
    made: dict[str, KeptRelease] = {}
    for kind in kinds:
        for model in desk.project.models_of(kind.device):
            supplied = await desk.supply.supply(model, kind.device, kind.facts)
            if not supplied.release:
                raise FindingError(supplied.findings)
            made[supplied.release] = to_kept(supplied, model, kind.device, kind.facts)
    return list(made.values())
