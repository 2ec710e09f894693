"""Diagnoses for a terminal: facts, what works, findings in order of importance with what to do."""

from __future__ import annotations

from collections.abc import Sequence

from litefleet_agent.findings import Certainty, Finding, Severity

from ..catalogue.articles import advice, title_of
from ..catalogue.language import current_lang, in_lang
from ..catalogue.translate import tr, translated_sentence
from ..catalogue.words import words
from ..reports.terminal import Page, finding_labels, plural
from .diagnosis import Diagnosis, Kind

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_KINDS = {
    Kind.NB: "Paddle-Lite file",
    Kind.SOURCE: "PaddlePaddle model",
    Kind.WHEEL: "wheel",
    Kind.RUNTIME: "Paddle-Lite runtime",
    Kind.LIBRARY: "library",
    Kind.LOG: "log",
    Kind.HOST: "",
    Kind.DEVICE: "device",
    Kind.PAIR: "together",
    Kind.UNKNOWN: "",
}
_LABEL = 24  # columns


def to_text(diagnoses: Sequence[Diagnosis], width: int = 100, color: bool = False) -> str:
    """Return all diagnoses, and at the end the finding to begin with."""
    page = Page(width, color)
    for index, diagnosis in enumerate(diagnoses):
        if index:
            page.line("")
        _one(page, diagnosis)
    page.line("")
    _last(page, diagnoses)
    return page.text


def _one(page: Page, diagnosis: Diagnosis) -> None:
    kind = _KINDS[diagnosis.kind]
    page.line((diagnosis.subject, "bold"), (f"   {kind}" if kind else "", "dim"))
    widest = max((len(fact.label) for fact in diagnosis.facts), default=0)
    for fact in diagnosis.facts:
        page.field(fact.label, fact.text, min(widest, _LABEL))
    for sentence in diagnosis.works:
        page.field("ok", sentence, 2, 2, "green")
    for found in diagnosis.ranked:
        _finding(page, found)


def _finding(page: Page, found: Finding) -> None:
    page.line("")
    said = words(current_lang())
    sure = "" if found.certainty is Certainty.CERTAIN else f", {said.certainties[found.certainty.value]}"
    head = (
        f"{said.severities[found.severity.value]} {found.code} {title_of(found.code)}",
        _STYLES[found.severity],
    )
    page.line("  ", head, (sure, "dim"))
    for label, text in zip(finding_labels(), (translated_sentence(found.observed), *advice(found.code)), strict=True):
        page.field(label, text, 4, 4)


def _last(page: Page, diagnoses: Sequence[Diagnosis]) -> None:
    """Print the counts and the finding to begin with."""
    found = [f for d in diagnoses for f in d.findings]
    if any(d.kind is Kind.NB and not d.data.get("for") for d in diagnoses) and not _placed(diagnoses):
        page.line(tr("where will it run? add `--for aarch64` or `--limit DEVICE` to judge it for that place"))
    if not found and any(d.kind is Kind.LOG for d in diagnoses):
        page.line(tr("no known failure was recognised; the program can have failed all the same"))
        return
    if not found:
        page.line((in_lang("nothing wrong was found", "没有发现问题"), "green"))
        return
    counts = {severity: sum(f.severity is severity for f in found) for severity in reversed(Severity)}
    said = words(current_lang())
    summary = said.comma.join(
        in_lang(plural(n, severity.value), f"{n:,} 个{said.severities[severity.value]}")
        for severity, n in counts.items()
        if n
    )
    first = next(f for severity in reversed(Severity) for d in diagnoses for f in d.ranked if f.severity is severity)
    if first.severity is Severity.NOTE:
        page.line(summary, (in_lang("; nothing that must be done", "；没有必须处理的"), "green"))
    else:
        steps = f"`litefleet explain {first.code}`"
        page.line(
            (summary, "bold"),
            in_lang(f"; begin with {first.code}: {steps} has the steps", f"；先处理 {first.code}：{steps} 给出步骤"),
        )


def _placed(diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether a file was judged with a place or another file."""
    return any(d.kind is Kind.PAIR for d in diagnoses)
