"""Formats numbers and times for people, and groups findings by code, for all reports.  Pure.

Text from a device is hostile until `common.text.sanitize` escaped it: a terminal obeys escape sequences, and
bidirectional marks reorder a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from litefleet_agent.findings import CATALOGUE, Entry, Finding, Severity, Verdict
from litefleet_agent.formats.engine_settings import parse_reports

from ..common.checked import mapping_or_empty, number_or_none
from ..common.text import LINE_LIMIT, sanitize
from ..devices.outcome import DeviceOutcome, RunReport

_LARGEST = 1e15  # a larger figure is no measurement, and would fill a line with digits


def _sane(value: object) -> float | None:
    """Return a finite number below 1e15 in size, None for any other value."""
    found = number_or_none(value)
    return found if found is not None and abs(found) <= _LARGEST else None


def human_bytes(count: object) -> str:
    """Return bytes for people: "11.0 MB"; a dash where there is no number below 1e15."""
    left = _sane(count)
    if left is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(left) < 1000:
            return f"{left:.0f} {unit}" if unit == "B" or left >= 100 else f"{left:.1f} {unit}"
        left /= 1000
    return f"{left:.1f} TB"


def human_ms(value: object) -> str:
    """Return milliseconds for people: "3.42 ms"; a dash where there is no number below 1e15."""
    ms = _sane(value)
    if ms is None:
        return "–"
    if ms >= 10_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms >= 10 else f"{ms:.2f} ms"


def human_rate(value: object) -> str:
    """Return runs a second for people: "333", "4.25"; a dash where there is no number below 1e15."""
    rate = _sane(value)
    return "–" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def human_seconds(value: object) -> str:
    """Return seconds for people: "2.3 s", "4 min 05 s"; a dash where there is no number below 1e15."""
    seconds = _sane(value)
    if seconds is None:
        return "–"
    if seconds >= 119.95:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


@dataclass(frozen=True)
class Latency:
    """One device's latency, in milliseconds; min <= p50 <= p90 <= p99."""

    min: float
    p50: float
    p90: float
    p99: float


_LONGEST_MS = 1e12  # 31 years: a larger "latency" is no measurement, and its axis would overflow


def latency_of(outcome: DeviceOutcome) -> Latency | None:
    """Return the latency that this run measured on the device; None where it is missing, negative, unordered or over 31 years.

    A device that already ran the release was not measured: its outcome repeats the figures of an earlier run.
    """
    if outcome.unchanged:
        return None
    found = outcome.measurements.get("latency_ms")
    if not isinstance(found, Mapping):
        return None
    values = [number_or_none(found.get(key)) for key in ("min", "p50", "p90", "p99")]
    whole = [v for v in values if v is not None and 0 <= v <= _LONGEST_MS]
    return Latency(*whole) if len(whole) == 4 and whole == sorted(whole) else None


def settings_of(outcome: DeviceOutcome) -> list[str]:
    """Return a sentence for each setting of the engine that was asked for, and what came of it; empty where none was."""
    try:
        reports = parse_reports(outcome.measurements.get("settings"))
    except ValueError:  # what a device reports is not trusted
        return []
    return [sanitize(report.words, LINE_LIMIT) for report in reports]


def arch_name(outcome: DeviceOutcome) -> str:
    """Return the device's architecture as it reported it, else its `uname -m`, else ""."""
    return sanitize(outcome.facts.get("arch") or outcome.facts.get("machine") or "", 20)


def counts_line(report: RunReport) -> str:
    """Return "5 verified · 2 refused", or "no devices"."""
    return " · ".join(f"{count} {verdict}" for verdict, count in report.counts.items()) or "no devices"


def listed(names: tuple[str, ...], most: int = 20) -> str:
    """Return names in one line: at most `most` of them, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sanitize(name, 80) for name in names[:most]) + more


@dataclass(frozen=True)
class FindingGroup:
    """One code of the catalogue with all its devices; `seen` holds (sentence, devices that reported this sentence)."""

    entry: Entry
    seen: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices of the group, each once, in the order of the report."""
        return tuple(dict.fromkeys(name for _, names in self.seen for name in names))


_SENTENCES = 5  # different sentences shown of one code


class SentenceGroup(NamedTuple):
    """One sentence of a finding and the devices that show it; `is_rest` marks the last one, which counts those left out."""

    text: str
    devices: tuple[str, ...]
    is_rest: bool = False


def group_sentences(group: FindingGroup) -> tuple[SentenceGroup, ...]:
    """Return the group's first five sentences; of more, a last entry counts them and names all their devices."""
    shown = tuple(SentenceGroup(text, names) for text, names in group.seen[:_SENTENCES])
    rest = group.seen[_SENTENCES:]
    if not rest:
        return shown
    names = tuple(dict.fromkeys(name for _, every in rest for name in every))
    return (*shown, SentenceGroup(f"and {len(rest)} more such sentence{'' if len(rest) == 1 else 's'}", names, True))


def shared_findings(report: RunReport) -> tuple[FindingGroup, ...]:
    """Return the findings of all devices that are not verified, once per code: errors first, most devices first."""
    worrying = (o for o in report.outcomes if o.verdict is not Verdict.VERIFIED)
    return gathered((outcome.device, found) for outcome in worrying for found in outcome.findings)


