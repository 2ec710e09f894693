"""Maintenance windows: which are understood, and when they are open, the clock's changes included."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_controller.rollout.windows import check_window, check_zone, next_open, open_until

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    "text",
    ["Mon-Fri 22:00-05:00", "Sat,Sun 00:00-24:00", "22:00-05:00", "mon , wed-fri 9:00 - 17:30", "Fri-Mon 1:00-2:00"],
)
def test_windows_that_are_understood_stay_as_written(text):
    assert check_window(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("daily", "no maintenance window: write"),
        ("", "no maintenance window"),
        ("Mon-Fri", "no maintenance window"),
        ("Mon-Fri 22-05", "no maintenance window"),
        ("Mo-Fr 22:00-05:00", "'Mo' in .* is no day"),
        ("Mon- 22:00-05:00", "is no day"),
        ("Mon-Wed-Fri 22:00-05:00", "'Wed-Fri' in .* is no day"),
        ("25:00-05:00", "'25:00' in .* is no time of day"),
        ("22:00-24:01", "is no time of day"),
        ("22:60-23:00", "is no time of day"),
        ("22:00-22:00", "no length: for the whole day write 00:00-24:00"),
        ("24:00-05:00", "starts at 24:00"),
        ("١٢:00-13:00", "no maintenance window"),
        ("Mon," * 1000 + "Tue 1:00-2:00", "no maintenance window"),
    ],
)
def test_other_texts_are_refused_with_what_to_write(text, says):
    with pytest.raises(ValueError, match=says):
        check_window(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b", "x" * 5000])
def test_unknown_zones_are_refused(name):
    with pytest.raises(ValueError, match="has no time zone"):
        check_zone(name)


def test_known_zones_stay_as_written():
    assert [check_zone(name) for name in ("UTC", BERLIN)] == ["UTC", BERLIN]


def test_no_windows_means_always():
    assert open_until((), "UTC", 1e9) == math.inf
    assert next_open((), "UTC", 1e9) == 1e9


def test_a_window_over_midnight_belongs_to_the_day_it_starts():
    windows = ("Mon-Fri 22:00-05:00",)
    saturday_early, saturday_late = at("2026-11-21T04:59:59"), at("2026-11-21T22:30:00")
    assert open_until(windows, "UTC", saturday_early) == at("2026-11-21T05:00:00")  # Friday's
    assert open_until(windows, "UTC", at("2026-11-21T05:00:00")) is None
    assert open_until(windows, "UTC", saturday_late) is None
    assert next_open(windows, "UTC", saturday_late) == at("2026-11-23T22:00:00")
    assert open_until(windows, "UTC", at("2026-11-23T03:00:00")) is None  # Sunday's night is not in it


def test_windows_that_touch_are_one_and_all_the_week_never_closes():
    saturday = at("2026-11-21T12:00:00")
    assert open_until(("Sat,Sun 00:00-24:00",), "UTC", saturday) == at("2026-11-23T00:00:00")
    assert open_until(("10:00-12:30", "12:30-14:00"), "UTC", saturday) == at("2026-11-21T14:00:00")
    assert open_until(("00:00-24:00",), BERLIN, saturday) == math.inf
    assert open_until(("Mon-Sat 00:00-24:00", "Sun 00:00-23:59"), "UTC", saturday) == at("2026-11-22T23:59:00")
    assert next_open(("00:00-24:00",), BERLIN, saturday) == saturday


def test_windows_are_in_their_zone():
    now = at("2026-07-01T21:30:00")  # 23:30 in Berlin, 05:30 in Shanghai
    assert open_until(("22:00-05:00",), BERLIN, now) == at("2026-07-02T05:00:00", BERLIN)
    assert open_until(("22:00-05:00",), "Asia/Shanghai", now) is None
    assert next_open(("22:00-05:00",), "Asia/Shanghai", now) == at("2026-07-02T22:00:00", "Asia/Shanghai")


def test_in_spring_an_hour_is_missing():
    midnight, jump = at("2026-03-29T00:00:00", BERLIN), at("2026-03-29T01:00:00")  # 02:00 is 03:00
    assert open_until(("00:00-05:00",), BERLIN, midnight) == midnight + 4 * 3600
    assert next_open(("02:30-03:15",), BERLIN, midnight) == jump
    assert open_until(("02:30-03:15",), BERLIN, jump) == jump + 15 * 60
    assert open_until(("01:00-02:30",), BERLIN, jump - 1) == jump
    assert next_open(("Sun 02:00-03:00",), BERLIN, midnight) == at("2026-04-05T02:00:00", BERLIN)


def test_in_autumn_an_hour_comes_twice():
    midnight = at("2026-10-25T00:00:00", BERLIN)  # 03:00 is 02:00 again
    assert open_until(("00:00-05:00",), BERLIN, midnight) == midnight + 6 * 3600
    assert open_until(("02:15-02:45",), BERLIN, at("2026-10-25T02:20:00", BERLIN)) == midnight + 2.75 * 3600
    assert open_until(("02:15-02:45",), BERLIN, at("2026-10-25T02:20:00", BERLIN, fold=1)) is None


_minute = st.integers(0, 24 * 60 - 1)
_days = st.sets(st.integers(0, 6), min_size=1)
_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@settings(deadline=None, max_examples=60)
@given(
    _days,
    _minute,
    _minute.filter(bool),
    st.integers(0, 400 * 24 * 60),
    st.sampled_from([BERLIN, "UTC", "Asia/Kolkata"]),
)
def test_open_means_what_the_clock_shows(days, start, length, minutes, zone):
    end = (start + length) % (24 * 60)
    text = f"{','.join(_NAMES[d] for d in sorted(days))} {start // 60}:{start % 60:02}-{end // 60}:{end % 60:02}"
    now = at("2026-01-01T00:00:00") + minutes * 60
    local = datetime.fromtimestamp(now, ZoneInfo(zone)).replace(tzinfo=None)
    if (local + timedelta(days=1)).date().isoformat() in ("2026-10-25", "2026-10-26", "2026-03-29", "2026-03-30"):
        return  # days whose clock is turned have tests of their own
    if local.date().isoformat() in ("2026-10-25", "2026-03-29"):
        return
    clock = local.hour * 60 + local.minute
    today, yesterday = local.weekday() in days, (local.weekday() - 1) % 7 in days
    shown = (today and start <= clock < start + length) or (yesterday and clock + 24 * 60 < start + length)
    until = open_until((text,), zone, now)
    assert (until is not None) == shown
    assert next_open((text,), zone, now) >= now
    assert (next_open((text,), zone, now) == now) == shown
    if until not in (None, math.inf):
        assert open_until((text,), zone, until) is None
        assert open_until((text,), zone, until - 1) == until
