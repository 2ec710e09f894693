"""Sends a device the files of its next release before its turn: into its store, which nothing runs from.

Only files and unpacked runtimes go there.  The manifest is not sent: with a sealed one the device would accept its number, and
reject the repair of what it runs if the rollout stopped.  So no release refers to these files, and the device's next cleanup
drops them unless they are needed by then.  The device's own turn decides anew what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from litefleet_agent.findings import Finding, Verdict, decide
from litefleet_inventory.model import Device

from ..common.checked import mapping_or_empty, sequence_or_empty
from ..common.errors import FindingError
from ..rollout.policy import Keep
from .agent_client import RequestRejected
from .deliver import bytes_to_store, old_agent_findings, pushes, room_request, space_finding, with_files
from .outcome import DeviceOutcome
from .release import Release
from .sending import made_there, smallest
from .steps import HelloCheck, ReleaseProvider
from .visit import DeviceSession, SessionFactory, open_session

_MOST_KEPT = 1000  # releases of a model, as the agent has it


async def prepare_device(
    device: Device,
    models: Sequence[str],
    keep: Keep,
    limit_s: float,
    session_factory: SessionFactory,
    provider: ReleaseProvider,
    check_hello: HelloCheck,
) -> list[DeviceOutcome]:
    """Return one outcome per model; one that is verified says that all its files are on the device.

    `limit_s`: seconds for each answer, beside the time that its size takes.  No release that was proven there is dropped.
    """

    async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
        if decide(found := check_hello(session.hello)) is not Verdict.VERIFIED:
            done.extend(session.outcome(model, found) for model in models)
            return
        chosen: list[Release] = []
        for model in models:
            built, findings = await _release(session, provider, model)
            if decide(findings) is Verdict.VERIFIED:
                chosen.append(built)
            else:
                done.append(session.outcome(model, findings))
        await _make_room(session, chosen, keep)
        for built in chosen:
            done.append(await _bring(session, built, limit_s))

    return await open_session(session_factory, device, models, work)


async def _release(
    session: DeviceSession, provider: ReleaseProvider, model: str
) -> tuple[Release, tuple[Finding, ...]]:
    """Return a model's release for this device, and what keeps it from being sent."""
    try:
        built = await provider.release_for(model, session.device, session.facts)
    except FindingError as error:
        return Release(), tuple(error.findings)
    return built, (*built.findings, *old_agent_findings(session.hello, built))


async def _make_room(session: DeviceSession, chosen: Sequence[Release], keep: Keep) -> None:
    """Let a device with a quota say whether the files fit: it knows what it uses.  Raises RequestRejected where they do not."""
    missing = [built for built in chosen if pushes(session.hello, built)]
    if keep.quota_mb is None or not missing:
        return
    proven = [str(r) for kept in mapping_or_empty(session.hello.get("kept")).values() for r in sequence_or_empty(kept)]
    fixed = keep.model_copy(update={"pinned": (*keep.pinned, *proven), "releases": _MOST_KEPT})
    files = {sha for built in chosen for sha in built.files}
    request = room_request(session.hello, missing[0], fixed, files)
    need = sum(bytes_to_store(session.hello, built) for built in missing)
    await session.ask(replace(request, fields={**request.fields, "bytes": need}))


async def _bring(session: DeviceSession, built: Release, limit_s: float) -> DeviceOutcome:
    """Send what the device lacks of a release."""
    if (short := space_finding(session.facts, session.hello, built)) is not None:
        return session.outcome(built.model, [short])
    session.step("send ahead")
    try:
        await made_there(session, built, [], limit_s)
        if requests := await smallest(session, built, pushes(session.hello, built)):
            await session.ask(*requests, limit_s=limit_s)
    except RequestRejected as error:
        return session.outcome(built.model, [error.found])
    session.hello = with_files(session.hello, built)
    return session.outcome(built.model, (), built.id)
