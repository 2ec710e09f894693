"""The look before a plan: every device is asked what it is and what it runs, and each model's release for it is made ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, Verdict, decide, finding
from litefleet_inventory.model import Device

from ..common.errors import FindingError
from ..devices.deliver import Supplied, fingerprint_of, mapping, open_lease, proof_that_holds, pushes
from ..devices.fan_out import fan_out
from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress
from ..devices.steps import Supplier
from ..devices.visit import Contact, Visit, visit
from ..rollout import DeviceState, Row
from ..state.model import KeptRelease, KnownDevice
from .plan import PlannedDevice
from .release_cache import kind_of, to_kept

Meet = Callable[[Visit], Awaitable[None]]  # what else is done with a device that answered

__all__ = ["Look", "Meet", "Survey", "look_at", "survey"]


@dataclass(frozen=True)
class Look:
    """What one device told, or why it did not."""

    device: Device
    hello: Mapping[str, Any] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    findings: tuple[Finding, ...] = ()  # why it could not be looked at, or what is odd about it
    outcome: DeviceOutcome | None = None  # of the look itself: what it cost
    seen_at: float = 0.0  # of the facts; 0: never

    @property
    def reached(self) -> bool:
        """Whether it answered now."""
        return bool(self.hello)


@dataclass(frozen=True)
class Survey:
    """What the fleet is and what it would get."""

    drafts: tuple[PlannedDevice, ...]  # in the fleet's order, waves not yet assigned
    releases: tuple[KeptRelease, ...]
    known: tuple[KnownDevice, ...]  # what devices told just now
    looks: Mapping[str, Look]
    asides: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)  # by release: why it brings no runtime
    interrupted: bool = False


async def look_at(
    contact: Contact,
    devices: Sequence[Device],
    concurrency: int,
    known: Mapping[str, KnownDevice],
    now: float,
    meet: Meet | None = None,
    per_jump: int = 8,
) -> tuple[dict[str, Look], bool]:
    """Ask every device, at most `concurrency` at once; return what each told, and whether it was interrupted."""
    looks: dict[str, Look] = {}

    async def one(device: Device) -> list[DeviceOutcome]:
        async def work(here: Visit, done: list[DeviceOutcome]) -> None:
            if meet is not None:
                await meet(here)
            done.append(here.outcome("", here.notes))
            looks[device.name] = Look(device, here.hello, here.facts, here.notes, done[0], now)

        outcomes = await visit(contact, device, [""], work)
        if device.name not in looks or outcomes[0].verdict is not Verdict.VERIFIED:
            looks[device.name] = _from_memory(device, known.get(device.name), outcomes[0])
        return outcomes

    _, interrupted = await fan_out(devices, one, concurrency, lambda outcome: None, per_jump)
    for device in devices:
        if device.name not in looks:  # a bug in one look, or Ctrl-C
            found = finding("LF509", f"{device.name} was not asked")
            unasked = DeviceOutcome(device.name, "", Verdict.FAILED, (found,))
            looks[device.name] = _from_memory(device, known.get(device.name), unasked)
    return looks, interrupted


def _from_memory(device: Device, known: KnownDevice | None, outcome: DeviceOutcome) -> Look:
    if known is not None:
        try:
            return Look(device, {}, Facts.from_dict(known.facts), outcome.findings, outcome, known.seen_at)
        except AgentError:  # an older litefleet's facts: as if it had never been met
            pass
    return Look(device, findings=outcome.findings, outcome=outcome)


async def survey(
    contact: Contact,
    wanted: Mapping[Device, Sequence[str]],
    supplier: Supplier,
    concurrency: int,
    known: Mapping[str, KnownDevice],
    progress: Progress,
    now: float,
    meet: Meet | None = None,
    per_jump: int = 8,
) -> Survey:
    """Look at all devices, and make ready what each of them would get; FindingErrors become findings of the device."""
    devices = list(wanted)
    progress.message(f"looking at {len(devices)} device{'s' if len(devices) != 1 else ''}")
    progress.expect(len(devices))
    looks, interrupted = await look_at(contact, devices, concurrency, known, now, meet, per_jump)
    releases: dict[str, KeptRelease] = {}
    pairs = [(device, model) for device in devices for model in wanted[device]]
    positions = {device.name: number for number, device in enumerate(devices)}
    made = await asyncio.gather(*(_prepare(looks[d.name], m, supplier) for d, m in pairs))
    drafts = []
    for (device, model), supplied in zip(pairs, made, strict=True):
        look = looks[device.name]
        drafts.append(_draft(look, model, supplied, positions[device.name]))
        if supplied is not None and supplied.release:
            releases.setdefault(supplied.release, to_kept(supplied, model, device, look.facts))
    told = tuple(
        KnownDevice(name, look.facts.to_dict(), fingerprint_of(look.hello), now)
        for name, look in looks.items()
        if look.reached
    )
    asides = {s.release: s.no_runtime for s in made if s is not None and s.no_runtime}
    return Survey(tuple(drafts), tuple(releases.values()), told, looks, asides, interrupted)


async def _prepare(look: Look, model: str, supplier: Supplier) -> Supplied | None:
    """Return what the device would get, with what speaks against it; None where not even its kind is known."""
    if decide(look.findings) not in (Verdict.VERIFIED, Verdict.UNREACHABLE) or not look.seen_at:
        return None
    if not look.facts.arch:
        return Supplied("", {}, "", {}, findings=(finding("LF303", f"this device is {look.facts.machine}"),))
    try:
        return await supplier.supply(model, look.device, look.facts)
    except FindingError as error:
        return Supplied("", {}, "", {}, findings=error.findings)


def _draft(look: Look, model: str, supplied: Supplied | None, position: int) -> PlannedDevice:
    device, facts = look.device, look.facts
    runs = str(mapping(look.hello.get("current")).get(model, ""))[:64]
    findings = (*look.findings, *(supplied.findings if supplied else ()))
    row = Row(
        device=device.name,
        model=model,
        wave=0,
        position=position,
        state=_state(look, model, supplied, findings),
        part=", ".join(facts.cpu.parts) or facts.machine,
        libc=f"{facts.libc.kind} {facts.libc.version}".strip() if look.seen_at else "",
        runtime=supplied.runtime_key if supplied else "",
        jump=device.jump,
        release=supplied.release if supplied else "",
        artifact=supplied.artifact if supplied else "",
        before=runs,
    )
    errors = [f for f in findings if f.decides]
    if row.state in (DeviceState.BLOCKED, DeviceState.OFFLINE) and errors:
        row = replace(row, verdict=decide(findings), codes=tuple(f.code for f in errors), sentence=errors[0].seen[:500])
    files: tuple[tuple[str, int], ...] = ()
    if supplied is not None and supplied.release and row.state in (DeviceState.PENDING, DeviceState.OFFLINE):
        sent = [r for r in pushes(look.hello, supplied) if r.body is not None]
        files = tuple((str(r.fields["sha256"])[:12], r.size) for r in sent)
    return PlannedDevice(
        row=row,
        reachable=look.reached,
        seen_at=look.seen_at,
        runs=runs,
        runs_artifact="",
        why=_why(look, model, supplied),
        bytes_to_send=sum(size for _, size in files),
        files=files,
        findings=findings,
        facts=facts.to_dict() if look.seen_at else {},
    )


def _state(look: Look, model: str, supplied: Supplied | None, findings: Sequence[Finding]) -> DeviceState:
    verdict = decide(findings)
    if verdict is Verdict.UNREACHABLE or any(f.code in ("LF508", "LF509") for f in look.findings):
        return DeviceState.OFFLINE
    if verdict is not Verdict.VERIFIED or supplied is None:
        return DeviceState.BLOCKED
    current = mapping(look.hello.get("current")).get(model)
    if (
        current == supplied.release
        and proof_that_holds(look.hello, supplied.release) is not None
        and open_lease(look.hello, model) is None
    ):
        return DeviceState.UNCHANGED
    return DeviceState.PENDING


def _why(look: Look, model: str, supplied: Supplied | None) -> str:
    """Return why this file for this device, in one sentence."""
    if supplied is None:
        return "what it is has never been told: its file is chosen at the first contact"
    if not supplied.release:
        return "no release can be made for it"
    about = mapping(supplied.manifest.get("model"))
    variant = mapping(about.get("variant"))
    options = [text for text in ("fp16" if variant.get("fp16") else "", str(variant.get("quant") or "")) if text]
    if look.device.artifact:
        how = f"the file that the inventory hands it ({look.device.artifact})"
    elif variant:
        how = f"converted for {variant.get('target') or look.facts.arch}"
        how += f" with Paddle-Lite {about.get('opt_version', '')}".rstrip() + "".join(f", {o}" for o in options)
    else:
        how = f"the ready-made file for {look.facts.arch}"
    runtime = "its own Paddle-Lite" if supplied.runtime_key == "system" else f"runtime {supplied.runtime_key[:12]}"
    return f"{kind_of(look.facts)}: {how}; {runtime}"
