"""Writes a plan as Markdown, for the comment of a pull or merge request.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from litefleet_agent.findings import Severity

from ..catalogue.articles import advice, title_of
from ..catalogue.translate import tr, translated, translated_sentence
from ..common.text import LINE_LIMIT, sanitize
from ..rollout_engine.plan import Effect, Plan, PlannedDevice
from .exports import markdown_cell
from .grouping import folded
from .plan_text import SITE_COLUMNS, WORDS, Group, alike, based_on, gate_lines, limit_lines, side, site_row
from .terminal import counted, plural
from .values import human_bytes

_MOST = 60_000  # characters; GitHub rejects a comment of more than 65,536
_NAMES = 20  # names or ranges shown of one group
_GROUPS = 30  # groups of like devices shown
_IN_THE_WAY: Mapping[Effect, str] = {
    "failed": "Failed",
    "blocked": "Blocked",
    "offline": "Offline",
    "unknown": "Unknown",
}


def plan_markdown(plan: Plan) -> str:
    """Return the plan as Markdown of at most 60,000 characters: counts, waves, changes, what is in the way, limits and gates."""
    lines = [
        *_head(plan),
        *_waves(plan),
        *_sites(plan),
        *_changes(plan),
        *_in_the_way(plan),
        *_unchanged(plan),
        *_limits(plan),
    ]
    kept, size = [], 0
    for line in lines:
        size += len(line) + 1
        if size > _MOST:
            kept += ["", "… " + tr("The rest is left out here; `litefleet plan` shows the whole plan.")]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _head(plan: Plan) -> Iterator[str]:
    counts = " · ".join(counted(count, WORDS[effect]) for effect, count in plan.counts.items())
    yield f"## litefleet plan: {markdown_cell(counts or tr('no devices'))}"
    yield ""
    devices = plural(len({p.row.device for p in plan.devices}), "device")
    sent = translated(f"{human_bytes(plan.bytes_total)} to send")
    about = [tr("fleet {name}", name=plan.fleet), devices, ", ".join(plan.models), sent, plan.created_at]
    yield markdown_cell(" · ".join(part for part in about if part))
    if plan.offline:
        yield ""
        yield markdown_cell(translated(based_on(plan)))


def _waves(plan: Plan) -> Iterator[str]:
    if not plan.waves:
        return
    yield from _heading("Waves")
    yield f"| {' | '.join(map(tr, ('wave', 'devices', 'to send', 'which')))} |"
    yield "| ---: | ---: | ---: | --- |"
    for index, wave in enumerate(plan.waves):
        sent = human_bytes(sum(p.bytes_to_send for p in plan.in_wave(index)))
        yield f"| {index + 1} | {wave.size:,} | {sent} | {markdown_cell(wave.spec)} |"


def _sites(plan: Plan) -> Iterator[str]:
    if not plan.sites:
        return
    yield from _heading("Sites")
    yield translated("large files travel there once, then from neighbour to neighbour")
    yield ""
    yield f"| {' | '.join(map(tr, SITE_COLUMNS))} |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for site in plan.sites[:_GROUPS]:
        name, kind, *figures = site_row(site)
        yield f"| {markdown_cell(name)} | {tr(kind)} | {' | '.join(figures)} |"
    if plan.sites[_GROUPS:]:
        yield ""
        yield translated(f"and {plural(len(plan.sites) - _GROUPS, 'more site')}")


def _changes(plan: Plan) -> Iterator[str]:
    groups = alike(_with(plan, "changes"))
    if groups:
        yield from _heading("Changes")
    for group in groups[:_GROUPS]:
        yield from _change(group)
    if groups[_GROUPS:]:
        rest = [name for group in groups[_GROUPS:] for name in group.names]
        yield markdown_cell(translated(f"and {plural(len(groups) - _GROUPS, 'more group')}: {folded(rest, _NAMES)}"))


def _change(group: Group) -> Iterator[str]:
    first, model = group.members[0], sanitize(group.members[0].row.model, 60)
    yield f"**{markdown_cell(folded(group.names, _NAMES))}** ({group.size})"
    yield ""
    yield "```diff"
    yield _code(f"- {model} {side(first.runs, first.runs_version, first.runs_artifact)}")
    yield _code(f"+ {model} {side(first.row.release, first.version, first.row.artifact, first.row.runtime)}")
    yield "```"
    if first.why:
        yield ""
        yield markdown_cell(translated(first.why))
    yield ""


def _in_the_way(plan: Plan) -> Iterator[str]:
    """Yield what a rollout cannot change now, by its findings, with what to do."""
    for effect, title in _IN_THE_WAY.items():
        devices = _with(plan, effect)
        if devices:
            yield from _heading(title)
            yield markdown_cell(folded((p.row.device for p in devices), _NAMES))
        seen: dict[str, dict[str, list[str]]] = {}
        for planned in devices:
            for found in planned.findings:
                if found.severity is Severity.ERROR:
                    seen.setdefault(found.code, {}).setdefault(found.observed, []).append(planned.row.device)
        for code, texts in seen.items():
            yield ""
            yield f"**{code} {title_of(code)}**"
            yield ""
            for text, names in list(texts.items())[:_NAMES]:
                said = translated_sentence(sanitize(text, LINE_LIMIT))
                yield f"- {markdown_cell(said)} — {markdown_cell(folded(names, _NAMES))}"
            yield f"- {tr('{label}: {text}', label=tr('do'), text=advice(code)[1])}"


def _unchanged(plan: Plan) -> Iterator[str]:
    same = _with(plan, "unchanged")
    if same:
        yield from _heading("Unchanged")
        yield markdown_cell(folded((p.row.device for p in same), _NAMES))


def _limits(plan: Plan) -> Iterator[str]:
    """Yield limits and gates, folded up: they seldom change."""
    yield ""
    yield f"<details><summary>{tr('Limits')}, {tr('Gates')}</summary>"
    yield ""
    for name, text in [*limit_lines(plan.policy), *gate_lines(plan.policy)]:
        shown = translated(sanitize(text, LINE_LIMIT))
        yield f"- {tr('{label}: {text}', label=markdown_cell(translated(name)), text=markdown_cell(shown))}"
    yield ""
    yield "</details>"


def _with(plan: Plan, effect: Effect) -> list[PlannedDevice]:
    return [planned for planned in plan.devices if planned.effect == effect]


def _heading(title: str) -> tuple[str, str, str]:
    return "", f"### {tr(title)}", ""


def _code(text: str) -> str:
    """Return a line of a fenced block, which nothing in it ends."""
    return text.replace("`", "'")
