"""Who is in which wave."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_controller.rollout import DeviceRow, DeviceState, Policy, Wave
from litefleet_controller.rollout.waves import assign


def nobody(name: str) -> frozenset[str]:
    raise AssertionError(f"nobody asked for {name}")


def row(
    device: str, part: str = "Cortex-A53", model: str = "cls", state: DeviceState = DeviceState.PENDING
) -> DeviceRow:
    return DeviceRow(device, model, 0, 0, state, part=part, libc="glibc 2.36" if part else "", runtime="r1")


def fleet(count: int, part: str = "Cortex-A53", start: int = 1) -> list[DeviceRow]:
    return [row(f"cam-{i}", part) for i in range(start, start + count)]


def sizes(waves: tuple[Wave, ...]) -> list[int]:
    return [wave.size for wave in waves]


def members(rows, wave: int) -> list[str]:
    return [r.device for r in sorted(rows, key=lambda r: r.position) if r.wave == wave]


def test_sizes_are_cumulative_and_shares_are_rounded_up():
    rows, waves = assign(fleet(25), Policy(), nobody)
    assert waves == (Wave(1, "1"), Wave(2, "10%"), Wave(10, "50%"), Wave(12, "100%"))
    assert members(rows, 0) == ["cam-1"]
    assert members(rows, 1) == ["cam-2", "cam-3"]
    assert [r.position for r in rows] == list(range(25))


@pytest.mark.parametrize(
    ("count", "share", "first"), [(30, "10%", 3), (100, "29%", 29), (31, "10%", 4), (7, "0.1%", 1)]
)
def test_shares_are_exact(count, share, first):
    assert sizes(assign(fleet(count), Policy(waves=(share, "100%")), nobody)[1])[0] == first


def test_a_number_is_cumulative_and_a_wave_of_nobody_is_dropped():
    rows, waves = assign(fleet(20), Policy(waves=(2, 5, "10%", 5, "all")), nobody)
    assert waves == (Wave(2, "2"), Wave(3, "5"), Wave(15, "all"))
    assert {r.wave for r in rows} == {0, 1, 2}


def test_a_name_takes_those_that_are_in_no_wave_yet():
    groups = {"lab": frozenset({"cam-7", "cam-3", "elsewhere"}), "site=nord": frozenset({"cam-3", "cam-9"})}
    rows, waves = assign(fleet(10), Policy(waves=("lab", "site=nord", "50%", "100%")), groups.__getitem__)
    assert waves == (Wave(2, "lab"), Wave(1, "site=nord"), Wave(2, "50%"), Wave(5, "100%"))
    assert [members(rows, w) for w in range(3)] == [["cam-3", "cam-7"], ["cam-9"], ["cam-1", "cam-2"]]


def test_what_the_groups_raise_is_passed_on():
    with pytest.raises(KeyError):
        assign(fleet(3), Policy(waves=("lab", "100%")), {}.__getitem__)


def test_the_first_wave_grows_to_one_of_every_kind():
    rows = fleet(5) + fleet(5, "Cortex-A72", 6) + fleet(5, "Cortex-A76", 11)
    placed, waves = assign(rows, Policy(waves=(1, 4, "100%")), nobody)
    assert waves[0] == Wave(3, "1, grown to 3 for as many kinds of device")
    assert members(placed, 0) == ["cam-1", "cam-6", "cam-11"]
    assert members(placed, 1) == ["cam-2"]
    assert assign(rows, Policy(waves=(4, "100%")), nobody)[1][0].spec == "4, grown to 6 for 3 kinds of device"
    assert sizes(assign(rows, Policy(waves=(1, "100%"), stratify=False), nobody)[1]) == [1, 14]


def test_a_first_wave_of_an_empty_group_grows_too():
    _, waves = assign(fleet(3), Policy(waves=("lab", "100%")), lambda _: frozenset())
    assert waves == (Wave(1, "lab, grown to 1 for one kind of device"), Wave(2, "100%"))


def test_devices_that_never_reported_what_they_are_come_last():
    rows = [row("new-1", ""), *fleet(4), row("new-2", "", state=DeviceState.OFFLINE)]
    placed, waves = assign(rows, Policy(waves=(1, "50%", "100%")), nobody)
    assert sizes(waves) == [1, 2, 3]
    assert members(placed, 2) == ["new-1", "cam-4", "new-2"]


def test_a_fleet_of_unknown_devices_is_one_wave():
    placed, waves = assign([row(f"new-{i}", "") for i in range(3)], Policy(), nobody)
    assert waves == (Wave(3, "100%"),)
    assert members(placed, 0) == ["new-0", "new-1", "new-2"]


def test_what_needs_nothing_is_in_the_last_wave_and_counts_in_no_size():
    idle = [row("door-1", "Atom", state=DeviceState.BLOCKED), row("door-2", "i7", state=DeviceState.UNCHANGED)]
    placed, waves = assign([*idle, *fleet(4)], Policy(waves=(1, "50%", "100%")), nobody)
    assert sizes(waves) == [1, 1, 2]
    assert members(placed, 2) == ["door-1", "door-2", "cam-3", "cam-4"]


def test_when_nobody_has_anything_to_do_there_is_still_a_wave_to_be_in():
    placed, waves = assign([row("cam-1", state=DeviceState.UNCHANGED)], Policy(), nobody)
    assert (placed[0].wave, waves) == (0, (Wave(0, "100%"),))
    assert assign([], Policy(), nobody) == ((), ())


def test_all_models_of_a_device_are_in_its_wave():
    rows = [row("a"), row("b"), row("a", model="det"), row("b", model="det", state=DeviceState.UNCHANGED)]
    placed, waves = assign(rows, Policy(waves=(1, "100%")), nobody)
    assert [r.wave for r in placed] == [0, 1, 0, 1]
    assert sizes(waves) == [1, 1]


_states = st.sampled_from([DeviceState.PENDING] * 4 + [DeviceState.OFFLINE, DeviceState.BLOCKED, DeviceState.UNCHANGED])
_rows = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["cls", "det"]), st.sampled_from(["", "A53", "A72", "A76"]), _states),
    max_size=40,
    unique_by=lambda t: t[:2],
).map(lambda found: [row(f"cam-{i}", part, model, state) for i, model, part, state in found])
_waves = st.lists(st.one_of(st.integers(1, 40), st.sampled_from(["5%", "33.3%", "odd", "few"])), max_size=4)
_GROUPS = {"odd": frozenset(f"cam-{i}" for i in range(1, 31, 2)), "few": frozenset({"cam-0", "cam-4"})}


@settings(deadline=None, max_examples=150)
@given(_rows, _waves, st.booleans())
def test_waves_are_a_partition_that_has_one_of_each_kind_first(rows, first, stratify):
    policy = Policy(waves=(*first, "100%"), stratify=stratify)
    placed, waves = assign(rows, policy, _GROUPS.__getitem__)
    assert [replace(r, wave=0, position=0) for r in placed] == rows
    assert assign(placed, policy, _GROUPS.__getitem__) == (placed, waves)
    wave_of = {r.device: r.wave for r in placed}
    assert all(wave_of[r.device] == r.wave for r in placed)
    to_do = {r.device: None for r in rows if r.state in (DeviceState.PENDING, DeviceState.OFFLINE)}
    assert [sum(wave_of[d] == w for d in to_do) for w in range(len(waves))] == sizes(waves)
    assert all(wave.size for wave in waves) or not to_do
    known = [r for r in placed if r.known and r.state in (DeviceState.PENDING, DeviceState.OFFLINE)]
    if stratify and known:
        assert {r.stratum for r in known if r.wave == 0} == {r.stratum for r in known}
    unknown = set(to_do) - {r.device for r in known}
    assert {wave_of[d] for d in unknown} <= {len(waves) - 1}
