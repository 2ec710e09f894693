"""The survey before a plan: probes every device, and builds each model's release for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding, Verdict, decide, finding
from litefleet_agent.formats.checked import shortened
from litefleet_inventory.model import Device

from ..common.checked import mapping_or_empty
from ..common.errors import FindingError
from ..common.text import sanitize
from ..devices.deliver import (
    deltas,
    fingerprint_of,
    kind_of,
    old_agent_findings,
    open_lease,
    packed,
    pushes,
    space_beforehand,
    valid_proof,
)
from ..devices.fan_out import in_order, run_bounded
from ..devices.outcome import DeviceOutcome, unexpected
from ..devices.progress import Progress
from ..devices.release import Release
from ..devices.shared_facts import FactsForm, shared_facts
from ..devices.steps import ReleaseProvider
from ..devices.visit import DeviceSession, SessionFactory, open_session
from ..rollout import DeviceRow, DeviceState
from ..state.model import KnownDevice
from .plan import PlannedDevice

OnDevice = Callable[[DeviceSession], Awaitable[None]]  # extra step run on each device that answered


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one device reported, or why it did not."""

    device: Device
    hello: Mapping[str, object] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    findings: tuple[Finding, ...] = ()  # why it could not be probed, or what is unusual about it
    outcome: DeviceOutcome | None = None  # of the probe itself: its cost
    seen_at: float = 0.0  # of the facts; 0: never
    host_key: str = ""  # the fingerprint of its SSH host key, when it answered now
    stored: bool = False  # `hello` is made from the state: the device was not asked

    @property
    def facts_form(self) -> Mapping[str, object]:
        """The facts' JSON form."""
        return FactsForm(self.facts)

    @property
    def reached(self) -> bool:
        """Whether it answered now."""
        return bool(self.hello)


@dataclass(frozen=True)
class FleetSurvey:
    """The fleet's devices and the releases they would get."""

    drafts: tuple[PlannedDevice, ...]  # in the fleet's order, waves not yet assigned
    releases: tuple[Release, ...]
    known: tuple[KnownDevice, ...]  # what devices reported just now
    probes: Mapping[str, ProbeResult]
    # By release: why it brings no runtime
    runtime_findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    interrupted: bool = False


async def probe_devices(
    session_factory: SessionFactory,
    devices: Sequence[Device],
    concurrency: int,
    known: Mapping[str, KnownDevice],
    now: float,
    on_device: OnDevice | None = None,
    per_jump: int = 8,
) -> tuple[dict[str, ProbeResult], bool]:
    """Probe every device, at most `concurrency` at once; return the results by name, and whether Ctrl-C interrupted them."""
    probes: dict[str, ProbeResult] = {}

    async def one(device: Device) -> list[DeviceOutcome]:
        async def work(session: DeviceSession, done: list[DeviceOutcome]) -> None:
            if on_device is not None:
                await on_device(session)
            done.append(session.outcome("", session.notes))
            probes[device.name] = ProbeResult(
                device, session.hello, session.facts, session.notes, done[0], now, session.host_key
            )

        outcomes = await open_session(session_factory, device, [""], work, keep=True)
        if device.name not in probes or outcomes[0].verdict is not Verdict.VERIFIED:
            probes[device.name] = _from_memory(device, known.get(device.name), outcomes[0])
        return outcomes

    _, interrupted = await run_bounded(devices, one, concurrency, lambda outcome: None, per_jump)
    for names, found in same_machines(probes):
        for name in names:
            probes[name] = replace(probes[name], findings=(*probes[name].findings, found))
    for device in devices:
        if device.name not in probes:  # Ctrl-C
            found = finding("LF509", f"{device.name} was not asked")
            unasked = DeviceOutcome(device.name, "", Verdict.FAILED, (found,))
            probes[device.name] = _from_memory(device, known.get(device.name), unasked)
    return probes, interrupted


def same_machines(probes: Mapping[str, ProbeResult]) -> list[tuple[list[str], Finding]]:
    """Return LF513 for each host key that several devices have shown, with their names."""
    shown: dict[str, list[str]] = {}
    for name, probe in probes.items():
        if probe.host_key:
            shown.setdefault(probe.host_key, []).append(name)
    found = []
    for key, names in shown.items():
        if len(names) > 1:
            boots = {str(probes[name].hello.get("boot", name)) for name in names}
            what = "and the same boot: one machine under several names" if len(boots) == 1 else "and started separately"
            found.append((names, finding("LF513", f"{', '.join(names[:10])} show the same host key {key}, {what}")))
    return found


def _from_memory(device: Device, known: KnownDevice | None, outcome: DeviceOutcome) -> ProbeResult:
    if known is not None:
        try:
            return ProbeResult(
                device, {}, shared_facts(Facts.from_dict(dict(known.facts))), outcome.findings, outcome, known.seen_at
            )
        except AgentError:  # an older litefleet's facts: as if it had never been met
            pass
    return ProbeResult(device, findings=outcome.findings, outcome=outcome)


