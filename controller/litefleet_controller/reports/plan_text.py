"""Writes a plan for a terminal: waves, changes by groups of like devices, blocked and offline devices, limits, gates.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from litefleet_agent.findings import Severity

from ..catalogue.translate import tr, translated, translated_sentence
from ..common.text import LINE_LIMIT, sanitize
from ..devices.outcome import release_name
from ..rollout.policy import GateLimit, Policy, Regression, Share
from ..rollout_engine.plan import Plan, PlannedDevice, SiteTraffic
from .grouping import folded
from .terminal import Page, counted, finding_labels, plural
from .values import human_bytes, human_moment, human_span


def percent(share: Share) -> str:
    """Return 0.1 as "10%"."""
    return f"{share * 100:g}%"


def limit_lines(policy: Policy) -> list[tuple[str, str]]:
    """Return (name, sentence) for each limit of speed and time in a policy."""
    lines = [
        ("speed", _speed(policy)),
        ("lease", f"{human_span(policy.lease)}; a device reverts without a confirmation"),
    ]
    if policy.soak:
        lines.append(("soak", f"{human_span(policy.soak)} after each wave, then its devices are checked again"))
    if policy.prepare_next:
        lines.append(("next wave", _prepared(policy)))
    if policy.approve:
        lines.append(("approval", _approval(policy)))
    if policy.windows:
        lines.append(("windows", f"devices start {'; '.join(policy.windows)} ({policy.timezone})"))
    retry = policy.retry
    tries = f"after {human_span(retry.first)}, then at growing intervals up to {human_span(retry.longest)}"
    lines.append(("offline", f"retried {tries}; given up after {human_span(retry.give_up_after)}"))
    return [*lines, ("kept", _kept(policy))]


def gate_lines(policy: Policy) -> list[tuple[str, str]]:
    """Return (name, sentence) for each gate, also for gates without a limit."""
    gates = policy.gates
    return [
        ("first wave", _gate(gates.canary, "failed in the first wave", "of the first wave failed")),
        ("each wave", _gate(gates.wave, "failed in one wave", "of a wave failed")),
        ("all", _gate(gates.total, "failed in all", "of all devices failed")),
        (
            "one cause",
            _gate(gates.cluster, "of one CPU part failed alike", "of the devices of one CPU part failed alike"),
        ),
        ("regression", _regression(gates.regression)),
    ]


def _speed(policy: Policy) -> str:
    at_once = (
        f"{plural(policy.parallel, 'device')} at once"
        if policy.parallel
        else "as many devices at once as ssh.concurrency allows"
    )
    minute = f", at most {policy.per_minute} started per minute" if policy.per_minute else ""
    return f"{at_once}, {policy.per_jump_host} behind one jump host{minute}"


def _approval(policy: Policy) -> str:
    if isinstance(policy.approve, bool):
        return "a person approves after every wave"
    waves = ", ".join(str(wave) for wave in policy.approve)
    return f"a person approves after wave{'' if len(policy.approve) == 1 else 's'} {waves}"


def _prepared(policy: Policy) -> str:
    if policy.approve and policy.prepare_next is True:
        return "its files are sent while a wave is tried, not before an approval; nothing is activated before its turn"
    return "its files are sent while a wave is tried; nothing is activated before its turn"


def _kept(policy: Policy) -> str:
    keep = policy.keep
    quota = f", at most {keep.quota_mb:g} MiB in all" if keep.quota_mb else ""
    pinned = f" and {plural(len(keep.pinned), 'pinned release')}" if keep.pinned else ""
    return (
        f"the current and the previous release, {plural(keep.releases, 'further release')} of each model{pinned}{quota}"
    )


def _gate(gate: GateLimit, counted: str, shared: str) -> str:
    limits = [f"{plural(gate.count, 'device')} {counted}"] if gate.count else []
    limits += [f"more than {percent(gate.share)} {shared}"] if gate.share else []
    return f"{gate.then} when {' or '.join(limits)}" if limits else "no limit: this gate never stops the rollout"


def _regression(gate: Regression) -> str:
    grown = [f"fastest run +{percent(gate.latency)}"] if gate.latency else []
    grown += [f"peak memory +{percent(gate.memory)}"] if gate.memory else []
    if not grown:
        return "no comparison with the previous release"
    stop = f"; {gate.then} at {plural(gate.count, 'such device')}" if gate.count else ""
    return f"above {' or '.join(grown)} a device does not activate the release{stop}"


_STYLES = {
    "changes": "green",
    "unchanged": "dim",
    "failed": "red",
    "blocked": "yellow",
    "offline": "red",
    "unknown": "yellow",
}
WORDS = {**{effect: effect for effect in _STYLES}, "changes": "to change"}
_OUTPUTS = 20  # outputs shown of one model
_GROUPS = 60  # groups of like devices shown
_SITES = 40  # sites shown
_NAMES = 40  # names or ranges shown of one group
_REASONS = 10  # different reasons shown for offline devices


@dataclass(frozen=True)
class Group:
    """Devices with the same change for the same reason."""

    members: tuple[PlannedDevice, ...]

    @property
    def names(self) -> list[str]:
        """The devices."""
        return [p.row.device for p in self.members]

    @property
    def size(self) -> str:
        """What each device receives, in the language of messages: "571 kB each", or the smallest and the largest size."""
        sizes = [p.bytes_to_send for p in self.members]
        least, most = human_bytes(min(sizes)), human_bytes(max(sizes))
        if max(sizes) == 0:
            return translated("nothing to send")
        each = " each" if len(sizes) > 1 else ""
        size = translated(f"{least}{each}" if least == most else f"{least} to {most} each")
        saved = sum(p.bytes_saved for p in self.members) // len(sizes)
        copied = tr("{size} ({saved} more copied from files there)", size=size, saved=human_bytes(saved))
        return copied if saved else size


def plan_text(plan: Plan, width: int = 100, color: bool = False) -> str:
    """Return the plan for a terminal `width` columns wide; with `color` it holds ANSI colours, else none."""
    page = Page(width, color)
    _head(page, plan)
    if plan.waves:
        _waves(page, plan)
    _sites(page, plan)
    _changes(page, plan)
    _unchanged(page, plan)
    _outputs(page, plan)
    _findings(page, plan)
    _offline(page, plan)
    _unknown(page, plan)
    _limits(page, plan)
    return page.text


def short_release(release: str, version: str = "") -> str:
    """Return a release's version and the first twelve digits of its id; "nothing" for none."""
    return sanitize(release_name(release, version), 120)


