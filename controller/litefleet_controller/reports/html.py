"""Writes a run's report as one self-contained HTML page.

Device text is hostile. In the page, autoescape is on, all text is cleaned first, and a content security policy allows
only the page's own style and script, by their hashes; the page loads nothing from the network.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, StrictUndefined, Template
from litefleet_agent.findings import Verdict
from markupsafe import Markup, escape

from ..bench.figures import BenchFigures, ReleaseFigures, benches_of
from ..catalogue.articles import advice
from ..catalogue.articles import title_of as name_of
from ..catalogue.language import current_lang
from ..catalogue.translate import tr, translated, translated_cell, translated_sentence
from ..common.checked import mapping_or_empty, number_or_none, sequence_or_empty
from ..common.text import LINE_LIMIT, sanitize, sanitize_lines
from ..devices.outcome import DeviceOutcome, RunReport
from ..evaluate.figures import accuracy_of
from .charts.accuracy import accuracy_charts, accuracy_rows
from .charts.bench import charts_of, heading_of, mark_of, names_of, title_of
from .charts.canvas import asset
from .latency_plot import latency_plots
from .values import (
    FindingGroup,
    arch_name,
    brought_lines,
    facts_lines,
    group_sentences,
    human_bytes,
    human_ms,
    human_rate,
    human_seconds,
    latency_of,
    rollout_lines,
    settings_of,
    shared_findings,
)

_MOST = 100  # devices with charts


def bench_parts(report: RunReport) -> list[dict[str, object]]:
    """Return each bench's title, lines, charts and caveats, in the inventory's order; at most 100."""
    return [
        {
            "title": title_of(outcome, figures),
            "lines": heading_of(outcome, figures),
            "charts": [chart.inline() for chart in charts_of(figures)],
            "notes": [translated_sentence(sanitize(note, 300)) for note in figures.notes],
        }
        for outcome, figures in benches_of(report)[:_MOST]
    ]


def bench_ranks(report: RunReport) -> list[list[str]]:
    """Return a row for each measured release: device, model, release, latencies, rate, cold start, memory."""
    return [
        _row(outcome, figures, name, measured)
        for outcome, figures in benches_of(report)
        for name, measured in zip(names_of(figures), figures.releases, strict=True)
        if measured.warm is not None
    ]


def _row(outcome: DeviceOutcome, figures: BenchFigures, name: str, measured: ReleaseFigures) -> list[str]:
    warm, first = measured.warm, measured.cold.first
    ranks = [human_ms(getattr(warm, key)) for key in ("p50", "p90", "p99", "p999", "max")]
    rest = [
        human_rate(measured.runs_per_s),
        human_ms(first.total_ms if first else None),
        human_bytes(measured.memory.peak),
    ]
    return [sanitize(outcome.device, 80), sanitize(figures.model, 60), name + mark_of(measured), *ranks, *rest]


def _scores(report: RunReport) -> list[list[str]]:
    """Return a row for each accuracy: device, model, metric, samples, score, reference, change, verdict."""
    return [
        [
            sanitize(outcome.device, 80),
            sanitize(outcome.model, 60),
            *accuracy_rows(found),
            translated_cell(outcome.verdict.value),
        ]
        for outcome in report.outcomes
        if (found := accuracy_of(outcome)) is not None
    ]


_OUTPUTS = 50  # outputs shown of one device
_NAMES = 60  # devices named under one sentence
_BAR = 1000  # units the verdict bar is wide


def to_html(report: RunReport) -> str:
    """Return the whole page."""
    style, script = asset("report.css") + asset("chart.css"), asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_csp_hash(style)}'; script-src '{_csp_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # Devices that need attention come first; the inventory's order is kept within both halves.
    ordered = sorted(report.outcomes, key=lambda o: o.verdict is Verdict.VERIFIED)
    return _template().render(
        lang=current_lang().tag,
        policy=policy,
        style=Markup(style),  # noqa: S704 - our own file, no input in it
        script=Markup(script),  # noqa: S704
        command=sanitize(report.command, 40),
        head=_head(report),
        not_begun=_not_begun(report),
        started_at=sanitize(report.started_at, 40),
        seconds=human_seconds(report.seconds),
        counts=report.counts,
        rollout=[translated(line) for line in [*rollout_lines(report), *brought_lines(report)]],
        total=len(report.outcomes),
        bar=_bar(report.counts),
        groups=[_group(g) for g in shared_findings(report)],
        plots=latency_plots(report),
        benches=bench_parts(report),
        ranks=bench_ranks(report),
        scores=_scores(report),
        accuracies=[chart.inline() for chart in accuracy_charts(report)],
        devices=[_device(o) for o in ordered],
    )


def _head(report: RunReport) -> list[tuple[str, str]]:
    """Return who ran what: (name, value) lines of the page's head, cleaned; unknown ones are left out."""
    rollout = report.rollout
    state = str(rollout.get("state", ""))
    state = translated_cell("open" if state == "running" else state)  # no process works on it any more
    lines = [
        (tr("fleet"), report.fleet),
        (tr("run by"), report.by),
        (tr("rollout"), f"{rollout.get('id', '')} ({state})" if rollout else ""),
        *((tr("version of {model}", model=model), ", ".join(versions)) for model, versions in report.versions.items()),
        ("litefleet", report.litefleet),
    ]
    return [(sanitize(name, 80), sanitize(value, 300)) for name, value in lines if value]


