"""A bench's answer for whoever is logged in on the device.  Pure."""

from typing import Any, Dict, Iterator, List, Mapping

from ..verification.golden_cases import median
from .statistics import sentence

__all__ = ["caveats_of", "lines"]


_RANKS = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))


def lines(answer: Mapping[str, Any]) -> List[str]:
    """Return the answer (see run) in lines."""
    output = [line for release in answer["releases"] for line in _release(answer["model"], release)]
    output += [_cell(cell, len(answer["releases"]) > 1) for cell in answer["cells"]]
    if answer["comparison"]:
        first, second = (release["release"][:12] for release in answer["releases"])
        output.append(sentence(answer["comparison"], first, second))
    for found in answer["findings"]:
        output.append("%s %s %s" % (found["code"], found["seen"], found["do"]))
    return output + list(answer["notes"])


def _release(model: str, release: Mapping[str, Any]) -> Iterator[str]:
    right = {True: "computes what its goldens say", False: "computes WRONG", None: "was not measured to the end"}[
        release["right"]
    ]
    yield "%s %s: %s" % (model, release["release"][:12], right)
    cold, memory, warm = release["cold"], release["memory"], release.get("warm", {})
    if cold:
        again = [start["total_ms"] for start in cold["again"]]
        later = ", then %s" % _ms(median(again)) if again else ""
        yield "  cold    %s the first time%s, until the first answer" % (_ms(cold["first"]["total_ms"]), later)
    if warm:
        ranks = ", ".join("%s %s" % (name, _ms(warm[key])) for name, key in _RANKS)
        yield "  warm    %s; %d runs, %.4g a second" % (ranks, warm["runs"], release["runs_per_s"])
    if memory.get("peak"):
        yield "  memory  at most %.1f MB%s" % (memory["peak"] / 1e6, _growth(release.get("growth", {})))
    if release.get("heat"):
        yield "  heat    %(first).0f to %(last).0f degrees Celsius, %(per_minute)+.2g a minute" % release["heat"]


def _growth(growth: Dict[str, float]) -> str:
    words = (("per_1000_runs", "per 1,000 runs"), ("per_hour", "per hour"))
    return "".join(", %+.3g MB %s" % (growth[key] / 1e6, text) for key, text in words if key in growth)


def _cell(cell: Mapping[str, Any], named: bool) -> str:
    name = " of %s" % cell["release"][:12] if named else ""
    threads = "%d threads" % cell["threads"] if cell["threads"] else "its usual threads"
    label = "  %d at once%s, with %s: " % (cell["workers"], name, threads)
    if "skipped" in cell:
        return label + "not measured, %s" % cell["skipped"]
    return label + "%.4g runs a second, p50 %s" % (cell["runs_per_s"], _ms(cell["latency"]["p50"]))


def _ms(value: float) -> str:
    return "%.3g ms" % value if value < 1000 else "%.3g s" % (value / 1000)


_BUSY = 0.1  # of the CPU, by other programs
_FEW = {"p99": 100, "p99.9": 1000}  # runs, below which a rank is just one of the slowest


def caveats_of(answer: Mapping[str, Any]) -> List[str]:
    """Return sentences about an answer of the bench (see run), each once."""
    found = [note for release in answer["releases"] for note in _of_release(release)]
    if answer["low_priority"]:
        found.append("Measured at low priority: whatever else ran went first.")
    return list(dict.fromkeys(found))


def _of_release(release: Mapping[str, Any]) -> Iterator[str]:
    if release["threads_set_by"] == "environment":
        yield (
            "This Paddle-Lite has no set_threads: threads were asked for by OpenMP's variables; "
            "the CPUs kept busy show whether that counted."
        )
    if release["cases_left_out"]:
        left = release["cases_left_out"]
        yield "%d of the golden cases were left out: a predictor keeps to inputs of one size." % left
    if (release.get("others") or 0.0) >= _BUSY:
        tens = round(release["others"] * 10) * 10  # in tens, so that a fleet's sentences are alike
        yield "Other programs used about %d %% of the CPU meanwhile: alone, it is quicker." % tens
    runs = release.get("warm", {}).get("runs", 0)
    few = [rank for rank, least in _FEW.items() if 0 < runs < least]
    if few:
        yield "There were %d runs: %s little." % (runs, " and ".join(few) + (" says" if len(few) == 1 else " say"))
    yield from _of_sensors(release.get("series", {}))


def _of_sensors(series: Dict[str, List[Any]]) -> Iterator[str]:
    names = {"temperature": "no temperature", "frequency": "no clock rate"}
    silent = [words for name, words in names.items() if name in series and not any(series[name])]
    if silent:
        yield "The kernel tells %s: throttling can't be seen here." % " and ".join(silent)
