"""A million items take about as long by every kind as by the plain comparison."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from litefleet_agent.verification.compare import compare, default_tolerance

from tests.agent.verification.comparison.tensors import compared, tensor

RANDOM = np.random.RandomState(0)
PLAIN = RANDOM.rand(1000, 1000).astype("f4")
NEAR = (PLAIN * (1 + 1e-6 * RANDOM.rand(1000, 1000))).astype("f4")
LABELS = RANDOM.randint(0, 19, (1, 1000, 1000)).astype("i4")


@pytest.fixture(scope="module")
def plain_s() -> float:
    """How long this machine takes for the plain comparison, now."""
    begun = time.process_time()
    compare(tensor(PLAIN), tensor(NEAR), default_tolerance("fp32"))
    return time.process_time() - begun


@pytest.mark.parametrize(
    ("kind", "want", "got"),
    [
        ("tensor", PLAIN, NEAR),
        ("mask", PLAIN, NEAR),
        ("embedding", PLAIN, NEAR),
        ("topk", PLAIN, NEAR),
        ("topk", PLAIN.reshape(-1, 2), NEAR.reshape(-1, 2)),
        ("labels", LABELS, LABELS),
    ],
    ids=["tensor", "mask", "embedding", "topk", "topk of 2 classes", "labels"],
)
def test_a_million_items(plain_s: float, kind: str, want: Any, got: Any) -> None:
    begun = time.process_time()
    assert compared(want, got, compare=kind).passed
    assert time.process_time() - begun < 6 * plain_s + 0.5
