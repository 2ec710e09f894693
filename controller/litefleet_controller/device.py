"""One device's way through a run: connect, probe, choose, push, prove, switch on.  A failure is data, never an exception."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from litefleet_agent.arch import arch_of
from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, Severity, Verdict, decide, finding
from litefleet_inventory.model import Device

from .conversation import Conversation, NoPython, Refused, Request
from .errors import FindingError
from .outcome import DeviceOutcome
from .pyz import AgentArchive
from .transport import Transport, TransportError

__all__ = ["Mode", "Supplied", "Supplier", "run_device"]


@dataclass(frozen=True)
class Mode:
    """What a run does on each device once it is probed."""

    stage: bool = True  # push and prove; without it the run ends at the probe
    activate: bool = True  # switch a proven release on
    again: bool = False  # prove anew even where this release was proven in this same environment
    step_limit_s: float = 120.0
    verify_limit_s: float = 300.0


@dataclass(frozen=True)
class Supplied:
    """A release made ready for one kind of device: its manifest, and the files behind its hashes."""

    release: str
    manifest: Mapping[str, Any]
    artifact: str
    blobs: Mapping[str, Path]  # SHA-256 -> file
    runtime_key: str = "system"
    runtime_blob: tuple[str, Path] | None = None
    runtime_size: int = 0  # bytes, unpacked
    findings: tuple[Finding, ...] = ()  # static ones; an error among them means: do not push
    no_runtime: tuple[
        Finding, ...
    ] = ()  # why none could be brought: the device's own is tried, and this said if it has none


class Supplier(Protocol):
    """Makes releases ready; FindingError where none can be made."""

    async def supply(self, model: str, device: Device, facts: Facts) -> Supplied:
        """Return the release of `model` for this device, converted, with its goldens and its runtime."""


Report = Callable[[str, str], None]  # device name, step


@dataclass
class _Record:
    """What is known of one device so far; frozen into outcomes at the end."""

    device: Device
    report: Report
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Finding, ...] = ()
    steps: dict[str, float] = field(default_factory=dict)
    detail: str = ""

    def step(self, name: str) -> None:
        """Begin a step: the time since the last one goes to the step that ends."""
        now = time.monotonic()
        for open_step in [s for s, v in self.steps.items() if v < 0]:
            self.steps[open_step] = round(now + self.steps[open_step], 3)
        if name:
            self.steps[name] = -now
            self.report(self.device.name, name)


async def run_device(
    device: Device,
    models: Sequence[str],
    mode: Mode,
    transport: Transport,
    archive: AgentArchive,
    supplier: Supplier,
    report: Report,
) -> list[DeviceOutcome]:
    """Return one outcome per model (one in all for a probe, or when the device never answered)."""
    record = _Record(device, report)
    done: list[DeviceOutcome] = []
    conversation: Conversation | None = None
    try:
        record.step("connect")
        command, opening = Conversation.opening(archive, device.root, device.python)
        async with transport.open(device, command) as channel:
            conversation = Conversation(channel)
            record.step("probe")
            hello = await conversation.start(opening, archive, mode.step_limit_s)
            facts = _learn(record, hello)
            if not mode.stage:
                return [_outcome(record, "", list(record.notes), conversation)]
            for model in models:
                done.append(await _one_model(model, facts, hello, mode, conversation, supplier, record))
            return done
    except NoPython as error:
        found = _without_python(device, error.facts)
        record.facts = {"machine": error.facts.get("machine", ""), "sh": dict(error.facts)}
    except (TransportError, Refused) as error:  # Refused: the very first request
        found = [error.found]
    except AgentError as error:  # ProtocolError, or facts that are none
        found = [finding("LF507", f"{device.name}: {error}")]
    rest = [m for m in models if m not in {o.model for o in done}]
    return done + [_outcome(record, model, found, conversation) for model in rest]


def _learn(record: _Record, hello: Mapping[str, Any]) -> Facts:
    facts = Facts.from_dict(hello.get("facts"))
    record.facts = facts.to_dict()
    expected = arch_of(record.device.arch) if record.device.arch else None
    if expected is not None and expected.name != facts.arch:
        seen = f"the inventory says {expected.name}, the device is {facts.arch or facts.machine}"
        record.notes = (finding("LF314", seen),)
    return facts


def _without_python(device: Device, facts: Mapping[str, str]) -> list[Finding]:
    machine = facts.get("machine", "an unknown machine")
    libc, system = facts.get("libc", "unknown"), facts.get("os") or "unknown system"
    where = f" (and not at {device.python})" if device.python else ""
    found = [finding("LF301", f"no Python 3.7 or later on PATH{where}; sh reports {machine}, libc {libc}, {system}")]
    if arch_of(machine) is None:
        found.insert(0, finding("LF303", f"this device is {machine}"))
    return found


async def _one_model(
    model: str,
    facts: Facts,
    hello: Mapping[str, Any],
    mode: Mode,
    conversation: Conversation,
    supplier: Supplier,
    record: _Record,
) -> DeviceOutcome:
    """Choose, push and prove one model; what goes wrong with it is its own outcome."""
    if not facts.arch:
        return _outcome(record, model, [finding("LF303", f"this device is {facts.machine}")], conversation)
    record.step("prepare")
    try:
        supplied = await supplier.supply(model, record.device, facts)
    except FindingError as error:
        return _outcome(record, model, list(error.findings), conversation)
    findings = [*record.notes, *supplied.findings]
    outcome = _outcome(record, model, findings, conversation, release=supplied.release, artifact=supplied.artifact)
    if outcome.verdict is not Verdict.VERIFIED:
        return outcome
    if not mode.again and (proof := _proof(hello, model, supplied.release, mode.activate)) is not None:
        return replace(
            outcome, unchanged=True, activated=mode.activate, measurements=_mapping(proof.get("measurements"))
        )
    if (short := _space(facts, hello, supplied)) is not None:
        return _outcome(
            record, model, [*findings, short], conversation, release=supplied.release, artifact=supplied.artifact
        )
    try:
        return await _push_and_prove(outcome, findings, supplied, hello, mode, conversation, record)
    except Refused as error:
        return _outcome(record, model, [*findings, error.found], conversation, supplied.release, supplied.artifact)


async def _push_and_prove(
    outcome: DeviceOutcome,
    findings: list[Finding],
    supplied: Supplied,
    hello: Mapping[str, Any],
    mode: Mode,
    conversation: Conversation,
    record: _Record,
) -> DeviceOutcome:
    record.step("push and prove")
    requests = [*_pushes(hello, supplied), Request("release", {"manifest": supplied.manifest})]
    requests.append(Request("verify", {"release": supplied.release}))
    proof = (await conversation.ask(requests, max(mode.step_limit_s, mode.verify_limit_s)))[-1]
    findings = _told(findings, proof.get("findings"), supplied)
    if decide(findings) is Verdict.VERIFIED and proof.get("verified") is not True:
        findings.append(finding("LF900", "the agent did not say that the model was proven, and gave no reason"))
    changed = False
    if decide(findings) is Verdict.VERIFIED and mode.activate:
        record.step("activate")
        await conversation.ask([Request("activate", {"release": supplied.release})], mode.step_limit_s)
        changed = True
    record.detail = str(proof.get("detail", ""))[:4000]
    return replace(
        _outcome(record, outcome.model, findings, conversation, supplied.release, supplied.artifact),
        measurements=_mapping(proof.get("measurements")),
        activated=changed,
    )


def _told(findings: list[Finding], told: Any, supplied: Supplied) -> list[Finding]:
    """Return our findings and the device's; where it has no runtime either, ours says what would fit."""
    theirs = [Finding.from_dict(f) for f in (told if isinstance(told, list) else [])[:100]]
    if any(f.code == "LF302" for f in theirs) and supplied.no_runtime:
        theirs = [*supplied.no_runtime, *(f for f in theirs if f.code != "LF302")]
    return list(dict.fromkeys([*findings, *theirs]))


