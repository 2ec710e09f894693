"""Limits of the bandwidth: shared by those who pass a place, in the order of asking; what is small does not wait."""

from __future__ import annotations

import pytest
from litefleet_controller.devices.transport.bandwidth import Bandwidth, BandwidthLimits, Bucket
from litefleet_inventory.model import Device

HOPS = [Device("gate", "10.0.0.1"), Device("inner", "10.1.0.1")]


def test_what_was_taken_passes_at_the_rate() -> None:
    bucket, now, sent = Bucket(1e6), 100.0, 0
    for _ in range(100):
        now += max(bucket.take(50_000, now), 0)
        sent += 50_000
    assert sent / (now - 100.0) == pytest.approx(1e6, rel=0.05)


def test_an_idle_line_saves_up_a_tenth_of_a_second() -> None:
    bucket = Bucket(1e6)
    bucket.take(1, 5.0)
    assert bucket.take(100_000, 1000.0) == pytest.approx(0)
    assert bucket.take(100_000, 1000.0) == pytest.approx(0.1)


def test_who_passes_the_same_place_shares_its_limit() -> None:
    limits = BandwidthLimits(1e7, 1e6, {"berlin": 2e6})
    of = {"a": ["berlin"], "b": ["berlin"], "c": []}
    bandwidth = Bandwidth(limits, lambda device: of[device.name])
    a, b, c = (bandwidth.line(Device(name, "10.2.0.1"), HOPS[:hops]) for name, hops in (("a", 1), ("b", 2), ("c", 0)))
    assert [len(line._buckets) for line in (a, b, c)] == [3, 4, 1]
    assert set(a._buckets) < set(b._buckets)
    assert c._buckets[0] in a._buckets
    assert (a.piece, c.piece) == (100_000, 128 << 10)
    assert Bandwidth().line(Device("a", "h"), HOPS)._buckets == []
