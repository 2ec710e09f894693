"""Memory over many runs: growth is told from warming up and from noise."""

import pytest
from litefleet_agent.bench.trends import memory_growth, slope

MB = 1e6


def test_a_line_has_its_own_slope():
    assert slope([(x, 3.0 * x + 7) for x in range(10)]) == pytest.approx(3.0)
    assert slope([]) == slope([(1, 5)]) == slope([(2, 5), (2, 9)]) == 0.0


def test_steady_growth_is_told_with_its_rate():
    found = memory_growth([(i * 100.0, 50 * MB + i * 4 * MB) for i in range(40)])
    assert found is not None
    assert found.code == "LF419"
    assert "40 MB per 1,000 runs" in found.observed


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [(i, 50 * MB + i * 40 * MB) for i in range(6)],  # too few
        [(i, 50 * MB + min(i, 20) * 4 * MB) for i in range(40)],  # warming up
        [(i, 50 * MB + i * 0.1 * MB) for i in range(40)],  # an allocator's whims
        [(i, 50 * MB + (i % 2) * 90 * MB + i * MB) for i in range(40)],  # up and down
        [(i, 50 * MB + (90 * MB if i > 30 else 0)) for i in range(40)],  # one jump
        [(i, 50 * MB + i * 0.2 * MB) for i in range(40)],  # less than any allocator may take
    ],
)
def test_what_is_no_growth(samples):
    assert memory_growth(samples) is None


def test_little_but_steady_growth_is_possible_and_decides_nothing():
    found = memory_growth([(i * 100.0, 50 * MB + i * 0.5 * MB) for i in range(40)])
    assert found is not None
    assert (found.code, found.certainty.value, found.decides) == ("LF419", "possible", False)
    assert "a longer measurement decides" in found.observed
