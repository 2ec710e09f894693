"""Writes the advice for a terminal: the fewest files, the file of each device and the reason, and possible changes.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from litefleet_agent.findings import Severity

from ..advise.kinds import Origin
from ..advise.options import Option, Possible
from ..advise.summary import Advice, KindAdvice, OptionBenchmark
from ..advise.variants import Placement, PlacementStatus
from ..common.text import LINE_LIMIT, sanitize
from .charts.accuracy import share
from .grouping import folded
from .terminal import Page, plural
from .values import human_bytes, human_moment, human_ms, human_span

_GROUPS = 60  # groups of like devices shown
_NAMES = 20  # names or ranges shown of one group
_STYLES = {
    Possible.IN_USE: "green",
    Possible.YES: "green",
    Possible.NEEDS: "yellow",
    Possible.UNKNOWN: "yellow",
    Possible.NO: "dim",
}


def advice_text(advice: Advice, width: int = 100, color: bool = False) -> str:
    """Return the advice for a terminal `width` columns wide; with `color` it holds ANSI colours, else none."""
    page = Page(width, color)
    for model in advice.models:
        _head(page, advice, model)
    _files(page, advice)
    _devices(page, advice)
    _problems(page, advice)
    _facts(page, advice)
    _benchmarks(page, advice.benchmarks)
    _kinds(page, advice)
    _options(page, advice)
    if advice.notes:
        page.heading("Not examined")
        for note in advice.notes:
            page.line(sanitize(note, 1000), indent=2)
    return page.text


def _head(page: Page, advice: Advice, model: str) -> None:
    """Print in one line how many files are enough."""
    rows = [p for p in advice.placements if p.model == model]
    files = [f for f in advice.files if f.model == model]
    served = sum(len(f.devices) for f in files)
    verb = "is" if len(files) == 1 else "are"
    message = (
        f"{plural(len(files), 'file')} {verb} enough for {plural(served, 'device')}" if files else "no file is needed"
    )
    rest = [
        f"{count:,} {words}"
        for status, words in (
            (PlacementStatus.NO_RUNTIME, "of them without a suitable runtime"),
            (PlacementStatus.EXCLUDED, "excluded"),
            (PlacementStatus.UNKNOWN, "never seen"),
        )
        if (count := sum(p.status is status for p in rows))
    ]
    page.line((f"{sanitize(model, 60)}: ", "bold"), message + (f" ({', '.join(rest)})" if rest else ""))


def _files(page: Page, advice: Advice) -> None:
    if not advice.files:
        return
    page.heading("Files")
    rows = [
        (
            sanitize(one.model, 40),
            one.file.sha256[:12],
            sanitize(one.file.label, 40),
            human_bytes(one.file.size),
            f"{len(one.devices):,}",
            ", ".join(one.arches),
            sanitize(", ".join(one.parts), 160),
        )
        for one in advice.files
    ]
    head = ("model", "file", "variant", "size", "devices", "architectures", "CPU parts")
    page.table(head, rows, left=("model", "file", "variant", "architectures", "CPU parts"))


def _devices(page: Page, advice: Advice) -> None:
    """Print the file of each device; like devices share a line."""
    groups: dict[tuple[str, str, str, str], list[Placement]] = {}
    for one in advice.placements:
        taken = one.file.sha256[:12] if one.file else "none"
        groups.setdefault((one.model, taken, one.status.value, one.why), []).append(one)
    page.heading("Devices")
    shown = sorted(groups.items(), key=lambda item: -len(item[1]))
    rows = [
        (sanitize(model, 40), folded((p.device for p in members), _NAMES), taken, status, _named(members, why))
        for (model, taken, status, why), members in shown[:_GROUPS]
    ]
    page.table(("model", "devices", "file", "status", "why"), rows, left=("model", "devices", "file", "status", "why"))
    if len(shown) > _GROUPS:
        page.line(f"and {plural(len(shown) - _GROUPS, 'more group')}: --json has them all", indent=2)


def _named(members: Sequence[Placement], why: str) -> str:
    """Return the reason, with the code of the deciding finding where there is one."""
    errors = [f.code for f in members[0].findings if f.severity is Severity.ERROR]
    known = members[0].status is PlacementStatus.NO_RUNTIME and errors
    return sanitize(f"{why} ({errors[0]})" if known else why, LINE_LIMIT)


def _problems(page: Page, advice: Advice) -> None:
    bad = [p for p in advice.placements if p.status in (PlacementStatus.EXCLUDED, PlacementStatus.NO_RUNTIME)]
    pairs = dict.fromkeys((p.device, f) for p in bad for f in p.findings if f.severity is Severity.ERROR)
    if pairs:
        page.heading("Obstacles")
        page.findings(pairs)


def _facts(page: Page, advice: Advice) -> None:
    """Print the source of each device's facts, unless all devices answered in this run."""
    by_device = {p.device: p.device_report for p in advice.placements}
    old = {name: device_report for name, device_report in by_device.items() if device_report.origin is not Origin.PROBE}
    if not old:
        return
    page.heading("Source of the facts")
    words = {
        Origin.REPORT: "a saved probe report",
        Origin.STATE: "the state database",
        Origin.NONE: "none: never seen",
    }
    if len(old) < len(by_device):
        page.line(f"probed in this run: {plural(len(by_device) - len(old), 'device')}", indent=2)
    groups: dict[tuple[Origin, str], list[str]] = {}
    for name, device_report in old.items():
        age = (
            f", {human_moment(device_report.seen_at)}, {human_span(advice.now - device_report.seen_at)} ago"
            if device_report.seen_at
            else ""
        )
        groups.setdefault((device_report.origin, age), []).append(name)
    for (origin, age), names in groups.items():
        page.line(f"{words[origin]}{age}: {folded(names, _NAMES)}", indent=2)


