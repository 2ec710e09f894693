"""`bandwidth:` in litefleet.yaml: units, and sentences for what is none."""

from __future__ import annotations

import pytest
from litefleet_controller.config.bandwidth import BandwidthConfig
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("written", "bits"),
    [
        ("10M", 10e6),
        ("10 Mbit/s", 10e6),
        ("1.25 MB/s", 10e6),
        ("64kbps", 64e3),
        ("1G", 1e9),
        ("2.5g", 2.5e9),
        (100_000, 1e5),
        ("8000 bit/s", 8e3),
        ("1000 B/s", 8e3),
    ],
)
def test_rates_are_bits_a_second_unless_bytes_are_written(written: object, bits: float) -> None:
    read = BandwidthConfig.model_validate({"fleet": written, "per_site": {"berlin": written}})
    assert (read.fleet, read.per_site, read.per_jump_host) == (bits, {"berlin": bits}, None)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("fast", "'fast' is no bandwidth: write bits a second, as 10M, or bytes a second, as 1.25 MB/s"),
        ("-1M", "'-1M' is no bandwidth"),
        ("10 Mb", "'10 Mb' is no bandwidth"),
        ("inf", "'inf' is no bandwidth"),
        (True, "True is no bandwidth"),
        ([1], r"[1] is no bandwidth"),
        (100, "'100' is 100 bits a second; at least 8k are needed (M is a million of them)"),
    ],
)
def test_what_is_no_rate_is_a_sentence(written: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        BandwidthConfig.model_validate({"per_jump_host": written})
    assert words in str(caught.value)