def _not_begun(report: RunReport) -> list[dict[str, str]]:
    """Return the devices of the rollout that were not begun, so that they have no outcome; cleaned."""
    rows = map(mapping_or_empty, sequence_or_empty(report.rollout.get("not_begun")))
    return [
        {
            "name": sanitize(str(row.get("device", "")), 80),
            "model": sanitize(str(row.get("model", "")), 80),
            "state": sanitize(str(row.get("state", "")), 20),
            "wave": sanitize(str(row.get("wave", "")), 10),
        }
        for row in rows
    ]


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    environment.filters["t"] = translated_cell
    environment.globals["tr"] = tr
    return environment.from_string(asset("report.html.j2"))


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _bar(counts: Mapping[str, int]) -> list[dict[str, object]]:
    """Return the bar's segments: verdict, x and width out of `_BAR`."""
    total, at, segments = sum(counts.values()), 0.0, []
    for verdict, count in counts.items():
        width = _BAR * count / total
        gap = 2 if at + width < _BAR - 0.01 else 0
        segments.append({"verdict": verdict, "count": count, "x": round(at, 2), "width": round(max(width - gap, 1), 2)})
        at += width
    return segments


def _group(group: FindingGroup) -> dict[str, object]:
    entry = group.entry
    why, do = advice(entry.code)
    return {
        "code": entry.code,
        "slug": name_of(entry.code),
        "severity": entry.severity.value,
        "verdict": entry.verdict.value if entry.verdict else "",
        "count": len(group.devices),
        "seen": _seen(group),
        "why": why,
        "do": do,
    }


def _seen(group: FindingGroup) -> list[tuple[str, list[str], int]]:
    """Return the group's sentences, each with the names of its devices and how many more devices there are."""
    return [
        (
            translated(sentence.text) if sentence.is_rest else translated_sentence(sentence.text),
            [sanitize(name, 80) for name in sentence.devices[:_NAMES]],
            max(len(sentence.devices) - _NAMES, 0),
        )
        for sentence in group_sentences(group)
    ]


def _code(text: str) -> Markup:
    """Return a text of the catalogue with `backquoted` parts as code; the rest is escaped."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just here


def _device(outcome: DeviceOutcome) -> dict[str, object]:
    """Return the values that the page shows of one device, all texts cleaned."""
    latency = latency_of(outcome)
    took = [(translated_cell(sanitize(step, 60)), human_seconds(seconds)) for step, seconds in outcome.steps.items()]
    return {
        "name": sanitize(outcome.device, 80),
        "model": sanitize(outcome.model, 80),
        "arch": arch_name(outcome) or "–",
        "verdict": outcome.verdict.value,
        "sentence": translated_sentence(sanitize(outcome.sentence, LINE_LIMIT)),
        "p50": human_ms(latency.p50) if latency else "–",
        "sent": human_bytes(outcome.sent_bytes),
        "seconds": human_seconds(sum(outcome.steps.values())) if outcome.steps else "–",
        "findings": [
            (f.code, name_of(f.code), translated_sentence(sanitize(f.observed, LINE_LIMIT)), *advice(f.code))
            for f in outcome.findings
        ],
        "facts": facts_lines(outcome.facts),
        "release": _release(outcome),
        "measurements": _measurements(outcome),
        "outputs": _outputs(outcome),
        "steps": took,
        "detail": sanitize_lines(outcome.detail) if outcome.detail else "",
    }


def _release(outcome: DeviceOutcome) -> list[tuple[str, str]]:
    """Return the lines about the release: id, file, whether it is active, bytes sent."""
    live = "unchanged: was active already" if outcome.unchanged else "activated" if outcome.activated else "not changed"
    rows = [
        ("version", sanitize(outcome.version, 80)),
        ("release", sanitize(outcome.release, 80)),
        (".nb SHA-256", sanitize(outcome.artifact, 80)),
        ("active", live),
    ]
    rows += [("sent", human_bytes(outcome.sent_bytes)), ("round trips", str(outcome.round_trips))]
    return [(translated_cell(name), translated_cell(value)) for name, value in rows if value]


def _measurements(outcome: DeviceOutcome) -> list[tuple[str, str]]:
    measured, latency = outcome.measurements, latency_of(outcome)
    rows = []
    if latency:
        rows = [(f"latency {k}", human_ms(getattr(latency, k))) for k in ("min", "p50", "p90", "p99")]
    if number_or_none(measured.get("load_ms")) is not None:
        rows.append(("load", human_ms(measured["load_ms"])))
    if number_or_none(measured.get("peak_rss_bytes")) is not None:
        rows.append(("peak memory", human_bytes(measured["peak_rss_bytes"])))
    rows += [("engine", words) for words in settings_of(outcome)]
    return [(translated_cell(name), translated_cell(value)) for name, value in rows]


def _outputs(outcome: DeviceOutcome) -> list[list[str]]:
    """Return one row per output: name, how it was compared, its distance in tolerances, the plain figures, ok, remarks."""
    found = outcome.measurements.get("outputs")
    rows = [o for o in found if isinstance(o, Mapping)] if isinstance(found, list | tuple) else []
    keys = ("distance", "max_abs", "mean_abs", "max_rel", "cosine", "top1")
    return [
        [
            sanitize(o.get("name") or "–", 60),
            translated_cell(sanitize(o.get("compare") or "–", 60)),
            *(_figure(o.get(k)) for k in keys),
            tr("yes") if o.get("ok") is True else tr("no"),
            "; ".join(translated_sentence(sanitize(o[key], 200)) for key in ("why", "note") if o.get(key)),
        ]
        for o in rows[:_OUTPUTS]
    ]


def _figure(value: object) -> str:
    if value is None:
        return "–"
    figure = number_or_none(value)
    return sanitize(value, 40) if figure is None else f"{figure:.4g}"
