"""The report as Markdown, for an issue, a merge request or a CI job's summary."""

from __future__ import annotations

import re

from ..common.text import clean
from ..devices.outcome import RunReport
from .values import arch_name, counts_line, human_ms, human_seconds, latency_of, listed, rollout_lines, shared_findings

__all__ = ["to_markdown"]


def _cell(text: object, limit: int = 200) -> str:
    """Return text that Markdown shows as it is: no markup, no HTML, no link, no table cell of its own."""
    escaped = re.sub(r"([\\`*_{}\[\]()#|~!$])", r"\\\1", clean(text, limit))
    html_escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return html_escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # no automatic links either


def to_markdown(report: RunReport) -> str:
    """Return a headline with the counts, the table of devices, and each finding once."""
    lines = [f"## litefleet {_cell(report.command, 40)}: {counts_line(report)}", ""]
    for text in rollout_lines(report):
        lines += [_cell(text, 1200), ""]
    lines += [f"{_cell(report.started_at, 40)}, {human_seconds(report.seconds)}", ""]
    if report.outcomes:
        lines += ["| device | arch | model | verdict | why | p50 |", "| --- | --- | --- | --- | --- | ---: |"]
    for outcome in report.outcomes:
        latency = latency_of(outcome)
        cells = (outcome.device, arch_name(outcome) or "–", outcome.model, outcome.verdict.value, outcome.sentence)
        lines.append(f"| {' | '.join(map(_cell, cells))} | {human_ms(latency.p50) if latency else '–'} |")
    for group in shared_findings(report):
        lines += ["", f"### {group.entry.code} {group.entry.slug}", ""]
        lines += [f"- {_cell(seen, 400)} — {_cell(listed(names), 2000)}" for seen, names in group.seen[:5]]
        lines += ["", f"Why: {_cell(group.entry.why, 1000)}", "", f"Do: {_cell(group.entry.do, 1000)}"]
    return "\n".join(lines) + "\n"
