"""A bench's answer for whoever is logged in on the device.  Pure."""

from typing import Any, Dict, Iterator, List, Mapping

from ..ranks import median
from .pairs import sentence

__all__ = ["lines"]

_RANKS = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))


def lines(answer: Mapping[str, Any]) -> List[str]:
    """Return the answer (see run) in lines."""
    told = [line for release in answer["releases"] for line in _release(answer["model"], release)]
    told += [_cell(cell, len(answer["releases"]) > 1) for cell in answer["cells"]]
    if answer["comparison"]:
        first, second = (release["release"][:12] for release in answer["releases"])
        told.append(sentence(answer["comparison"], first, second))
    for found in answer["findings"]:
        told.append("%s %s %s" % (found["code"], found["seen"], found["do"]))
    return told + list(answer["notes"])


def _release(model: str, told: Mapping[str, Any]) -> Iterator[str]:
    right = {True: "computes what its goldens say", False: "computes WRONG", None: "was not measured to the end"}[
        told["right"]
    ]
    yield "%s %s: %s" % (model, told["release"][:12], right)
    cold, memory, warm = told["cold"], told["memory"], told.get("warm", {})
    if cold:
        again = [start["total_ms"] for start in cold["again"]]
        later = ", then %s" % _ms(median(again)) if again else ""
        yield "  cold    %s the first time%s, until the first answer" % (_ms(cold["first"]["total_ms"]), later)
    if warm:
        ranks = ", ".join("%s %s" % (name, _ms(warm[key])) for name, key in _RANKS)
        yield "  warm    %s; %d runs, %.4g a second" % (ranks, warm["runs"], told["runs_per_s"])
    if memory.get("peak"):
        yield "  memory  at most %.1f MB%s" % (memory["peak"] / 1e6, _growth(told.get("growth", {})))
    if told.get("heat"):
        yield "  heat    %(first).0f to %(last).0f degrees Celsius, %(per_minute)+.2g a minute" % told["heat"]


def _growth(growth: Dict[str, float]) -> str:
    words = (("per_1000_runs", "per 1,000 runs"), ("per_hour", "per hour"))
    return "".join(", %+.3g MB %s" % (growth[key] / 1e6, text) for key, text in words if key in growth)


def _cell(cell: Mapping[str, Any], named: bool) -> str:
    name = " of %s" % cell["release"][:12] if named else ""
    threads = "%d threads" % cell["threads"] if cell["threads"] else "its usual threads"
    who = "  %d at once%s, with %s: " % (cell["workers"], name, threads)
    if "skipped" in cell:
        return who + "not measured, %s" % cell["skipped"]
    return who + "%.4g runs a second, p50 %s" % (cell["runs_per_s"], _ms(cell["latency"]["p50"]))


def _ms(value: float) -> str:
    return "%.3g ms" % value if value < 1000 else "%.3g s" % (value / 1000)
