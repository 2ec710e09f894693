"""Writes what the state knows of devices for a terminal and as CSV.  Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from litefleet_agent.findings import CATALOGUE

from ..catalogue.articles import advice
from ..catalogue.language import current_lang, in_lang, speaking
from ..catalogue.translate import translated_cell, translated_sentence
from ..common.checked import mapping_or_empty, sequence_or_empty
from ..common.text import LINE_LIMIT, sanitize
from ..devices.outcome import release_name
from ..operations.device_records import DeviceRecord, DeviceStory, TimelineEntry, audit_text
from ..state import AuditEntry
from .exports import cell_text
from .terminal import Cell, Page, plural
from .values import human_bytes, human_moment, human_span

_STATES = {"failed": "red", "blocked": "yellow", "offline": "red", "confirmed": "green", "unchanged": "green"}
_COLUMNS = (
    "device",
    "model",
    "host",
    "groups",
    "arch",
    "part",
    "version",
    "release",
    "since",
    "rollout",
    "state",
    "verdict",
    "codes",
    "sentence",
    "drift",
    "seen_at",
)


def devices_text(records: Sequence[DeviceRecord], now: float, width: int = 100, color: bool = False) -> str:
    """Return a line for each model on each device; `now` in seconds since the epoch."""
    page = Page(width, color)
    if not records:
        page.line("No device matches.")
        return page.text
    several = len({record.model for record in records}) > 1
    head = ("device", *(["model"] if several else []), "runs", "since", "part", "state", "drift", "last contact")
    with speaking(current_lang()):  # each cell asks for it, and the environment takes long to ask
        page.table(head, [_device_row(r, now, several) for r in records], left=head)
    page.line()
    page.line(_counts(records))
    return page.text


def _device_row(r: DeviceRecord, now: float, several: bool) -> list[Cell]:
    state = r.state or "no rollout yet"
    said = translated_cell(sanitize(state, 20))
    return [
        sanitize(r.device, 80),
        *([sanitize(r.model, 60)] if several else []),
        sanitize(release_name(r.release, r.version), 120),
        human_moment(r.since)[:10],
        sanitize(r.part or r.arch or "–", 40),
        (" ".join((said, *(sanitize(c, 10) for c in r.codes[:2]))), _STATES.get(state, "")),
        ", ".join(sanitize(d, 20) for d in r.drift) or "–",
        f"{human_span(now - r.seen_at)} ago" if r.seen_at else "never",
    ]


def _counts(records: Sequence[DeviceRecord]) -> str:
    """Return "9 devices: 7 run 2.1, 2 run nothing"."""
    counted: dict[str, int] = {}
    for record in records:
        name = record.version or release_name(record.release)
        counted[name] = counted.get(name, 0) + 1
    ordered = sorted(counted.items(), key=lambda item: -item[1])
    shown = ", ".join(_running(count, sanitize(name, 60)) for name, count in ordered[:8])
    more = f", {plural(len(ordered) - 8, 'other version')}" if len(ordered) > 8 else ""
    return f"{plural(len({r.device for r in records}), 'device')}: {shown}{more}"


def _running(count: int, name: str) -> str:
    return in_lang(f"{count:,} run{'s' if count == 1 else ''} {name}", f"{count:,} 台运行 {translated_cell(name)}")


def devices_csv(records: Sequence[DeviceRecord]) -> str:
    """Return the records as CSV with a head; times are ISO-like UTC, lists are separated by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in records:
        writer.writerow([_csv(name, getattr(record, name)) for name in _COLUMNS])
    return out.getvalue()


def _csv(name: str, value: object) -> str:
    """Return a cell: times as UTC, lists with spaces."""
    if name in ("since", "seen_at"):
        moment = human_moment(float(str(value)))
        return "" if moment == "–" else moment
    return cell_text(" ".join(map(str, value)) if isinstance(value, tuple) else str(value))


