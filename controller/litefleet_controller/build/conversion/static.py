"""Findings against a conversion before it runs: operators, their forms, fp16.  The conversion itself decides."""

from __future__ import annotations

from litefleet_agent.findings import Certainty, Finding, finding

from .aborts import check_aborts
from .forms import BARE_CONV, BARE_CONV_STOPS, FORMS, KERNELLESS
from .opsets import unsupported, versions, versions_that_convert
from .preflight import SourceFacts, check_age

_MOST_NAMES = 8


def check_source_for(facts: SourceFacts, targets: str, opt_version: str, fp16: bool = False) -> list[Finding]:
    """Return the findings against converting this model for `targets` ("arm", "opencl,arm") with that Paddle-Lite.

    LF206 is certain when it comes from the converter's own table of operators.
    """
    known = _forms(facts, targets, opt_version)
    return [
        *_operators(facts, targets, opt_version),
        *_kernelless(facts, opt_version),
        *known,
        *check_aborts(facts.forms, targets),
        *([] if any(f.code == "LF204" for f in known) else check_age(facts, opt_version)),
        *(_fp16(facts) if fp16 else []),
    ]


def _operators(facts: SourceFacts, targets: str, opt_version: str) -> list[Finding]:
    lacking = unsupported(facts.ops, targets, opt_version)
    if not lacking:
        return []
    others = versions_that_convert(facts.ops, targets)
    observed = f"Paddle-Lite {opt_version} has no kernel on {targets} for {_counted(lacking, facts)}; "
    return [
        finding("LF206", observed + (f"{_any(others)} has." if others else f"nor has one of {', '.join(versions())}."))
    ]


def _kernelless(facts: SourceFacts, opt_version: str) -> list[Finding]:
    lacking = tuple(op for op, stops in KERNELLESS.items() if op in facts.ops and opt_version in stops)
    if not lacking:
        return []
    observed = f"Paddle-Lite {opt_version} knows {_counted(lacking, facts)} but has no CPU kernel for it."
    return [finding("LF206", observed, Certainty.LIKELY)]


def _forms(facts: SourceFacts, targets: str, opt_version: str) -> list[Finding]:
    found = []
    for form in FORMS:
        count = facts.forms.get(form.key, 0)
        if count and opt_version in form.stops:
            saved = f"PaddlePaddle {facts.paddle_version}" if facts.paddle_version else "this PaddlePaddle"
            observed = (
                f"{count} x {form.op} without the {form.part} {form.lacking}, as {saved} saves it; Paddle-Lite "
                f"{opt_version}'s converter stops at that{_else(form.stops)}."
            )
            found.append(finding("LF204", observed, Certainty.LIKELY))
    bare = facts.forms.get(BARE_CONV, 0)
    if bare and opt_version in BARE_CONV_STOPS and "arm" in targets.split(","):
        observed = (
            f"{BARE_CONV}, {bare} of them (nn.Conv1D with kernel 1): Paddle-Lite {opt_version}'s converter segfaults at it "
            "for arm; for x86 it does not."
        )
        found.append(finding("LF209", observed, Certainty.LIKELY))
    return found


def _fp16(facts: SourceFacts) -> list[Finding]:
    """Return LF404 (possible) for weights beyond fp16's range: they become infinite, and outputs NaN."""
    if not facts.beyond_fp16:
        return []
    named = ", ".join(f"{name} ({most:.6g})" for name, most in facts.beyond_fp16[:3])
    observed = f"fp16 holds numbers up to 65504; {len(facts.beyond_fp16)} of the weights are larger: {named}."
    return [finding("LF404", observed, Certainty.POSSIBLE)]


def _counted(ops: tuple[str, ...], facts: SourceFacts) -> str:
    named = ", ".join(f"{op} (x {facts.ops[op]})" for op in ops[:_MOST_NAMES])
    return f"{named} and {len(ops) - _MOST_NAMES} more" if len(ops) > _MOST_NAMES else named


def _any(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def _else(stops: tuple[str, ...]) -> str:
    fine = tuple(version for version in versions() if version not in stops)
    return (
        f"; {_any(fine)} does not (`toolchain: auto` takes it, for file and runtime together)"
        if fine
        else f", as {' and '.join(v for v in stops[1:])} do"
    )
