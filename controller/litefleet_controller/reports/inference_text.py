"""Writes the results of an inference for a terminal: an answer per line, comparisons, findings.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from litefleet_agent.findings import Verdict

from ..build.golden.files import Array
from ..common.text import sanitize
from ..infer.compare import Difference
from ..infer.report import CaseAnswer, DeviceAnswer, InferenceReport
from .terminal import Page, plural
from .values import human_ms, human_seconds, listed

_FEW = 8  # most numbers of an output that are all shown
_BY = {"service": "service", "one-shot": "worker"}


def inference_text(report: InferenceReport, width: int = 100, color: bool = False) -> str:
    """Return the answers, the comparisons and the findings, for a terminal `width` columns wide."""
    page = Page(width, color)
    rows = [row for answer in report.answers for row in _rows(answer)]
    page.table(("device", "input", "by", "ms", "answer"), rows, left=("device", "input", "by", "answer"))
    for line in _comparisons(report):
        page.line(line)
    page.findings((answer.device, found) for answer in report.answers for found in answer.outcome.findings)
    good = sum(answer.outcome.verdict is Verdict.VERIFIED for answer in report.answers)
    page.line()
    page.line(f"{good} of {plural(len(report.answers), 'device')} answered correctly", (f"   {_about(report)}", "dim"))
    for path in report.files:
        page.line(f"wrote {sanitize(path, 300)}")
    return page.text


def _about(report: InferenceReport) -> str:
    releases = sorted({answer.outcome.release[:12] for answer in report.answers if answer.outcome.release})
    of = f", release {', '.join(releases)}" if releases else ""
    return f"(infer {report.model}{of}, {human_seconds(report.seconds)})"


def _rows(answer: DeviceAnswer) -> Iterator[tuple[str, str, str, str, str]]:
    device = sanitize(answer.device, 80)
    if not answer.cases:
        yield device, "", "", "", f"{answer.outcome.verdict.value}: {sanitize(answer.sentence, 200)}"
    for case in answer.cases:
        yield device, sanitize(case.case, 40), _BY.get(answer.by, ""), human_ms(case.ms), _summary(case)


def _summary(case: CaseAnswer) -> str:
    if case.error:
        return f"none: {sanitize(case.error, 200)}"
    return "; ".join(f"{sanitize(name, 40)} {_shown(array)}" for name, array in case.outputs.items())


def _shown(array: Array) -> str:
    """Return an output in short: all numbers of a small one, the best of a row of scores, else the range and the mean."""
    dims = " x ".join(map(str, array.shape)) or "single"
    if array.size <= _FEW:
        return f"[{dims}]: {', '.join(f'{value:.6g}' for value in array.ravel().tolist())}"
    if array.ndim == 2 and array.shape[0] == 1:
        best = int(array.argmax())
        return f"[{dims}]: largest is number {best}, {array[0, best]:.6g}"
    return f"[{dims}]: {array.min():.6g} to {array.max():.6g}, mean {array.astype(np.float64).mean():.6g}"


def _comparisons(report: InferenceReport) -> Iterator[str]:
    for case in report.cases:
        if report.reference_engine:
            against = [d for d in report.differences if d.case == case and d.against == "reference"]
            yield from _line(
                case, f"the reference, {report.reference_engine}", against, "all outputs are within the tolerance of"
            )
        if case in report.majority:
            among = [d for d in report.differences if d.case == case and d.against != "reference"]
            yield from _among(case, report.majority, among)


def _among(case: str, majority: Mapping[str, str], among: list[Difference]) -> Iterator[str]:
    if not majority[case] and any(not d.agrees for d in among):
        yield f"{sanitize(case, 40)}: the devices differ, and no majority agrees."
        return
    yield from _line(case, sanitize(among[0].against, 80) if among else "", among, "all devices agree with")


def _line(case: str, whose: str, differences: list[Difference], agree: str) -> Iterator[str]:
    if not differences:
        return
    off = list(dict.fromkeys(d.device for d in differences if not d.agrees))
    if off:
        yield f"{sanitize(case, 40)}: {listed(tuple(off))} differ from {whose}."
        return
    most = max(d.found.figures()["max_abs"] for d in differences)
    how_far = f"the largest difference is {most:.2g}" if most else "the outputs are equal"
    yield f"{sanitize(case, 40)}: {agree} {whose}; {how_far}."