def device_text(story: DeviceStory, width: int = 100, color: bool = False) -> str:
    """Return one device's releases, the reason of its last failure, its facts and its time line, the latest entry last."""
    page = Page(width, color)
    page.line((sanitize(story.name, 80), "bold"))
    host = next((r.host for r in story.records if r.host), "")
    groups = next((r.groups for r in story.records if r.groups), ())
    seen = max((r.seen_at for r in story.records), default=0.0)
    for name, text in (
        ("address", host or "no longer in the inventory"),
        ("groups", ", ".join(groups)),
        ("seen", human_moment(seen) if seen else "never"),
        ("host key", story.host_key),
    ):
        if text:
            page.field(name, sanitize(text, LINE_LIMIT), 9)
    for record in story.records:
        _record(page, record)
    facts = _facts(story.facts)
    if facts:
        page.heading("Facts", "all of them: --json")
        for name, text in facts:
            page.field(name, text, 9)
    page.heading("Time line", "times in UTC; of the device's own events, by its clock")
    if not story.timeline:
        page.line("nothing is stored yet", indent=2)
        return page.text
    head = ("time", "who", "event", "release", "reason")
    page.table(head, [_line(entry, len(story.records) > 1) for entry in story.timeline], left=head[1:])
    return page.text


def _facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the few facts that a person asks for first, cleaned."""
    part = {key: mapping_or_empty(facts.get(key)) for key in ("os_release", "cpu", "memory", "disk", "python", "libc")}
    parts = ", ".join(map(str, sequence_or_empty(part["cpu"].get("parts"))[:4]))
    memory, disk = part["memory"].get("total"), part["disk"].get("free")
    own = mapping_or_empty(facts.get("brought")).get("own_libc")
    lines: list[tuple[str, list[object]]] = [
        ("system", [part["os_release"].get("pretty"), facts.get("kernel"), facts.get("machine")]),
        ("cpu", [parts, f"{part['cpu']['cores']} cores" if part["cpu"].get("cores") else ""]),
        ("memory", [human_bytes(memory) if memory else "", f"{human_bytes(disk)} free on disk" if disk else ""]),
        (
            "python",
            [
                part["python"].get("version"),
                part["libc"].get("kind"),
                part["libc"].get("version"),
                f"brought; the system has {own}" if own else "",
            ],
        ),
    ]
    return [
        (name, text) for name, found in lines if (text := sanitize(", ".join(str(f) for f in found if f), LINE_LIMIT))
    ]


def _record(page: Page, record: DeviceRecord) -> None:
    page.heading(sanitize(record.model, 60))
    runs = release_name(record.release, record.version)
    since = f", since {human_moment(record.since)}" if record.since else ""
    page.field("runs", sanitize(runs, 120) + since, 9)
    if record.rollout:
        verdict = f", {record.verdict}" if record.verdict else ""
        page.field("state", sanitize(f"{translated_cell(record.state)} in {record.rollout}{verdict}", 200), 9)
    if record.drift:
        page.field("drift", sanitize(", ".join(record.drift), 200), 9)
    if record.sentence:
        page.field("reason", translated_sentence(sanitize(record.sentence, LINE_LIMIT)), 9)
    for code in record.codes[:3]:
        entry = CATALOGUE.get(code)
        if entry is not None:
            page.field("do", f"{advice(code)[1]}  ({code}; `litefleet explain {code}`)", 9)


def _line(entry: TimelineEntry, models: bool) -> tuple[str, ...]:
    release = release_name(entry.release, entry.version) if entry.release else "–"
    event = f"{entry.event} ({entry.model})" if models and entry.model else entry.event
    return (
        human_moment(entry.at).removesuffix(" UTC"),
        sanitize(entry.by or entry.source, 60),
        sanitize(event, 60),
        sanitize(release, 120),
        sanitize(entry.text, 300) or "–",
    )


def audit_table(entries: Sequence[AuditEntry], width: int = 100, color: bool = False) -> str:
    """Return the audit log for people, the oldest entry first."""
    page = Page(width, color)
    if not entries:
        page.line("No entry matches.")
        return page.text
    head = ("number", "time", "who", "what", "about")
    rows = [
        (
            str(e.seq),
            human_moment(e.at).removesuffix(" UTC"),
            sanitize(e.who, 80),
            sanitize(e.action, 60),
            sanitize(audit_text(e), 300) or "–",
        )
        for e in entries
    ]
    page.table(head, rows, left=head[2:])
    return page.text