def gathered(pairs: Iterable[tuple[str, Finding]]) -> tuple[FindingGroup, ...]:
    """Return (device, finding) pairs once per code: errors first, most devices first."""
    by_code: dict[str, dict[str, list[str]]] = {}
    for device, found in pairs:
        by_code.setdefault(found.code, {}).setdefault(sanitize(found.observed, LINE_LIMIT), []).append(device)
    groups = [
        FindingGroup(CATALOGUE[code], tuple((seen, tuple(dict.fromkeys(names))) for seen, names in sentences.items()))
        for code, sentences in by_code.items()
    ]
    weight = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
    return tuple(sorted(groups, key=lambda g: (weight[g.entry.severity], -len(g.devices), g.entry.code)))


_IN_BYTES = ("memory.total", "memory.available", "disk.total", "disk.free")


def facts_lines(facts: Mapping[str, object], most: int = 60) -> list[tuple[str, str]]:
    """Return a probe's facts as (dotted name, value) lines, cleaned; at most `most` of them."""
    lines: list[tuple[str, str]] = []
    for name, value in _walk(facts, "", 4):
        if len(lines) == most:
            lines.append(("…", "more facts are in the JSON report"))
            break
        text = human_bytes(value) if name in _IN_BYTES and _sane(value) is not None else value
        lines.append((sanitize(name, 60), sanitize(text, LINE_LIMIT)))
    return lines


def _walk(value: object, name: str, depth: int) -> Iterator[tuple[str, object]]:
    """Yield the leaves of nested mappings; lists of plain values are one line, empty values none."""
    if isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            yield from _walk(inner, f"{name}.{key}" if name else str(key), depth - 1)
    elif isinstance(value, list | tuple):
        if value:
            yield name, ", ".join(str(item) for item in value[:200])
    elif value is not None and value != "":
        yield name, value if not isinstance(value, bool) else "yes" if value else "no"


def rollout_lines(report: RunReport) -> list[str]:
    """Return the lines about the rollout of a run: its state, the reason, and what remains to do; cleaned."""
    rollout = report.rollout
    if not rollout:
        return []
    ident, counts = sanitize(str(rollout.get("id", "")), 40), rollout.get("counts")
    reason = sanitize(str(rollout.get("reason", "")), 1000)
    state = f"is {sanitize(str(rollout.get('state', '')), 20)}"
    if rollout.get("state") == "running":  # this run has ended, and no process works on the rollout any more
        state = idle_text(int(_sane(rollout.get("offline")) or 0), _sane(rollout.get("next_try_at")) or 0.0)
    lines = [f"{ident} {state}{': ' if reason else ''}{reason}"]
    left = [f"{n} {state}" for state in ("pending", "offline") if (n := dict(counts or {}).get(state))]
    if left:
        lines.append(f"remaining: {', '.join(left)}; next: `litefleet status {ident}`")
    elif rollout.get("state") in ("paused", "waiting"):
        lines.append(f"next: `litefleet status {ident}`")
    return lines


def brought_lines(report: RunReport) -> list[str]:
    """Return a line for each C library that was brought with a Python, with the devices that have it; cleaned."""
    devices: dict[str, dict[str, None]] = {}
    for outcome in report.outcomes:
        own = mapping_or_empty(outcome.facts.get("brought")).get("own_libc")
        if own:
            libc = mapping_or_empty(outcome.facts.get("libc"))
            words = sanitize(f"{libc.get('kind', '')} {libc.get('version', '')} (the system has {own})", 100)
            devices.setdefault(words, {})[outcome.device] = None
    return [
        f"in a Python that litefleet brought, with {libc}: {listed(tuple(names))}" for libc, names in devices.items()
    ]


_YEAR_9000 = 221_845_392_000.0  # datetime ends soon after


def human_moment(epoch: float) -> str:
    """Return seconds since the epoch as "2026-11-23 11:30 UTC"; a dash for 0 and for values that are no time."""
    if not 0 < epoch < _YEAR_9000:
        return "–"
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")


def human_span(seconds: float) -> str:
    """Return a length of time for people: "45 s", "2 min 30 s", "12 min", "2 h 30 min", "9 days"."""
    whole = round(max(seconds, 0))
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", "s", 10)
    if whole < 2 * 86400:
        return _two(round(whole / 60), 60, "h", "min", 48)
    return _two(round(whole / 3600), 24, "days", "h", 4)


def _two(count: int, per: int, large: str, small: str, below: int) -> str:
    """Return "2 h 30 min"; from `below` large units on, rounded to whole large units."""
    whole, rest = divmod(count, per)
    if whole >= below:
        return f"{round(count / per)} {large}"
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def idle_text(offline: int, next_try_at: float) -> str:
    """Return what an open rollout does on which no process works: `offline` devices are tried again, first at that epoch time."""
    if not offline:
        return "is open, and no process works on it"
    again = human_moment(next_try_at)[-9:] if next_try_at else "at once"
    when = f"next try {again} by `litefleet reconcile`, if its timer is installed"
    return f"waits for {offline:,} device{'' if offline == 1 else 's'} ({when})"


def until(moment: float, now: float) -> str:
    """Return the time until `moment`: "in 5 min", "now"."""
    return f"in {human_span(moment - now)}" if moment - now >= 1 else "now"