async def survey_fleet(
    session_factory: SessionFactory,
    wanted: Mapping[Device, Sequence[str]],
    provider: ReleaseProvider,
    concurrency: int,
    known: Mapping[str, KnownDevice],
    progress: Progress,
    now: float,
    on_device: OnDevice | None = None,
    per_jump: int = 8,
) -> FleetSurvey:
    """Probe all devices, and build the releases that they would get; FindingErrors become findings of the device."""
    devices = list(wanted)
    progress.message(f"probing {len(devices)} device{'s' if len(devices) != 1 else ''}")
    progress.expect(len(devices))
    probes, interrupted = await probe_devices(session_factory, devices, concurrency, known, now, on_device, per_jump)
    reported = tuple(
        KnownDevice(name, probe.facts_form, fingerprint_of(probe.hello), now, probe.host_key)
        for name, probe in probes.items()
        if probe.reached
    )
    report_replaced(known, reported, progress)
    survey = await survey_probes(probes, wanted, provider)
    return replace(survey, known=reported, interrupted=interrupted)


async def survey_probes(
    probes: Mapping[str, ProbeResult], wanted: Mapping[Device, Sequence[str]], provider: ReleaseProvider
) -> FleetSurvey:
    """Build the releases that devices would get, by what is known of them; FindingErrors become findings of the device."""
    devices, releases = list(wanted), dict[str, Release]()
    pairs = [(device, model) for device in devices for model in wanted[device]]
    positions = {device.name: number for number, device in enumerate(devices)}
    planned = await in_order(
        pairs, lambda pair: _plan_one(probes[pair[0].name], pair[1], provider, positions[pair[0].name])
    )
    for _, built in planned:
        if built is not None and built.id:
            releases.setdefault(built.id, built)
    runtime_findings = {built.id: built.no_runtime for _, built in planned if built is not None and built.no_runtime}
    drafts = tuple(draft for draft, _ in planned)
    return FleetSurvey(drafts, tuple(releases.values()), (), probes, runtime_findings)


def report_replaced(known: Mapping[str, KnownDevice], reported: Sequence[KnownDevice], progress: Progress) -> None:
    """Report devices that show another host key than when they were last seen, for example after they were replaced."""
    for device in reported:
        before = known[device.device].host_key if device.device in known else ""
        if before and device.host_key not in ("", before):
            progress.message(
                f"{device.device} shows the host key {device.host_key}, and showed {before} before: it was replaced or "
                "reinstalled, if nobody changed its keys; a rollout or `litefleet reconcile --repair` sends what it lacks"
            )


async def _plan_one(
    probe: ProbeResult, model: str, provider: ReleaseProvider, position: int
) -> tuple[PlannedDevice, Release | None]:
    """Return the device as planned, and its release; a bug blocks this device alone."""
    try:
        built, notes = await _prepare(probe, model, provider)
        return _draft(probe, model, built, position, notes), built
    except Exception as error:
        bug = unexpected(probe.device.name, model, error)
        without = ProbeResult(probe.device, findings=bug.findings, outcome=bug)
        return _draft(without, model, None, position), None


async def _prepare(
    probe: ProbeResult, model: str, provider: ReleaseProvider
) -> tuple[Release | None, tuple[Finding, ...]]:
    """Return the release for the device, with findings against it, and notes of this device alone: the release is shared.

    None where the device's kind is unknown.
    """
    if decide(probe.findings) not in (Verdict.VERIFIED, Verdict.UNREACHABLE) or not probe.seen_at:
        return None, ()
    if not probe.facts.arch:
        return Release(findings=(finding("LF303", f"this device is {probe.facts.machine}"),)), ()
    try:
        built = await provider.release_for(model, probe.device, probe.facts)
    except FindingError as error:
        return Release(findings=error.findings), ()
    against = _refusals_beforehand(probe, model, built)
    if any(found.decides for found in against):
        return Release(artifact=built.artifact, findings=(*against, *built.findings)), ()
    return built, against


def _refusals_beforehand(probe: ProbeResult, model: str, built: Release) -> tuple[Finding, ...]:
    """Return what a device that answers would refuse the release for: LF313 rights, LF302 no runtime, LF312 space."""
    hello, facts = probe.hello, probe.facts
    if not probe.reached or not built.id or mapping_or_empty(hello.get("current")).get(model) == built.id:
        return ()
    if not facts.writable:
        root = shortened(str(hello.get("root") or "the agent's root"), 200)
        return (finding("LF313", f"{root} cannot be written or created on {probe.device.name}"),)
    if built.runtime_key == "system" and not facts.paddlelite.path:
        python = sanitize(facts.python.executable) or "the device's Python"
        return built.no_runtime or (finding("LF302", f"No paddlelite package is installed for {python}."),)
    short = space_beforehand(facts, hello, built)
    return (short,) if short is not None else ()


