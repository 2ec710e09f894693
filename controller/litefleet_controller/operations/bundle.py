"""`litefleet bundle`: a signed file with all that some devices need, for devices without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_inventory.model import Device

from ..airgap.write import WrittenBundle, write_bundle
from ..common.errors import FindingError, UsageError
from ..devices.release import Release
from ..project import Options
from .context import ProgressFor, RolloutContext, open_context


@dataclass(frozen=True)
class _Kind:
    """One device that the file is for, and its facts."""

    device: Device
    facts: Facts


async def write_for(
    options: Options, progress_for: ProgressFor, out: Path, facts_files: Sequence[Path]
) -> WrittenBundle:
    """Write the bundle for the selected devices by their last reported facts, and for those that the files describe.

    Raises: UsageError for a device that was never probed; FindingError where no release can be built for one.
    """
    described = [_described(path) for path in facts_files]
    with progress_for(0) as progress:
        async with open_context(options, progress) as context:
            kinds = described
            if not described or options.limit:
                kinds = [*await _remembered(context), *described]
            releases = await _releases(context, kinds)
            numbers = {
                m: await context.write(context.state.next_number, context.config.fleet, m)
                for m in context.project.models
            }
            for note in _notes(context):
                progress.message(note)
            signed = await context.signed(releases, numbers)
            await context.write(context.state.store_releases, context.lock, signed)
            now = context.clock.now()
            made = await write_bundle(
                out, signed, context.config.fleet, context.signer, context.session_factory.archive, now
            )
            details = {"file": str(out), "sha256": made.sha256, "releases": list(made.releases), **context.origin()}
            await context.write(context.state.log, context.actor, "bundle written", details)
            return made


def _notes(context: RolloutContext) -> list[str]:
    """Return a sentence for each model whose accuracy no controller will measure where the bundle is installed."""
    return [
        f"the data set of {model} is not run where the bundle is installed: there its goldens decide, and for a file with fp16 "
        "or quantised weights they are wide, as the data set is to decide; run `litefleet evaluate` on such a device first"
        for model in context.project.models
        if context.config.models[model].golden.dataset is not None
    ]


async def _remembered(context: RolloutContext) -> list[_Kind]:
    known = await context.read(context.state.known)
    kinds = []
    for device in context.project.devices:
        entry = known.get(device.name)
        if entry is None:
            raise UsageError(
                f"nothing is known of {device.name}: probe it once (`litefleet plan`), or run "
                "`litefleet-agent facts > FILE` on it and name that file with --facts"
            )
        kinds.append(_Kind(device, Facts.from_dict(dict(entry.facts))))
    return kinds


def _described(path: Path) -> _Kind:
    try:
        facts = Facts.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, AgentError) as error:
        raise UsageError(f"{path} is not what `litefleet-agent facts` prints: {error}") from error
    return _Kind(Device(path.stem, path.stem), facts)


async def _releases(context: RolloutContext, kinds: Sequence[_Kind]) -> list[Release]:
    made: dict[str, Release] = {}
    for kind in kinds:
        for model in context.project.models_of(kind.device):
            built = await context.release_builder.release_for(model, kind.device, kind.facts)
            if not built.id:
                raise FindingError(built.findings)
            made[built.id] = built
    return list(made.values())