def _head(page: Page, plan: Plan) -> None:
    devices = len({p.row.device for p in plan.devices})
    models = ", ".join(sanitize(model, 60) for model in plan.models) or "no model"
    sent = f"{human_bytes(plan.bytes_total)} to send"
    title = f"Plan for fleet {sanitize(plan.fleet, 64)}"
    page.line(
        (title, "bold"),
        f": {plural(devices, 'device')}, {models}, {translated(sent)}",
        (f"   ({plan.created_at})", "dim"),
    )
    parts: list[str | tuple[str, str]] = []
    for effect, count in plan.counts.items():
        parts += [" · " if parts else "", (counted(count, WORDS[effect]), _STYLES[effect])]
    page.line(*(parts or ["no devices"]))
    if plan.offline:
        page.line(based_on(plan))
        page.line("Only a preview: `litefleet rollout` asks every device, and plans by what it answers.")


def based_on(plan: Plan) -> str:
    """Return what an offline plan was made from, in English."""
    seen = plan.seen
    if seen is None:
        return "Offline: no device was asked, and the state knows none of them."
    return f"Offline: no device was asked. What they reported was seen from {human_moment(seen[0])} to {human_moment(seen[1])}."


def _waves(page: Page, plan: Plan) -> None:
    page.heading("Waves")
    fleet_kinds = {p.row.stratum for p in plan.devices if p.row.known and p.effect == "changes"}
    rows = []
    for index, wave in enumerate(plan.waves):
        members = plan.in_wave(index)
        kinds = {p.row.stratum for p in members if p.row.known}
        sent = human_bytes(sum(p.bytes_to_send for p in members))
        shown = f"{len(kinds)} of {len(fleet_kinds | kinds)}"
        rows.append((str(index + 1), f"{wave.size:,}", shown, sent, sanitize(wave.spec, 120)))
    page.table(("wave", "devices", "kinds", "to send", "which"), rows, left=("which",))