def _pushes(hello: Mapping[str, Any], supplied: Supplied) -> list[Request]:
    """Only what the device lacks travels."""
    there = _mapping(hello.get("blobs"))
    missing = {sha: path for sha, path in supplied.blobs.items() if there.get(sha) != path.stat().st_size}
    requests = []
    runtimes = hello.get("runtimes")
    unpacked = isinstance(runtimes, list) and supplied.runtime_key in runtimes
    if supplied.runtime_blob is not None and not unpacked:
        sha, path = supplied.runtime_blob
        requests.append(Request("put", {"sha256": sha}, path))
        requests.append(Request("runtime", {"key": supplied.runtime_key, "sha256": sha}))
    return requests + [Request("put", {"sha256": sha}, path) for sha, path in missing.items()]


def _space(facts: Facts, hello: Mapping[str, Any], supplied: Supplied) -> Finding | None:
    pushes = _pushes(hello, supplied)
    need = sum(r.size for r in pushes) + (supplied.runtime_size if any(r.op == "runtime" for r in pushes) else 0)
    free = facts.disk.free
    if need and need > free:
        return finding(
            "LF312",
            f"{need / 1e6:.0f} MB would be stored under {hello.get('root')}, where {free / 1e6:.0f} MB are free",
        )
    return None


def _proof(hello: Mapping[str, Any], model: str, release: str, must_be_current: bool) -> Mapping[str, Any] | None:
    """Return the device's record of a proof that still holds: this release, in this very environment."""
    if must_be_current and _mapping(hello.get("current")).get(model) != release:
        return None
    proof = _mapping(_mapping(hello.get("verified")).get(release))
    return proof if proof and proof.get("fingerprint") == hello.get("fingerprint") else None


def _outcome(
    record: _Record,
    model: str,
    findings: Sequence[Finding],
    conversation: Conversation | None,
    release: str = "",
    artifact: str = "",
) -> DeviceOutcome:
    record.step("")
    return DeviceOutcome(
        device=record.device.name,
        model=model,
        verdict=decide(findings),
        findings=tuple(sorted(findings, key=lambda f: f.severity is not Severity.ERROR)),
        facts=record.facts,
        steps=dict(record.steps),
        release=release,
        artifact=artifact,
        sent_bytes=conversation.sent_bytes if conversation else 0,
        round_trips=conversation.round_trips if conversation else 0,
        detail=record.detail,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return what a device sent as a mapping, whatever it was."""
    return value if isinstance(value, dict) else {}