def _draft(
    probe: ProbeResult, model: str, built: Release | None, position: int, notes: tuple[Finding, ...] = ()
) -> PlannedDevice:
    device, facts = probe.device, probe.facts
    runs = str(mapping_or_empty(probe.hello.get("current")).get(model, ""))[:64]
    findings = (*probe.findings, *(built.findings if built else ()))
    findings += old_agent_findings(probe.hello, built) if built and probe.reached and not probe.stored else ()
    findings += notes
    row = DeviceRow(
        device=device.name,
        model=model,
        wave=0,
        position=position,
        state=_state(probe, model, built, findings),
        part=", ".join(facts.cpu.parts) or facts.machine,
        libc=facts.libc_words if probe.seen_at else "",
        runtime=built.runtime_key if built else "",
        jump=device.jump,
        release=built.id if built else "",
        artifact=built.artifact if built else "",
        before=runs,
    )
    errors = [f for f in findings if f.decides]
    if row.state in (DeviceState.BLOCKED, DeviceState.OFFLINE, DeviceState.FAILED) and errors:
        row = replace(
            row,
            verdict=decide(findings),
            codes=tuple(f.code for f in errors),
            sentence=shortened(errors[0].observed, 500),
        )
    files: tuple[tuple[str, int], ...] = ()
    saved = 0
    if built is not None and built.id and row.state in (DeviceState.PENDING, DeviceState.OFFLINE):
        sent = [r for r in pushes(probe.hello, built) if r.body is not None]
        smaller = [*packed(probe.hello, probe.facts.disk, built, sent), *deltas(probe.hello, built)]
        made = {r.fields["sha256"]: r.size for r in smaller}
        files = tuple((str(r.fields["sha256"])[:12], made.get(r.fields["sha256"], r.size)) for r in sent)
        saved = sum(r.size for r in sent) - sum(size for _, size in files)
    return PlannedDevice(
        row=row,
        reachable=probe.reached,
        seen_at=probe.seen_at,
        runs=runs,
        runs_artifact="",
        why=_why(probe, model, built),
        bytes_to_send=sum(size for _, size in files),
        bytes_saved=saved,
        files=files,
        findings=findings,
        facts=probe.facts_form if probe.seen_at else {},
        outputs=built.outputs if built else (),
        golden=built.golden if built else "",
        stored=probe.stored,
        # What the state keeps of a device does not say it; the agent that it gets at a contact does.
        shares=probe.hello.get("neighbours") is True or probe.stored,
    )


def _state(probe: ProbeResult, model: str, built: Release | None, findings: Sequence[Finding]) -> DeviceState:
    if probe.stored and not probe.seen_at:
        return DeviceState.PENDING
    verdict = decide(findings)
    if verdict is Verdict.UNREACHABLE or any(f.code in ("LF508", "LF509") for f in probe.findings):
        return DeviceState.OFFLINE
    if verdict is Verdict.FAILED and not probe.reached and all(f.code != "LF900" for f in probe.findings):
        return DeviceState.FAILED  # a refused login, another host key: it lasts until a person mends it
    if verdict is not Verdict.VERIFIED or built is None:
        return DeviceState.BLOCKED
    current = mapping_or_empty(probe.hello.get("current")).get(model)
    if (
        current == built.id
        and valid_proof(probe.hello, built.id) is not None
        and open_lease(probe.hello, model) is None
    ):
        return DeviceState.UNCHANGED
    return DeviceState.PENDING


def _why(probe: ProbeResult, model: str, built: Release | None) -> str:
    """Return why this file for this device, in one sentence."""
    if built is None:
        return "its facts are unknown: its file is chosen at the first contact"
    if not built.id:
        return "no release can be made for it"
    about = mapping_or_empty(built.manifest.get("model"))
    variant = mapping_or_empty(about.get("variant"))
    options = [text for text in ("fp16" if variant.get("fp16") else "", str(variant.get("quant") or "")) if text]
    if probe.device.artifact:
        how = f"the file that the inventory hands it ({probe.device.artifact})"
    elif variant:
        how = f"converted for {variant.get('target') or probe.facts.arch}"
        how += f" with Paddle-Lite {about.get('opt_version', '')}".rstrip() + "".join(f", {o}" for o in options)
    else:
        how = f"the ready-made file for {probe.facts.arch}"
    runtime = "its own Paddle-Lite" if built.runtime_key == "system" else f"runtime {built.runtime_key[:12]}"
    runtime += f" ({built.runtime_words})" if built.runtime_words else ""
    runtime += f"; asked of it: {built.asked}" if built.asked else ""
    own = probe.facts.brought.own_libc
    brought = f" (brought; the system has {own})" if own else ""
    return f"{kind_of(probe.facts)}{brought}: {how}; {runtime}"
