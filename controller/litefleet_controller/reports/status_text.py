"""Writes stored rollouts and devices' histories for a terminal and as JSON.  Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from litefleet_agent.findings import CATALOGUE, Severity

from ..catalogue.translate import translated, translated_cell, translated_sentence
from ..common.checked import sequence_or_empty
from ..common.text import LINE_LIMIT, json_ready, sanitize
from ..common.typed_commands import as_typed
from ..devices.outcome import DeviceOutcome
from ..rollout import DeviceRow, DeviceState, Rollout, RolloutState
from ..rollout.conditions import CONDITIONS, RowSummary, summary_of, wave_counts
from ..rollout.windows import next_open, open_until
from .grouping import folded
from .rollout_summary import Cluster, clusters, idle, mending, next_commands
from .terminal import Page, engine_settings, plural
from .values import FindingGroup, human_bytes, human_moment, human_span, until

if TYPE_CHECKING:
    from ..operations.find import RolloutStatus
    from ..state import HistoryEntry

_STYLES = {
    RolloutState.PLANNED: "bold",
    RolloutState.RUNNING: "bold cyan",
    RolloutState.WAITING: "bold yellow",
    RolloutState.PAUSED: "bold yellow",
    RolloutState.ABORTED: "bold red",
    RolloutState.DONE: "bold green",
    RolloutState.SUPERSEDED: "dim",
}
_NONE: Mapping[tuple[str, str], float] = {}
_UNNAMED: Mapping[str, str] = {}
_OFFLINE = 20  # lines of offline devices
_CLUSTERS = 20
_VERSIONS = 6  # versions, and releases of one, in the head


def status_text(
    rollout: Rollout,
    rows: Sequence[DeviceRow],
    outcomes: Sequence[DeviceOutcome],
    now: float,
    width: int = 100,
    color: bool = False,
    holder: str = "",
    running: Mapping[tuple[str, str], float] = _NONE,
    versions: Mapping[str, str] = _UNNAMED,
    sent_besides: int = 0,
    summary: RowSummary | None = None,
) -> str:
    """Return a rollout's status; `now` in seconds since the epoch, `holder` is the controller at work on it, if any.

    `versions` names the releases by their ids.  What is simply well may be left out: outcomes without findings and settings,
    where `sent_besides` is what they sent, in bytes; and rows that are well, but for one that is confirmed, where `summary` is
    that of all rows.

    `running` names the failed rows, (device, model), that ran the new release when they were last seen, at an epoch time.
    """
    page = Page(width, color)
    sent = sent_besides + sum(outcome.sent_bytes for outcome in outcomes)
    summary = summary or summary_of(rows)
    _head(page, rollout, rows, summary, sent, now, holder, versions)
    _waves(page, rollout, summary)
    before = [row for row in rows if (row.device, row.model) not in running]
    _clusters(
        page,
        "Failed",
        "these devices run the release that they ran before",
        clusters(before, outcomes, DeviceState.FAILED),
    )
    _clusters(
        page,
        "Failed after the switch",
        f"these devices ran the new release when they were last seen, {human_moment(max(running.values(), default=0.0))}",
        clusters([row for row in rows if (row.device, row.model) in running], outcomes, DeviceState.FAILED),
    )
    _clusters(page, "Blocked", "nothing was sent", clusters(rows, outcomes, DeviceState.BLOCKED))
    _also(page, rows, outcomes)
    engine_settings(page, outcomes)
    _offline(page, rows, now)
    _waiting(page, rollout, rows)
    commands = next_commands(rollout, rows, holder)
    if commands:
        page.heading("Next")
        typed = [(as_typed(command), does) for command, does in commands]
        widest = max(len(command) for command, _ in typed)
        for command, does in typed:
            page.field(command, does, widest, 2, "bold")
    return page.text


def status_dict(
    rollout: Rollout,
    rows: Sequence[DeviceRow],
    outcomes: Sequence[DeviceOutcome],
    now: float,
    holder: str = "",
    running: Mapping[tuple[str, str], float] = _NONE,
    versions: Mapping[str, str] = _UNNAMED,
) -> dict[str, Any]:
    """Return the JSON form; waves are counted from 1, times are seconds since the epoch."""
    waves = wave_counts(rows)
    return {
        "schema": 1,
        "command": "status",
        "now": now,
        "closed_until": _closed_until(rollout, now),
        "rollout": _rollout(rollout),
        "holder": holder,
        "idle": idle(rollout, rows, holder),
        "waves": [
            {"wave": index + 1, "size": wave.size, "spec": wave.spec, "devices": dict(waves.get(index, {}))}
            for index, wave in enumerate(rollout.waves)
        ],
        "failures": [_cluster(cluster) for cluster in clusters(rows, outcomes, DeviceState.FAILED)],
        "blocked": [_cluster(cluster) for cluster in clusters(rows, outcomes, DeviceState.BLOCKED)],
        "devices": [_row(row, versions) for row in rows],
        "outcomes": [outcome.to_dict() for outcome in outcomes],
        "failed_running": [{"device": d, "model": m, "seen_at": at} for (d, m), at in running.items()],
        "next": [{"command": command, "does": does} for command, does in next_commands(rollout, rows, holder)],
    }


def status_document(found: RolloutStatus, now: float) -> dict[str, Any]:
    """Return what `litefleet status --json` shows of a status that was read."""
    one, parts = found.rollout, (found.holder, found.running, found.versions)
    return {**status_dict(one, found.rows, found.outcomes, now, *parts), "older": found.older}


def summary_document(found: RolloutStatus, now: float) -> dict[str, Any]:
    """Return what `litefleet status --json` shows, without what there is of each device; `found` was read in brief.

    `counts` are the devices by condition, `sent_bytes` what was sent to all of them.
    """
    parts = (found.holder, found.running, found.versions)
    whole = {**status_dict(found.rollout, found.rows, found.outcomes, now, *parts), "older": found.older}
    summary = found.summary or summary_of(found.rows)
    waves = [{**wave, "devices": dict(summary.waves.get(wave["wave"] - 1, {}))} for wave in whole["waves"]]
    sent = found.sent_besides + sum(outcome.sent_bytes for outcome in found.outcomes)
    counts: Counter[str] = Counter()
    for found_in in summary.waves.values():
        counts.update(found_in)
    kept = {name: value for name, value in whole.items() if name not in ("devices", "outcomes")}
    return {**kept, "waves": waves, "counts": dict(counts), "sent_bytes": sent}


def rollout_rows_dict(
    rollout_id: str, rows: Sequence[DeviceRow], outcomes: Sequence[DeviceOutcome], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return some rows of a rollout with their outcomes, in the form of `litefleet status --json`."""
    return {
        "schema": 1,
        "command": "status",
        "rollout": rollout_id,
        "devices": [_row(row, versions) for row in rows],
        "outcomes": [outcome.to_dict() for outcome in outcomes],
    }


