"""What has to be said beside a bench's figures, so that nobody reads more from them than they tell.  Pure."""

from typing import Any, Dict, Iterator, List, Mapping

__all__ = ["notes_of"]

_BUSY = 0.1  # of the CPU, by other programs
_FEW = {"p99": 100, "p99.9": 1000}  # runs, below which a rank is just one of the slowest


def notes_of(answer: Mapping[str, Any]) -> List[str]:
    """Return sentences about an answer of the bench (see run), each once."""
    found = [note for told in answer["releases"] for note in _of_release(told)]
    if answer["low_priority"]:
        found.append("Measured at low priority: whatever else ran went first.")
    return list(dict.fromkeys(found))


def _of_release(told: Mapping[str, Any]) -> Iterator[str]:
    if told["threads_set_by"] == "environment":
        yield (
            "This Paddle-Lite has no set_threads: threads were asked for by OpenMP's variables; "
            "the CPUs kept busy show whether that counted."
        )
    if told["cases_left_out"]:
        left = told["cases_left_out"]
        yield "%d of the golden cases were left out: a predictor keeps to inputs of one size." % left
    if (told.get("others") or 0.0) >= _BUSY:
        tens = round(told["others"] * 10) * 10  # in tens, so that a fleet's sentences are alike
        yield "Other programs used about %d %% of the CPU meanwhile: alone, it is quicker." % tens
    runs = told.get("warm", {}).get("runs", 0)
    few = [rank for rank, least in _FEW.items() if 0 < runs < least]
    if few:
        yield "There were %d runs: %s little." % (runs, " and ".join(few) + (" says" if len(few) == 1 else " say"))
    yield from _of_sensors(told.get("series", {}))


def _of_sensors(series: Dict[str, List[Any]]) -> Iterator[str]:
    names = {"temperature": "no temperature", "frequency": "no clock rate"}
    silent = [words for name, words in names.items() if name in series and not any(series[name])]
    if silent:
        yield "The kernel tells %s: throttling can't be seen here." % " and ".join(silent)
