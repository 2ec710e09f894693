"""The journal: what was appended is read back, whatever a power cut, a bad block or another person did to the file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.releases import journal as module
from litefleet_agent.releases.crc_log import CrcLog
from litefleet_agent.releases.journal import NOBODY, Journal, Kind, Operation, State
from litefleet_agent.releases.lease import Lease

A, B = "a" * 64, "b" * 64


def operation(number: int, state: State = State.DONE, model: str = "cls", why: str = "") -> Operation:
    lease = Lease(60.0, "boot", 160.0, 1.8e9) if state is State.SWITCHED else None
    return Operation(number, Kind.ACTIVATE, model, A, "", B, state, 1.8e9, lease, why)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path))


def file(journal: Journal) -> Path:
    return Path(journal._path)


operations = st.builds(
    Operation,
    st.integers(1, 5),
    st.sampled_from(list(Kind)),
    st.sampled_from(["cls", "det", "x.y-z"]),
    st.sampled_from(["", A]),
    st.sampled_from(["", A, B]),
    st.sampled_from(["", B]),
    st.sampled_from(list(State)),
    st.floats(0, 4e9),
    st.none() | st.builds(Lease, st.floats(1, 1e6), st.text(max_size=40), st.floats(0, 1e9), st.floats(0, 4e9)),
    st.text(max_size=80),
    told=st.just(NOBODY),
)


@given(steps=st.lists(operations, max_size=12))
@settings(deadline=None, max_examples=60)
def test_the_last_step_of_each_operation_is_read_back(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    journal = Journal(str(tmp_path_factory.mktemp("journal")))
    for step in steps:
        journal.append(step)
    last = {step.number: step for step in steps}
    assert journal.read() == ([last[number] for number in sorted(last)], 0)


def test_no_journal_says_nothing_and_looking_makes_none(journal: Journal) -> None:
    assert journal.read() == ([], 0)
    assert not file(journal).exists()


def test_it_is_this_users_alone(journal: Journal) -> None:
    journal.append(operation(1))
    assert stat.S_IMODE(file(journal).stat().st_mode) == 0o600


def test_a_torn_last_line_is_passed_over_and_cut_off(journal: Journal) -> None:
    journal.append(operation(1))
    whole = file(journal).read_bytes()
    journal.append(operation(2))
    both = file(journal).read_bytes()
    for size in range(len(whole), len(both)):
        file(journal).write_bytes(both[:size])
        assert journal.read() == ([operation(1)], 0)
        journal.append(operation(3))
        assert journal.read() == ([operation(1), operation(3)], 0)
        assert file(journal).read_bytes().startswith(whole)
        assert len(file(journal).read_bytes()) == len(both)


@pytest.mark.parametrize("tail", [bytes(700), b"\n", b"\xff" * 20 + b"\n", bytes(99) + b"\n" + bytes(99)])
def test_what_a_power_cut_left_behind_the_last_line_is_cut_off(journal: Journal, tail: bytes) -> None:
    journal.append(operation(1))
    whole = file(journal).read_bytes()
    file(journal).write_bytes(whole + tail)
    assert journal.read().operations == [operation(1)]
    journal.append(operation(2))
    assert journal.read() == ([operation(1), operation(2)], 0)


@given(place=st.integers(0, 1 << 16), value=st.integers(0, 255))
@settings(deadline=None, max_examples=150)
def test_a_damaged_byte_costs_one_step_and_is_counted(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    journal = Journal(str(tmp_path_factory.mktemp("journal")))
    for number in (1, 2, 3):
        journal.append(operation(number))
    data = bytearray(file(journal).read_bytes())
    lines = bytes(data).split(b"\n")[:-1]
    place %= len(data)
    changed = data[place] != value
    data[place] = value
    file(journal).write_bytes(bytes(data))
    found, damaged = journal.read()
    hit = place // (len(data) // 3)  # the lines are of one length
    assert len({len(line) for line in lines}) == 1
    if not changed:
        assert (len(found), damaged) == (3, 0)
    elif data.endswith(b"\n") and place % (len(data) // 3) == len(data) // 3 - 1:
        assert len(found) == 1  # a lost line end costs the two lines that it kept apart
    else:
        assert [o.number for o in found] == [n for n in (1, 2, 3) if n != hit + 1]
        assert damaged in ((0,) if hit == 2 else (1, 2))
    journal.append(operation(9))
    assert journal.read().operations[-1] == operation(9)


@pytest.mark.parametrize(
    "data",
    [b"{}", b"[]", b"null", b"7", b'{"op":1}', b"{", b"\xff", b"[" * 5000, b'{"op":"x","kind":"activate"}'],
)
def test_an_intact_line_that_is_no_operation_is_counted_and_stays(journal: Journal, data: bytes) -> None:
    import zlib

    line = b"%08x %s\n" % (zlib.crc32(data), data)
    file(journal).write_bytes(line)
    assert journal.read() == ([], 1)
    journal.append(operation(1))
    assert journal.read() == ([operation(1)], 1)
    assert file(journal).read_bytes().startswith(line)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "../x"},
        {"model": ""},
        {"to": "../../etc/passwd"},
        {"from": "A" * 64},
        {"from_previous": None},
        {"kind": "explode"},
        {"state": "unknown"},
        {"at": "now"},
        {"at": float("inf")},
        {"op": True},
        {"why": 7},
        {"why": "x" * 3000},
        {"lease": []},
        {"lease": {"seconds": 1}},
        {"lease": {"seconds": float("nan"), "boot_id": "", "deadline_boottime": 1, "deadline_wall": 1}},
    ],
)
def test_an_operation_from_outside_is_checked(change: dict) -> None:
    whole = operation(1).to_dict()
    assert Operation.from_dict(whole) == operation(1)
    with pytest.raises((KeyError, TypeError, ValueError)):
        Operation.from_dict({**whole, **change})


def test_it_stays_small_and_keeps_what_is_open(journal: Journal) -> None:
    leased = operation(1, State.SWITCHED, "det")
    journal.append(leased)
    sizes = []
    for number in range(2, 450):
        journal.append(operation(number))
        sizes.append(file(journal).stat().st_size)
    assert max(sizes) <= module.COMPACT_AT + 1000
    found = journal.read()
    assert found.operations[0] == leased
    assert found.open() == [leased]
    assert found.operations[-50:] == [operation(n) for n in range(400, 450)]
    assert os.listdir(os.path.dirname(str(file(journal)))) == ["journal"]


def test_only_the_last_operation_of_a_model_can_be_open(journal: Journal) -> None:
    for step in (operation(1, State.SWITCHED), operation(2, State.SWITCHED, "det"), operation(3)):
        journal.append(step)
    assert journal.read().open() == [operation(2, State.SWITCHED, "det")]


def test_a_journal_that_others_made_huge_is_read_in_part(journal: Journal) -> None:
    file(journal).write_bytes(b"x" * (5 << 20) + b"\n")
    assert journal.read().operations == []
    file(journal).write_bytes(b"x" * (5 << 20) + b"\n" + CrcLog.encode(operation(1).to_dict()))
    journal.append(operation(2))
    assert journal.read() == ([operation(1), operation(2)], 0)
    assert file(journal).stat().st_size < 10000


def test_a_full_disk_leaves_it_as_it_was(journal: Journal) -> None:
    """The file system refuses: a limit of this process on the size of files stands for it."""
    import resource
    import signal

    journal.append(operation(1))
    whole = file(journal).read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 40, limits[1]))
    try:
        with pytest.raises(OSError):
            journal.append(operation(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file(journal).read_bytes() == whole
    journal.append(operation(2))
    assert journal.read() == ([operation(1), operation(2)], 0)