def _benchmarks(page: Page, benchmarks: Sequence[OptionBenchmark]) -> None:
    if not benchmarks:
        return
    page.heading("Measured on this machine", "x86_64, compared with the goldens, one process each")
    scored = any(one.accuracy is not None for one in benchmarks)
    rows = [
        (
            sanitize(one.model, 40),
            one.version,
            one.option,
            f"{one.verdict}{f' ({one.code})' if one.code else ''}",
            "–" if one.max_abs is None else f"{one.max_abs:.2g}",
            human_bytes(one.size) if one.size else "–",
            human_ms(one.load_ms),
            human_ms(one.run_ms),
            *([share(one.accuracy)] if scored else []),
        )
        for one in benchmarks
    ]
    head = ["model", "Paddle-Lite", "option", "verdict", "max abs error", "size", "load", "run"]
    head += ["accuracy"] if scored else []
    page.table(head, rows, left=("model", "Paddle-Lite", "option", "verdict"))
    references = {one.model: one.reference for one in benchmarks if one.reference is not None}
    for model, score in references.items():
        page.line(f"{sanitize(model, 40)}: the reference engine's accuracy on the data set is {share(score)}", indent=2)
    for message in dict.fromkeys(f"{t.version}, {t.option}: {t.sentence}" for t in benchmarks if t.sentence):
        page.line(sanitize(message, LINE_LIMIT), indent=2)


def _kinds(page: Page, advice: Advice) -> None:
    """Print the kinds of devices, and what was verified on each."""
    if not advice.kinds:
        return
    page.heading("Kinds of devices")
    rows = [
        (
            sanitize(one.kind.name, 120),
            f"{len(one.devices):,}",
            sanitize(one.kind.runtime, 60) or "none suitable",
            sanitize(_proven(one), 300),
        )
        for one in advice.kinds[:_GROUPS]
    ]
    page.table(
        ("CPU part", "devices", "runtime", "verified there"), rows, left=("CPU part", "runtime", "verified there")
    )


def _proven(one: KindAdvice) -> str:
    message = [f"{p.model} {p.label} ({p.opt_version}) on {plural(p.devices, 'device')}" for p in one.proofs]
    return ", ".join(message) or "no verification on this part yet"


def _options(page: Page, advice: Advice) -> None:
    """Print each option once with the kinds of devices that can use it, the most useful option first."""
    by_name: dict[str, list[tuple[KindAdvice, Option]]] = {}
    for kind in advice.kinds:
        for option in kind.options:
            by_name.setdefault(option.name, []).append((kind, option))
    if not by_name:
        return
    page.heading("Possible changes", "the most useful first; this command changes nothing")
    for pairs in sorted(by_name.values(), key=_use, reverse=True):
        page.line()
        _option(page, pairs)


def _use(pairs: Sequence[tuple[KindAdvice, Option]]) -> tuple[int, int]:
    """Return the rank of an option: its usual gain, then the number of devices that can use it."""
    open_to = [(kind, option) for kind, option in pairs if option.possible is not Possible.NO]
    best = max((option.use for _, option in open_to), default=-1)
    return best, sum(len(kind.devices) for kind, _ in open_to)


def _option(page: Page, pairs: Sequence[tuple[KindAdvice, Option]]) -> None:
    page.line((pairs[0][1].name, "bold"))
    answers: dict[tuple[Possible, str], list[str]] = {}
    for kind, option in pairs:
        answers.setdefault((option.possible, option.because), []).append(kind.kind.name)
    for (possible, because), names in sorted(answers.items(), key=lambda item: list(Possible).index(item[0][0])):
        shown = sanitize(", ".join(dict.fromkeys(names)), 300)
        page.line((possible.value, _STYLES[possible]), f": {shown}: {because}", indent=2)
    open_to = [option for _, option in pairs if option.possible is not Possible.NO]
    if not open_to:
        return
    first = open_to[0]
    page.field("gain", first.gain, 8, 4)
    page.field("risk", first.risk, 8, 4)
    for one in first.evidence:
        page.field("evidence", f"{one.level.value}: {one.text}", 8, 4)
    for do in dict.fromkeys(option.do for option in open_to if option.do):
        page.field("do", do, 8, 4)
    if left := _left_behind(pairs):
        page.field("caution", left, 8, 4)


def _left_behind(pairs: Sequence[tuple[KindAdvice, Option]]) -> str:
    """Return which devices an option would exclude: litefleet.yaml's options apply to a whole architecture."""
    arches = {kind.kind.arch for kind, option in pairs if option.possible is not Possible.NO}
    out = [kind for kind, option in pairs if option.possible is Possible.NO and kind.kind.arch in arches]
    if not out:
        return ""
    names = folded((name for kind in out for name in kind.devices), _NAMES)
    return (
        f"options apply to a whole architecture, and {names} would be refused. "
        "Add a second model with this option, and set `model:` on the devices that can use it."
    )
