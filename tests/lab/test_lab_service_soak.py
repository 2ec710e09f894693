"""The service for twenty minutes under constant load, with another release every few minutes: nothing lost, nothing grown.

LITEFLEET_SOAK_S sets another duration, in seconds.  Memory counts as flat when the line through the last two thirds of its
samples rises by less than 2 MiB or 3 percent over that time, whichever is more: the daemon's by the clock, a worker's in each
of its lives.  Only moments at which one generation of workers is there are compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from litefleet_agent.bench.trends import slope

from tests.conftest import lacking
from tests.lab.containers import why_not_booted
from tests.lab.service_load import asking
from tests.lab.service_machine import Resident, resident

DURATION_S = float(os.environ.get("LITEFLEET_SOAK_S", "1200"))
SWITCH_S = min(180.0, DURATION_S / 5)  # the health window and a few samples must fit in: 4 minutes at the least
SAMPLE_S = 2.0
_MB = 1 << 20

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(int(DURATION_S) + 600)]


@dataclass(frozen=True)
class Sample:
    """The service at a moment."""

    at: float  # seconds since the first
    daemon: int  # resident bytes
    fds: int
    threads: int  # of both processes
    worker: int  # process
    worker_bytes: int
    runs: int


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    if reason := why_not_booted():
        lacking(reason)
    with resident(tmp_path_factory.mktemp("lab")) as lab:
        lab.configure(health_window_s=10.0, check_every_s=20.0)
        yield lab


def sample(lab: Resident, begun: float) -> Sample | None:
    """Return how the service is, None while it goes over from one release to another."""
    status: dict[str, Any] = lab.status()
    model = status["models"]["cls"]
    if model["incoming"] or model["before"] or len(model["workers"]) != 1:
        return None
    (worker,) = model["workers"]
    threads = int(lab.ssh(f"ls /proc/{status['pid']}/task /proc/{worker['pid']}/task | grep -c '^[0-9]'"))
    figures = (status["rss_bytes"], status["fds"], threads, worker["pid"], worker["rss_bytes"], worker["runs"])
    return Sample(time.monotonic() - begun, *figures)


def grown(points: Sequence[tuple[float, float]]) -> float:
    """Return by how many MiB the line through the last two thirds of (x, bytes) rises."""
    late = points[len(points) // 3 :]
    return slope(late) * (late[-1][0] - late[0][0]) / _MB


def flat(what: str, points: Sequence[tuple[float, float]]) -> bool:
    """Say in figures how memory went, and return whether it stayed what it was."""
    sizes = [size / _MB for _, size in points]
    rise = grown(points)
    print(f"{what}: {min(sizes):.1f} to {max(sizes):.1f} MiB, {len(points)} samples, the line rises by {rise:+.2f} MiB")
    return rise < max(2.0, 0.03 * max(sizes))


def fewest(samples: Sequence[Sample], name: str) -> tuple[int, int]:
    """Return the fewest of something in the middle third and in the last: a look at the device takes a few for a moment."""
    third = len(samples) // 3
    middle, last = ([int(getattr(s, name)) for s in part] for part in (samples[third:-third], samples[-third:]))
    print(f"{name}: {min(middle)} to {max(middle)} in the middle third, {min(last)} to {max(last)} in the last")
    return min(middle), min(last)


def test_a_soak_loses_nothing_and_nothing_grows(lab: Resident) -> None:
    pid, switches = lab.show("MainPID"), 0
    samples: list[Sample] = []
    with asking(lab) as app:
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < DURATION_S:
            if now > (switches + 1) * SWITCH_S:
                lab.rollout(3 - switches % 2)
                switches += 1
            if taken := sample(lab, begun):
                samples.append(taken)
            time.sleep(SAMPLE_S)
    lives: dict[int, list[Sample]] = {}
    for one in samples:
        lives.setdefault(one.worker, []).append(one)
    print(f"{now:.0f} s, {switches} switches")

    total = app.total
    assert (total.asked, total.lost, total.wrong, total.errors) == (total.answered, 0, 0, {}), total
    assert len(total.releases) == 2, total
    assert switches >= 4, switches
    assert (lab.show("MainPID"), lab.show("NRestarts")) == (pid, "0")
    assert (lab.model()["worker_deaths"], len(lives)) == (0, switches + 1)  # none wore out or died in between
    assert flat("daemon", [(one.at, one.daemon) for one in samples])
    ran = [flat(f"worker {life[0].worker}", [(s.runs, s.worker_bytes) for s in life]) for life in lives.values()]
    assert all(ran)
    assert flat("workers, by the clock", [(one.at, one.worker_bytes) for one in samples])
    for name in ("fds", "threads"):
        middle, last = fewest(samples, name)
        assert last <= middle + 1, name