def rollouts_text(rollouts: Sequence[Rollout], width: int = 100, color: bool = False, holder: str = "") -> str:
    """Return a list of rollouts, in the order given; "open" is one that is not finished, and on which no process works."""
    page = Page(width, color)
    if not rollouts:
        page.line("No rollouts yet. `litefleet plan` shows what a rollout would do, `litefleet rollout` starts one.")
        return page.text
    rows = []
    for r in rollouts:
        wave = f"{r.wave + 1}/{len(r.waves)}" if not r.state.over and r.waves else "–"
        model_names = ", ".join(sanitize(model, 40) for model in r.models)
        why = " — ".join(part for part in (model_names, sanitize(r.reason, 200)) if part)
        state = "open" if r.state is RolloutState.RUNNING and not holder else r.state.value
        rows.append((r.id, r.kind, state, wave, human_moment(r.created_at), sanitize(r.by, 40), why))
    head = ("rollout", "kind", "state", "wave", "made", "by", "models, reason")
    page.table(head, rows, left=("rollout", "kind", "state", "by", head[-1]))
    return page.text


def rollouts_dict(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """Return the JSON form of a list of rollouts."""
    return {"schema": 1, "command": "status", "rollouts": [_rollout(rollout) for rollout in rollouts]}


def _head(
    page: Page,
    rollout: Rollout,
    rows: Sequence[DeviceRow],
    summary: RowSummary,
    sent: int,
    now: float,
    holder: str,
    versions: Mapping[str, str],
) -> None:
    made = f"   ({translated_cell(rollout.kind)} by {sanitize(rollout.by, 80)}, {human_moment(rollout.created_at)})"
    title = f"{rollout.id} of fleet {sanitize(rollout.fleet, 64)}: "
    state = idle(rollout, rows, holder) or rollout.state.value
    page.line((title, "bold"), (translated_cell(state), _STYLES[rollout.state]), (made, "dim"))
    for name, text in _facts(rollout, summary, sent, now, holder):
        if text:
            page.field(name, text, 9)
        if name == "models":
            for line in _versions(summary.released, versions):
                page.field("version", line, 9)


def _versions(released: Sequence[tuple[str, str]], versions: Mapping[str, str]) -> list[str]:
    """Return a line for each version of a model that the rollout brings; its releases are one version for several kinds."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for model, release in released:
        if release in versions:
            found.setdefault((model, versions[release]), {})[release] = None
    lines = []
    for (model, version), releases in list(found.items())[:_VERSIONS]:
        shown = ", ".join(release[:12] for release in list(releases)[:_VERSIONS])
        more = f" and {len(releases) - _VERSIONS} more" if len(releases) > _VERSIONS else ""
        lines.append(f"{sanitize(model, 60)} {sanitize(version, 80)} ({shown}{more})")
    return lines


def _facts(rollout: Rollout, summary: RowSummary, sent: int, now: float, holder: str) -> list[tuple[str, str]]:
    """Return (name, text) for each line under the title; lines with an empty text are left out."""
    models = ", ".join(sanitize(model, 60) for model in rollout.models)
    soak = f"until {human_moment(rollout.soak_until)} ({until(rollout.soak_until, now)})"
    return [
        ("why", sanitize(rollout.reason, LINE_LIMIT)),
        ("caused by", folded(rollout.behind)),
        ("models", models + (f" (number {rollout.number})" if models and rollout.number else "")),
        ("limit", sanitize(rollout.limit, 200)),
        ("repairs", sanitize(rollout.parent, 40)),
        ("devices", f"{summary.well:,} of {summary.devices:,} run the wanted release; {human_bytes(sent)} sent"),
        ("as of", human_moment(rollout.updated_at) if rollout.updated_at else ""),
        ("soak", soak if rollout.soak_until > now and not rollout.state.over else ""),
        ("window", _window_text(rollout, now)),
        ("at work", sanitize(holder, 120)),
        ("asked", f"to {sanitize(rollout.request, 20)}" if rollout.request else ""),
    ]


def _closed_until(rollout: Rollout, now: float) -> float:
    """Return when (epoch) the rollout's devices may start again; 0 while a window is open, or when nothing is to start."""
    policy = rollout.policy
    if rollout.state.over or not policy.windows or open_until(policy.windows, policy.timezone, now) is not None:
        return 0.0
    opens = next_open(policy.windows, policy.timezone, now)
    return opens if math.isfinite(opens) else 0.0


def _window_text(rollout: Rollout, now: float) -> str:
    opens = _closed_until(rollout, now)
    windows = f"devices start {'; '.join(rollout.policy.windows)} ({rollout.policy.timezone})"
    return f"closed until {human_moment(opens)} ({until(opens, now)}): {windows}" if opens else ""


def _waves(page: Page, rollout: Rollout, summary: RowSummary) -> None:
    counts = summary.waves
    if not counts:
        return
    page.heading("Waves")
    used = [c for c in CONDITIONS if any(found[c] for found in counts.values())]
    lines = []
    for wave, found in counts.items():
        spec = rollout.waves[wave].spec if wave < len(rollout.waves) else ""
        here = "now" if wave == rollout.wave and not rollout.state.over else ""
        numbers = [f"{found[c]:,}" if found[c] else "·" for c in used]
        lines.append((str(wave + 1), here, f"{found.total():,}", *numbers, sanitize(spec, 120)))
    page.table(("wave", "", "devices", *used, "which"), lines, left=("", "which"))


def _clusters(page: Page, title: str, note: str, found: Sequence[Cluster]) -> None:
    if not found:
        return
    page.heading(title, note)
    for cluster in found[:_CLUSTERS]:
        entry = CATALOGUE.get(cluster.code, CATALOGUE["LF900"])
        seen = tuple((sanitize(sentence, LINE_LIMIT), names) for sentence, names in cluster.seen)
        seen_by = f", {cluster.forgiven} forgiven" if cluster.forgiven else ""
        page.finding(FindingGroup(entry, seen), translated(sanitize(cluster.part or "unknown CPU", 60) + seen_by))
        page.field("try", as_typed(sanitize(mending(cluster), LINE_LIMIT)), style="bold")
    if len(found) > _CLUSTERS:
        names = [name for cluster in found[_CLUSTERS:] for name in cluster.devices]
        page.line(f"and {plural(len(found) - _CLUSTERS, 'more cause')}: {folded(names)}")


def _also(page: Page, rows: Sequence[DeviceRow], outcomes: Sequence[DeviceOutcome]) -> None:
    """Print the warnings and notes of devices that did not fail."""
    well = {(row.device, row.model) for row in rows if row.state.well}
    found = [
        (o.device, f)
        for o in outcomes
        for f in o.findings
        if (o.device, o.model) in well and f.severity is not Severity.ERROR
    ]
    if found:
        page.heading("Warnings and notes")
        page.findings(found)


def _offline(page: Page, rows: Sequence[DeviceRow], now: float) -> None:
    away = [row for row in rows if row.state is DeviceState.OFFLINE]
    if not away:
        return
    page.heading("Offline", "may pass by itself: retried by `litefleet reconcile` or `resume`; gates do not count them")
    lines: dict[str, list[str]] = {}
    for row in sorted(away, key=lambda row: row.next_try_at):
        since = f"for {human_span(now - row.offline_since)}" if row.offline_since else ""
        due = f"next try {until(row.next_try_at, now)}"
        sentence = " — ".join(
            part
            for part in (", ".join(p for p in (since, due) if p), translated_sentence(sanitize(row.sentence, 120)))
            if part
        )
        lines.setdefault(sentence, []).append(row.device)
    for sentence, names in list(lines.items())[:_OFFLINE]:
        page.line((folded(names), "bold"), f": {translated(sentence)}", indent=2)
    if len(lines) > _OFFLINE:
        rest = [name for names in list(lines.values())[_OFFLINE:] for name in names]
        page.line(f"and {plural(len(set(rest)), 'more device')}: {folded(rest)}", indent=2)


def _waiting(page: Page, rollout: Rollout, rows: Sequence[DeviceRow]) -> None:
    """Print the devices that nothing was done to, and why."""
    ended = {
        RolloutState.SUPERSEDED: "a newer rollout took over before their turn",
        RolloutState.ABORTED: "the rollout was aborted before their turn",
    }.get(rollout.state, "their turn did not come, or they left the inventory")
    for title, state, why in (
        ("Pending", DeviceState.PENDING, "their turn has not come"),
        ("Skipped", DeviceState.SKIPPED, ended),
    ):
        named = list(dict.fromkeys(row.device for row in rows if row.state is state))
        if named:
            page.heading(title, why)
            page.line(folded(named), indent=2)


def _rollout(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "fleet": rollout.fleet,
        "kind": rollout.kind,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "behind": list(rollout.behind),
        "wave": rollout.wave + 1,
        "waves": len(rollout.waves),
        "created_at": rollout.created_at,
        "updated_at": rollout.updated_at,
        "by": rollout.by,
        "models": list(rollout.models),
        "number": rollout.number,
        "parent": rollout.parent,
        "limit": rollout.limit,
        "soak_until": rollout.soak_until,
        "approved": rollout.approved,
        "request": rollout.request,
        "policy": rollout.policy.model_dump(mode="json"),
        "origin": dict(rollout.origin),
    }


def _row(row: DeviceRow, versions: Mapping[str, str]) -> dict[str, Any]:
    return {
        "device": row.device,
        "model": row.model,
        "wave": row.wave + 1,
        "state": row.state.value,
        "kind": {"part": row.part, "libc": row.libc, "runtime": row.runtime},
        "release": row.release,
        "version": versions.get(row.release, ""),
        "artifact": row.artifact,
        "before": row.before,
        "before_version": versions.get(row.before, ""),
        "attempts": row.attempts,
        "offline_since": row.offline_since,
        "next_try_at": row.next_try_at,
        "verdict": row.verdict.value if row.verdict else "",
        "codes": list(row.codes),
        "sentence": row.sentence,
        "regressed": row.regressed,
        "forgiven": row.forgiven,
    }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    entry = CATALOGUE.get(cluster.code, CATALOGUE["LF900"])
    return {
        "code": cluster.code,
        "slug": entry.slug,
        "part": cluster.part,
        "devices": list(cluster.devices),
        "seen": [{"sentence": sentence, "devices": list(names)} for sentence, names in cluster.seen],
        "why": entry.why,
        "do": entry.do,
        "try": mending(cluster),
        "forgiven": cluster.forgiven,
    }


def history_text(entries: Sequence[HistoryEntry], width: int = 100, color: bool = False) -> str:
    """Return one line for each entry, the oldest first; times are by the devices' clocks."""
    page = Page(width, color)
    if not entries:
        page.line("No events are stored. `litefleet reconcile` reads the devices' histories.")
        return page.text
    rows = [
        (
            human_moment(e.at),
            sanitize(e.device, 80),
            sanitize(e.kind, 20),
            sanitize(e.model, 40),
            sanitize(e.release[:12], LINE_LIMIT),
            _event_text(e),
        )
        for e in entries
    ]
    head = ("time", "device", "event", "model", "release", "reason")
    page.table(head, rows, left=head[1:])
    return page.text


def _event_text(event: HistoryEntry) -> str:
    entry = event.entry
    sentences = [str(entry["text"])] if entry.get("text") else []
    found = [item for item in sequence_or_empty(entry.get("findings"))[:10] if isinstance(item, dict)]
    sentences += [f"{item.get('code')}: {item.get('seen')}" for item in found]
    times = entry.get("times")
    many = f" ({times} times)" if isinstance(times, int) and 1 < times < 1 << 53 else ""
    return sanitize("; ".join(sentences), 300) + many


def history_dict(entries: Sequence[HistoryEntry]) -> dict[str, Any]:
    """Return the JSON form: {schema, entries: [{device, history, number, at, taken_at, kind, model, release, entry}]}."""
    return {"schema": 1, "entries": [json_ready(vars(e)) for e in entries]}