SITE_COLUMNS = ("name", "kind", "devices", "over its line", "without the site cache")


def site_row(site: SiteTraffic) -> tuple[str, ...]:
    """Return what a site's line carries, in the order of `SITE_COLUMNS`, in English."""
    kind = "jump host" if site.kind == "jump" else "group"
    sizes = human_bytes(site.bytes_to_send), human_bytes(site.bytes_without)
    return sanitize(site.name, 80), kind, f"{site.devices:,}", *sizes


def _sites(page: Page, plan: Plan) -> None:
    if plan.sites:
        page.heading("Sites", "large files travel there once, then from neighbour to neighbour")
        page.table(SITE_COLUMNS, [site_row(site) for site in plan.sites[:_SITES]], left=SITE_COLUMNS[:2])
    if plan.sites[_SITES:]:
        page.line(f"and {plural(len(plan.sites) - _SITES, 'more site')}")


def alike(planned: Sequence[PlannedDevice]) -> list[Group]:
    """Group devices with the same change; the largest group first."""
    groups: dict[tuple[str, ...], list[PlannedDevice]] = {}
    for p in planned:
        row = p.row
        key = (row.model, p.runs, p.runs_artifact, row.release, row.artifact, row.runtime, p.why)
        groups.setdefault(key, []).append(p)
    return [Group(tuple(members)) for members in sorted(groups.values(), key=lambda m: -len(m))]


def _changes(page: Page, plan: Plan) -> None:
    changing = [p for p in plan.devices if p.effect == "changes"]
    if not changing:
        return
    page.heading("Changes")
    groups = alike(changing)
    for group in groups[:_GROUPS]:
        _change(page, group)
    if len(groups) > _GROUPS:
        rest = [name for group in groups[_GROUPS:] for name in group.names]
        page.line(f"and {plural(len(groups) - _GROUPS, 'more group')}: {folded(rest, _NAMES)}", indent=2)


def _change(page: Page, group: Group) -> None:
    first = group.members[0]
    row, model = first.row, sanitize(first.row.model, 60)
    waves = sorted({p.row.wave + 1 for p in group.members})
    numbers = ", ".join(map(str, waves))
    which = tr("waves {numbers}", numbers=numbers) if waves[1:] else tr("wave {number}", number=numbers)
    about = tr("{waves}, {size}", waves=which, size=group.size)
    page.line((plural(len(group.members), "device"), "bold"), (f"   {about}", "dim"), indent=2)
    page.line((f"-  {model} {side(first.runs, first.runs_version, first.runs_artifact)}", "red"), indent=4)
    page.line((f"+  {model} {side(row.release, first.version, row.artifact, row.runtime)}", "green"), indent=4)
    if first.why:
        page.field("why", sanitize(first.why, LINE_LIMIT), 7, 4)
    page.field("devices", folded(group.names, _NAMES), 7, 4)


def side(release: str, version: str, artifact: str, runtime: str = "") -> str:
    """Return one side of a difference: release, file, runtime."""
    parts = [f"file {sanitize(artifact[:12], 12)}"] if artifact else []
    parts += [f"runtime {sanitize(runtime, 40)}"] if runtime else []
    return short_release(release, version) + (f"   {', '.join(parts)}" if parts else "")


