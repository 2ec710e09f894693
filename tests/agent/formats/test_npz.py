"""The stdlib .npz reader against numpy itself, and against damaged and hostile files."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.errors import AgentError
from litefleet_agent.formats.npz import DTYPES, Array, npz_bytes, read_npy, read_npz, write_npz
from litefleet_agent.releases.atomic import atomic_file


def saved(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_what_numpy_saves_is_read_and_what_we_write_numpy_reads(dtype: str, shape: tuple[int, ...]) -> None:
    value = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape)).astype(dtype)
    got = read_npz(saved(x=value))["x"]
    assert (got.dtype, got.shape, got.data) == (dtype, shape, value.tobytes())
    back = np.load(io.BytesIO(npz_bytes({"a/b.tmp_0": got})))["a/b.tmp_0"]
    assert back.dtype == value.dtype
    assert np.array_equal(back, value)


def test_compressed_and_big_endian_and_trivial_fortran_order_are_read() -> None:
    value = np.arange(6, dtype=">f4")
    out = io.BytesIO()
    np.savez_compressed(out, x=value, y=np.asfortranarray(np.ones((1, 4), "int16")))
    got = read_npz(out.getvalue())
    assert got["x"].data == value.astype("<f4").tobytes()
    assert got["y"].shape == (1, 4)


def test_same_arrays_same_bytes_and_the_order_is_kept(tmp_path) -> None:
    arrays = {"z": Array("int8", (2,), b"\x01\x02"), "a": Array("bool", (), b"\x01")}
    with atomic_file(str(tmp_path / "one.npz")) as stream:
        write_npz(stream, arrays)
    assert (tmp_path / "one.npz").read_bytes() == npz_bytes(dict(arrays))
    assert list(read_npz(str(tmp_path / "one.npz"))) == ["z", "a"]
    assert [p.name for p in tmp_path.iterdir()] == ["one.npz"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cannot be read as .npz"),
        (b"PK\x03\x04nonsense", "Save it with numpy.savez"),
        (saved(x=np.array([{}], dtype=object)), "Python objects"),
        (saved(x=np.array(["a"])), "supported are"),
        (saved(x=np.zeros(2, "complex64")), "supported are"),
        (saved(x=np.asfortranarray(np.ones((2, 3)))), "numpy.ascontiguousarray"),
    ],
)
def test_what_is_no_tensor_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        read_npz(data)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}",  # more items than bytes
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': 7}",
        b"{'descr': '<f4', 'fortran_order': False}",
        b"__import__('os').abort()",
        b"(" * 3000,
        b"\xff\xfe",
    ],
)
def test_hostile_headers_are_refused(header: bytes) -> None:
    with pytest.raises(AgentError):
        read_npy(npy(header, b"\0" * 4))


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abc":
            with archive.open(name + ".npy", "w", force_zip64=True) as stream:
                for _ in range(200):
                    stream.write(bytes(1 << 20))
    assert len(out.getvalue()) < 1 << 20
    with pytest.raises(AgentError, match="at most 1024 and 536870912 are read"):
        read_npz(out.getvalue())


def test_a_flipped_bit_is_noticed() -> None:
    data = bytearray(saved(x=np.arange(100, dtype="float32")))
    data[300] ^= 1
    with pytest.raises(AgentError, match="CRC"):
        read_npz(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_mutation_raises_anything_but_its_own_error(data: st.DataObject) -> None:
    raw = bytearray(saved(x=np.arange(7, dtype="float32"), y=np.ones((2, 2), "int8")))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read_npz(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except AgentError:
        return
    assert all(isinstance(a, Array) for a in arrays.values())


def test_sequences_of_an_array_are_written_and_read_with_it():
    words = Array("int64", (5, 1), bytes(40), ((0, 2, 5),))
    assert read_npz(npz_bytes({"words": words})) == {"words": words}
    for lod in (((0, 2, 4),), ((1, 5),), ((0, 3, 2, 5),), ((0, 5), (0, 5))):
        with pytest.raises(AgentError, match="must be offsets that rise from 0 to"):
            Array("int64", (5, 1), bytes(40), lod)
    alone = {"words": words, "words@lod2": Array("int64", (2,), bytes(16))}
    with pytest.raises(AgentError, match="lacks a level of its sequences"):
        read_npz(npz_bytes(alone))
