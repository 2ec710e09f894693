"""Writes a run's report for other programs: CSV for a spreadsheet, JUnit XML for CI, Markdown for a merge request.  Pure."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

from litefleet_agent.findings import Verdict

from ..common.checked import mapping_or_empty, sequence_or_empty
from ..common.text import LINE_LIMIT, sanitize
from ..devices.outcome import DeviceOutcome, RunReport, release_name
from .values import (
    arch_name,
    brought_lines,
    counts_line,
    human_ms,
    human_seconds,
    latency_of,
    rollout_lines,
    shared_findings,
)

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
_NOT_RUN = "not begun"


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
            outcome.sentence,
            " ".join(dict.fromkeys(f.code for f in outcome.findings)),
            f"{latency.p50:.3f}" if latency else "",
            str(outcome.sent_bytes),
            f"{sum(outcome.steps.values()):.3f}" if outcome.steps else "",
        )
        writer.writerow([cell_text(cell) for cell in cells])
    for device, model, state in not_begun(report):
        writer.writerow([cell_text(device), cell_text(model), "", "", "", cell_text(state), _NOT_RUN, "", "", "0", ""])
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
            message = _xml(outcome.sentence)
            failure = ElementTree.SubElement(case, "failure", type=outcome.verdict.value, message=message)
            failure.text = _xml("\n".join(_lines(outcome)))
    for device, model, state in waiting:
        ElementTree.SubElement(_case(suite, device, model, 0.0), "skipped", message=_xml(f"{_NOT_RUN}: {state}"))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, device: str, model: str, seconds: float) -> ElementTree.Element:
    name = _xml(model or "device")
    return ElementTree.SubElement(suite, "testcase", classname=_xml(device), name=name, time=f"{seconds:.3f}")


def _lines(outcome: DeviceOutcome) -> list[str]:
    return [
        f"{f.code} {f.entry.slug}: {sanitize(f.observed, LINE_LIMIT)}\n  do: {f.entry.do}" for f in outcome.findings
    ]


def _xml(text: str) -> str:
    """Return a text without characters that XML has no form for."""
    return "".join(c if c in "\n\t" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE else "?" for c in text)


def to_markdown(report: RunReport) -> str:
    """Return the report as Markdown: the head, the counts, a table of devices, the findings."""
    lines = [f"## litefleet {_md(report.command)}: {_md(counts_line(report))}", ""]
    about = [report.started_at, human_seconds(report.seconds)]
    about += [f"fleet {report.fleet}"] if report.fleet else []
    about += [f"by {report.by}"] if report.by else []
    about += [f"{model} {', '.join(versions)}" for model, versions in report.versions.items()]
    lines += [
        _md(" · ".join(about)),
        "",
        *(f"{_md(line)}  " for line in [*rollout_lines(report), *brought_lines(report)]),
        "",
    ]
    lines += ["| device | model | version | verdict | why | p50 |", "| --- | --- | --- | --- | --- | ---: |"]
    for outcome in report.outcomes:
        latency = latency_of(outcome)
        runs = release_name(outcome.release, outcome.version) if outcome.release else "–"
        cells = (outcome.device, outcome.model, runs, outcome.verdict.value, outcome.sentence)
        p50 = human_ms(latency.p50) if latency else "–"
        lines.append("| " + " | ".join([*(_md(cell) for cell in cells), p50]) + " |")
    lines += [
        f"| {_md(device)} | {_md(model)} | – | {_md(state)} | {_NOT_RUN} | – |"
        for device, model, state in not_begun(report)
    ]
    for group in shared_findings(report):
        entry = group.entry
        names = ", ".join(group.devices[:20]) + (
            f" and {len(group.devices) - 20} more" if len(group.devices) > 20 else ""
        )
        lines += ["", f"**{entry.code} {entry.slug}** ({entry.severity.value}): {_md(names)}", ""]
        lines += [f"- {_md(text)}" for text, _ in group.seen[:5]]
        lines += [f"- why: {entry.why}", f"- do: {entry.do}"]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    """Return a text of a device for a Markdown table: cleaned, on one line, without markup of its own."""
    cleaned = sanitize(text, LINE_LIMIT).replace("\n", " ")
    for character in "\\`*_[]<>|#":
        cleaned = cleaned.replace(character, f"\\{character}")
    return cleaned