def _unchanged(page: Page, plan: Plan) -> None:
    same = [p for p in plan.devices if p.effect == "unchanged"]
    if not same:
        return
    page.heading("Unchanged", "already run this release, verified in the same environment")
    by_release: dict[tuple[str, str, str], list[str]] = {}
    for p in same:
        by_release.setdefault((p.row.model, p.row.release, p.version), []).append(p.row.device)
    for (model, release, version), names in by_release.items():
        page.line(f"{sanitize(model, 60)} {short_release(release, version)}: {folded(names, _NAMES)}", indent=2)


def _outputs(page: Page, plan: Plan) -> None:
    """Print for each model how its outputs are compared, and what its golden can tell."""
    described = {p.row.model: p for p in reversed(plan.devices) if p.outputs}
    if not described:
        return
    page.heading("Comparison", "how a device's outputs are compared with the golden")
    for model in (model for model in plan.models if model in described):
        page.line((sanitize(model, 60), "bold"), indent=2)
        for output in described[model].outputs[:_OUTPUTS]:
            name, kind, why = (sanitize(output.get(key, ""), 200) for key in ("name", "compare", "why"))
            page.line(f"{name} as {kind}: {why}", indent=4)
        page.field("golden", sanitize(described[model].golden, 1000), 6, 4)


def _findings(page: Page, plan: Plan) -> None:
    """Print failed and blocked devices by their findings, then the other findings."""
    failed = [p for p in plan.devices if p.effect == "failed"]
    if failed:
        page.heading("Failed", "no session can start until a person mends this; gates count them")
        page.findings((p.row.device, f) for p in failed for f in p.findings if f.severity is Severity.ERROR)
    blocked = [p for p in plan.devices if p.effect == "blocked"]
    if blocked:
        page.heading("Blocked", "nothing is sent to them; gates do not count them")
        page.findings((p.row.device, f) for p in blocked for f in p.findings if f.severity is Severity.ERROR)
        for p in blocked:
            if not any(f.severity is Severity.ERROR for f in p.findings):
                reason = sanitize(p.row.sentence or p.why, LINE_LIMIT) or "no reason was reported"
                page.line(f"{sanitize(p.row.device, 80)}: {reason}", indent=2)
    others = [(p.row.device, f) for p in plan.devices for f in p.findings if not _counted(p, f.severity)]
    if others:
        page.heading("Warnings and notes")
        page.findings(others)


def _counted(planned: PlannedDevice, severity: Severity) -> bool:
    """Whether another section shows this finding already."""
    return planned.effect == "offline" or (planned.effect in ("failed", "blocked") and severity is Severity.ERROR)


def _offline(page: Page, plan: Plan) -> None:
    away = [p for p in plan.devices if p.effect == "offline"]
    if not away:
        return
    page.heading("Offline", "queued until they answer; gates do not count them")
    by_day: dict[str, list[str]] = {}
    for p in sorted(away, key=lambda p: -p.seen_at):
        seen = f"last seen {human_moment(p.seen_at)[:10]}" if p.seen_at else "never seen"
        by_day.setdefault(seen, []).append(p.row.device)
    for seen, names in by_day.items():
        page.line(f"{seen}: {folded(names, _NAMES)}", indent=2)
    reasons: dict[str, list[str]] = {}
    for p in away:
        text = next((f.observed for f in p.findings if f.severity is Severity.ERROR), p.row.sentence)
        reasons.setdefault(sanitize(text, LINE_LIMIT), []).append(p.row.device)
    for text, names in list(reasons.items())[:_REASONS]:
        if text:
            page.field(finding_labels()[0], f"{translated_sentence(text)} — {folded(names, _NAMES)}")


def _unknown(page: Page, plan: Plan) -> None:
    if plan.never_seen:
        page.heading("Unknown", "never seen: a rollout finds out what they are")
        page.line(folded(plan.never_seen, _NAMES), indent=2)


def _limits(page: Page, plan: Plan) -> None:
    page.heading("Limits")
    for name, text in limit_lines(plan.policy):
        page.field(name, sanitize(text, LINE_LIMIT), 10)
    page.heading("Gates")
    for name, text in gate_lines(plan.policy):
        page.field(name, text, 10)
