"""Precision and recall of the diagnosis over the corpus of tests/diagnosis, and how long inspect and doctor take.

    python bench/diagnosis.py

A finding counts when it is above a note, or when the case asks for that note.  Per case and code: expected and found is a hit,
expected and not found a miss, found and not expected a false alarm.  Precision = hits / (hits + false alarms), recall =
hits / (hits + misses).  "First" is the share of failures whose most important finding is the expected one.
Times are of whole processes, files and caches warm: median of seven.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from litefleet_agent.findings import Severity  # noqa: E402

from tests.conftest import lite_environment, published_wheel, raw_nb, source_models  # noqa: E402
from tests.diagnosis.corpus import BAD, GOOD, Case  # noqa: E402

REPEATS = 7


def counted(case: Case) -> tuple[set[str], set[str], bool]:
    """Return the codes expected, those found, and whether the first is the expected one."""
    found = case.look()
    reported = [f.code for f in found if f.severity is not Severity.NOTE or f.code in case.notes]
    wanted = {*case.codes, *case.notes}
    first = bool(reported) and reported[0] == (case.codes or case.notes)[0] if wanted else not reported
    return wanted, set(reported), first


def corpus() -> None:
    hits = misses = false = 0
    first = 0
    for case in (*BAD, *GOOD):
        wanted, reported, is_first = counted(case)
        hits, misses, false = (
            hits + len(wanted & reported),
            misses + len(wanted - reported),
            false + len(reported - wanted),
        )
        first += is_first if case in BAD else 0
        if wanted != reported:
            print(
                f"  {case.row:2} {case.name}: missed {sorted(wanted - reported)}, too many {sorted(reported - wanted)}"
            )
    by_how = {how: sum(c.how == how for c in BAD) for how in ("real", "quoted", "fixture")}
    print(f"{len(BAD)} failures in {len({c.row for c in BAD if c.row})} rows ({by_how}), {len(GOOD)} good combinations")
    print(
        f"precision {hits / (hits + false):.3f} ({false} false alarms), recall {hits / (hits + misses):.3f} ({misses} misses)"
    )
    print(f"most important finding first: {first} of {len(BAD)}")


def seconds(*argv: object) -> float:
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        subprocess.run([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def times() -> None:
    litefleet = Path(sys.executable).parent / "litefleet"
    lite_environment()
    print(f"litefleet --help: {seconds(litefleet, '--help'):.2f} s")
    for model in ("cls", "rec", "det"):
        file = raw_nb(model, "arm")
        size = file.stat().st_size / 1e6
        inspect = seconds(litefleet, "inspect", file, "--for", "aarch64")
        doctor = seconds(litefleet, "doctor", file, "--for", "aarch64")
        source = seconds(litefleet, "doctor", source_models()[model])
        print(
            f"{model} ({size:.1f} MB): inspect {inspect:.2f} s, doctor {doctor:.2f} s; its source model: doctor {source:.2f} s"
        )
    wheel = published_wheel("paddlelite", "2.13rc0", "310")
    print(f"wheel ({wheel.stat().st_size / 1e6:.0f} MB): doctor {seconds(litefleet, 'doctor', wheel):.2f} s")


if __name__ == "__main__":
    corpus()
    times()
