"""Whatever the bytes: read_nb answers or raises NbError, quickly, and within a bounded amount of memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.findings import CATALOGUE
from litefleet_agent.formats.nb import NbError, NbModel, normalise, read_nb
from litefleet_agent.formats.nb.flatbuffer import MAX_STEPS, Buffer

from tests.agent.support import nb_builder as build

HEADER = 26
SMALL = build.small()
EDGES = (0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


def described(data: bytes) -> NbModel | None:
    """Read; None when refused.  Anything but NbError fails the test by itself."""
    refusal: NbError | None = None
    try:
        model = read_nb(data)
    except NbError as error:
        refusal = error
    if refusal is None:
        return model
    assert refusal.finding_code in {"LF105", "LF106", "LF107"}
    assert refusal.finding_code in CATALOGUE
    assert str(refusal)
    return None


def test_every_truncation_point_of_a_small_file() -> None:
    topology_end = HEADER + struct.unpack_from("<Q", SMALL, 18)[0]
    for length in range(len(SMALL)):
        model = described(SMALL[:length])
        if length < topology_end:
            assert model is None, length
        else:
            assert model is not None, length
            assert not model.complete, length
            assert model.damage, length
    whole = described(SMALL)
    assert whole is not None
    assert whole.complete


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 8, SMALL])
def test_bytes_after_the_end_make_it_not_whole(extra: bytes) -> None:
    model = described(SMALL + extra)
    assert model is not None
    assert not model.complete


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_hostile_numbers_at_every_place_of_a_small_file(width: int) -> None:
    for place in range(len(SMALL) - width + 1):
        for edge in EDGES:
            data = bytearray(SMALL)
            data[place : place + width] = (edge & (256**width - 1)).to_bytes(width, "little")
            described(bytes(data))


@pytest.mark.toolchain
def test_thousands_of_random_mutations_of_a_real_file(nb_files: Callable[..., Path]) -> None:
    real = nb_files("cls", "x86").read_bytes()
    end = HEADER + struct.unpack_from("<Q", real, 18)[0] + 64  # header, topology and the parameters' header
    rng = random.Random(20240501)
    refused = partial = 0
    started = time.process_time()
    for _ in range(1200):
        data = bytearray(real[: end + 4096])
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            place = rng.randrange(end)
            data[place : place + 4] = rng.choice(
                (bytes(rng.randrange(256) for _ in range(4)), struct.pack("<I", rng.choice(EDGES)))
            )
        model = described(bytes(data))
        refused += model is None
        partial += model is not None and not model.complete
    assert refused > 40
    assert partial > 40
    assert time.process_time() - started < 90


@pytest.mark.toolchain
def test_a_real_file_cut_anywhere_is_never_called_whole(nb_files: Callable[..., Path]) -> None:
    real = nb_files("cls", "x86").read_bytes()
    rng = random.Random(7)
    for length in [len(real) - 1, *(rng.randrange(len(real)) for _ in range(300))]:
        model = described(real[:length])
        assert model is None or not model.complete, length


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes(data: bytes) -> None:
    described(data)


@settings(max_examples=500, deadline=None)
@given(topology=st.binary(max_size=300), tail=st.binary(max_size=100), meta=st.sampled_from((1, 2)))
def test_arbitrary_bytes_behind_an_honest_header(topology: bytes, tail: bytes, meta: int) -> None:
    described(build.nb(topology, tail, meta=meta))


@settings(max_examples=300, deadline=None)
@given(tail=st.binary(max_size=200), count=st.integers(0, 65535))
def test_arbitrary_parameters_are_described_as_not_whole(tail: bytes, count: int) -> None:
    whole = HEADER + struct.unpack_from("<Q", SMALL, 18)[0]
    model = read_nb(SMALL[:whole] + struct.pack("<HHHHI", 0, 0, 6, count, 0) + tail)
    assert not model.complete


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_normalising_twice_changes_nothing_more(tail: bytes) -> None:
    data = b"\2\0v2.13-rc\0" + tail
    try:
        once = normalise(data)
    except NbError:
        return
    assert normalise(once) == once
    assert len(once) == len(data)
    assert once[18:] == data[18:]


def _fan_out(entries: int) -> bytes:
    """Return a topology whose block list names one block `entries` times, and that block one operator `entries` times.

    FlatBuffers offsets only point forward, so each list lies before what it shares.
    """
    out = bytearray()

    def put(form: str, *values: int) -> int:
        place = len(out)
        out.extend(struct.pack("<" + form, *values))
        return place

    def patch(slot: int, target: int) -> None:
        struct.pack_into("<I", out, slot, target - slot)

    root = put("I", 0)
    program_vtable = put("HHH", 6, 8, 4)
    program = put("iI", 0, 0)
    struct.pack_into("<i", out, program, program - program_vtable)
    patch(root, program)
    blocks = put("I", entries)
    out.extend(bytes(4 * entries))
    block_vtable = put("HHHHHH", 12, 8, 0, 0, 0, 4)
    block = put("iI", 0, 0)
    struct.pack_into("<i", out, block, block - block_vtable)
    patch(program + 4, blocks)
    ops = put("I", entries)
    out.extend(bytes(4 * entries))
    op_vtable = put("HHH", 6, 8, 4)
    op = put("iI", 0, 0)
    struct.pack_into("<i", out, op, op - op_vtable)
    patch(block + 4, ops)
    text = put("I", 4)
    out.extend(b"relu\0\0\0\0")
    patch(op + 4, text)
    for entry in range(entries):
        patch(blocks + 4 + 4 * entry, block)
        patch(ops + 4 + 4 * entry, op)
    return bytes(out)


def test_shared_tables_cost_a_budget() -> None:
    assert described(build.nb(_fan_out(1), build.params())) is not None  # the builder itself is right
    bomb = build.nb(_fan_out(20000), build.params())  # 160 KB that spell out 400,000,000 operators
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(NbError, match="more entries than its 160"):
        read_nb(bomb)
    spent = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 5
    assert peak < 16 << 20


def test_the_budget_is_bounded_for_any_size() -> None:
    assert Buffer(memoryview(bytes(64 << 20)), "it").steps == MAX_STEPS


def test_tables_that_contain_themselves_end() -> None:
    """A table reached from itself: depth is fixed by the walk, so nothing recurses."""
    for offset in range(0, 64, 4):
        described(build.nb(struct.pack("<16I", *([offset] * 16)), b""))


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFFFFFF, 0x3FFFFFFF, 1000])
def test_a_vector_longer_than_the_file_allocates_nothing(count: int) -> None:
    topology = bytearray(SMALL[HEADER:])
    root = struct.unpack_from("<I", topology, 0)[0]
    blocks = root + 4 + struct.unpack_from("<I", topology, root + 4)[0]
    assert struct.unpack_from("<I", topology, blocks) == (1,)
    struct.pack_into("<I", topology, blocks, count)
    tracemalloc.start()
    with pytest.raises(NbError, match="an offset points to byte"):
        read_nb(build.nb(bytes(topology), b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_names_from_the_file_have_a_bounded_length() -> None:
    ops = [build.op("o" * 5000, None)]
    with pytest.raises(NbError, match="a name has 5000 bytes"):
        read_nb(build.nb(build.topology(ops, []), build.params()))


def test_dims_have_a_bounded_rank() -> None:
    data = build.nb(build.topology([build.op("relu", None)], [build.var("x", [1] * 65)]), build.params())
    with pytest.raises(NbError, match="a tensor has 65 dimensions"):
        read_nb(data)


def test_astronomic_dims_give_a_finite_estimate() -> None:
    variables = [build.var("x", [2**62] * 64)]
    model = read_nb(build.nb(build.topology([build.op("relu", None)], variables), build.params()))
    assert model.estimated_memory_bytes < 1 << 60
