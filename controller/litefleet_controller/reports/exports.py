"""Writes a run's report for other programs: CSV for a spreadsheet, JUnit XML for CI, Markdown for a merge request.  Pure."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

from litefleet_agent.findings import Verdict

from ..catalogue.articles import advice, title_of
from ..catalogue.translate import tr, translated, translated_cell, translated_sentence
from ..common.checked import mapping_or_empty, sequence_or_empty
from ..common.text import LINE_LIMIT, sanitize
from ..devices.outcome import DeviceOutcome, RunReport, release_name
from .values import arch_name, brought_lines, human_ms, human_seconds, latency_of, rollout_lines, shared_findings

_COLUMNS = (
    "device",
    "model",
    "arch",
    "version",
    "release",
    "verdict",
    "sentence",
    "codes",
    "p50_ms",
    "sent_bytes",
    "seconds",
)
_FORMULA = ("=", "+", "-", "@")


def to_csv(report: RunReport) -> str:
    """Return a row for each model on each device; devices that were not begun have the verdict of their state."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for outcome in report.outcomes:
        latency = latency_of(outcome)
        cells = (
            outcome.device,
            outcome.model,
            arch_name(outcome),
            outcome.version,
            outcome.release,
            outcome.verdict.value,
            translated_sentence(outcome.sentence),
            " ".join(dict.fromkeys(f.code for f in outcome.findings)),
            f"{latency.p50:.3f}" if latency else "",
            str(outcome.sent_bytes),
            f"{sum(outcome.steps.values()):.3f}" if outcome.steps else "",
        )
        writer.writerow([cell_text(cell) for cell in cells])
    for device, model, state in not_begun(report):
        writer.writerow(
            [cell_text(device), cell_text(model), "", "", "", cell_text(state), tr("not begun"), "", "", "0", ""]
        )
    return out.getvalue()


def cell_text(text: str) -> str:
    """Return a CSV cell; one that a spreadsheet would take for a formula gets an apostrophe."""
    cleaned = sanitize(text, LINE_LIMIT)
    return f"'{cleaned}" if cleaned[:1] in _FORMULA else cleaned


def not_begun(report: RunReport) -> list[tuple[str, str, str]]:
    """Return (device, model, state) of the rollout's devices that were not begun."""
    rows = map(mapping_or_empty, sequence_or_empty(report.rollout.get("not_begun")))
    return [(str(r.get("device", "")), str(r.get("model", "")), str(r.get("state", ""))) for r in rows]


def to_junit(report: RunReport) -> str:
    """Return JUnit XML: a test case for each model on each device; one that was not begun is skipped."""
    waiting = not_begun(report)
    failed = [o for o in report.outcomes if o.verdict is not Verdict.VERIFIED]
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"litefleet {report.command}"),
        tests=str(len(report.outcomes) + len(waiting)),
        failures=str(len(failed)),
        skipped=str(len(waiting)),
        time=f"{report.seconds:.3f}",
        timestamp=_xml(report.started_at.removesuffix("Z")),
    )
    for outcome in report.outcomes:
        case = _case(suite, outcome.device, outcome.model, sum(outcome.steps.values()))
        if outcome.verdict is not Verdict.VERIFIED:
            message = _xml(translated_sentence(outcome.sentence))
            failure = ElementTree.SubElement(case, "failure", type=outcome.verdict.value, message=message)
            failure.text = _xml("\n".join(_lines(outcome)))
    for device, model, state in waiting:
        ElementTree.SubElement(
            _case(suite, device, model, 0.0), "skipped", message=_xml(f"{tr('not begun')}: {translated_cell(state)}")
        )
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, device: str, model: str, seconds: float) -> ElementTree.Element:
    name = _xml(model or "device")
    return ElementTree.SubElement(suite, "testcase", classname=_xml(device), name=name, time=f"{seconds:.3f}")


def _lines(outcome: DeviceOutcome) -> list[str]:
    return [
        f"{f.code} {title_of(f.code)}: {translated_sentence(sanitize(f.observed, LINE_LIMIT))}\n"
        "  " + tr("{label}: {text}", label=tr("do"), text=advice(f.code)[1])
        for f in outcome.findings
    ]


def _xml(text: str) -> str:
    """Return a text without characters that XML has no form for."""
    return "".join(c if c in "\n\t" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE else "?" for c in text)


def to_markdown(report: RunReport) -> str:
    """Return the report as Markdown: the head, the counts, a table of devices, the findings."""
    counts = " · ".join(f"{count} {translated_cell(verdict)}" for verdict, count in report.counts.items())
    lines = [f"## litefleet {markdown_cell(report.command)}: {markdown_cell(counts or tr('no devices'))}", ""]
    about = [report.started_at, human_seconds(report.seconds)]
    about += [tr("fleet {name}", name=report.fleet)] if report.fleet else []
    about += [tr("by {name}", name=report.by)] if report.by else []
    about += [f"{model} {', '.join(versions)}" for model, versions in report.versions.items()]
    lines += [
        markdown_cell(" · ".join(about)),
        "",
        *(f"{markdown_cell(translated(line))}  " for line in [*rollout_lines(report), *brought_lines(report)]),
        "",
    ]
    head = " | ".join(map(tr, ("device", "model", "version", "verdict", "why")))
    lines += [f"| {head} | p50 |", "| --- | --- | --- | --- | --- | ---: |"]
    for outcome in report.outcomes:
        latency = latency_of(outcome)
        runs = release_name(outcome.release, outcome.version) if outcome.release else "–"
        cells = (outcome.device, outcome.model, runs, tr(outcome.verdict.value), translated_sentence(outcome.sentence))
        p50 = human_ms(latency.p50) if latency else "–"
        lines.append("| " + " | ".join([*(markdown_cell(cell) for cell in cells), p50]) + " |")
    for device, model, state in not_begun(report):
        name, of, shown = map(markdown_cell, (device, model, translated_cell(state)))
        lines.append(f"| {name} | {of} | – | {shown} | {tr('not begun')} | – |")
    for group in shared_findings(report):
        entry = group.entry
        names = ", ".join(group.devices[:20])
        names += tr(" and {count} more", count=len(group.devices) - 20) if len(group.devices) > 20 else ""
        lines += [
            "",
            f"**{entry.code} {title_of(entry.code)}** ({tr(entry.severity.value)}): {markdown_cell(names)}",
            "",
        ]
        lines += [f"- {markdown_cell(translated_sentence(text))}" for text, _ in group.seen[:5]]
        lines += [
            "- " + tr("{label}: {text}", label=tr(name), text=text)
            for name, text in zip(("why", "do"), advice(entry.code), strict=True)
        ]
    return "\n".join(lines) + "\n"


def markdown_cell(text: str) -> str:
    """Return a text of a device for a Markdown table: cleaned, on one line, without markup of its own."""
    cleaned = sanitize(text, LINE_LIMIT).replace("\n", " ")
    for character in "\\`*_[]<>|#":
        cleaned = cleaned.replace(character, f"\\{character}")
    return cleaned
