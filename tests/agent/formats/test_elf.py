"""The ELF reader on real binaries, on small built ones, and on hostile ones."""

import random
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.formats.elf import ElfError, read_elf

from tests.agent.support.elf_builder import build_elf

SAMPLE = build_elf(
    machine=183,
    needed=("libstdc++.so.6", "libc.so.6"),
    versions={"libc.so.6": ["GLIBC_2.17", "GLIBC_2.27"], "libstdc++.so.6": ["GLIBCXX_3.4.22"]},
    provides=("LITE_1",),
    runpath="$ORIGIN/libs",
    interpreter="/lib/ld-linux-aarch64.so.1",
)


def test_describes_a_built_file():
    elf = read_elf(SAMPLE)
    assert (elf.machine, elf.bits) == ("aarch64", 64)
    assert elf.needed == ("libstdc++.so.6", "libc.so.6")
    assert elf.versions == {"GLIBC_2.17", "GLIBC_2.27", "GLIBCXX_3.4.22"}
    assert elf.provides == {"LITE_1"}
    assert elf.runpath == "$ORIGIN/libs"
    assert elf.interpreter == "/lib/ld-linux-aarch64.so.1"


@pytest.mark.parametrize(
    ("number", "bits", "order", "name"),
    [
        (40, 32, "<", "armv7l"),
        (3, 32, "<", "i686"),
        (62, 64, "<", "x86_64"),
        (22, 64, ">", "s390x"),
        (9, 32, ">", "unknown-9"),
    ],
)
def test_reads_both_word_sizes_and_byte_orders(number, bits, order, name):
    elf = read_elf(build_elf(number, bits, needed=("libm.so.6",), versions={"libm.so.6": ["GLIBC_2.4"]}, order=order))
    assert (elf.machine, elf.bits, elf.needed, elf.versions) == (name, bits, ("libm.so.6",), {"GLIBC_2.4"})


def test_reads_this_interpreter():
    elf = read_elf(sys.executable)
    assert elf.bits == struct.calcsize("P") * 8
    assert elf.needed
    assert elf.interpreter.startswith("/")


def test_reads_the_same_from_path_and_bytes(tmp_path):
    (tmp_path / "lib.so").write_bytes(SAMPLE)
    assert read_elf(str(tmp_path / "lib.so")) == read_elf(SAMPLE)


def test_says_what_it_saw_instead_of_an_elf_file(tmp_path):
    with pytest.raises(ElfError, match=r"^This is not an ELF file: it begins with b'#!/b'\.$"):
        read_elf(b'#!/bin/sh\nexec python3 "$@"\n')
    with pytest.raises(ElfError, match=r"absent cannot be read: No such file or directory\.$"):
        read_elf(str(tmp_path / "absent"))
    with pytest.raises(ElfError, match=r"cannot be read: is a folder, not a regular file\.$"):
        read_elf(str(tmp_path))


def test_every_truncation_is_an_error():
    for size in range(len(SAMPLE)):
        with pytest.raises(ElfError):
            read_elf(SAMPLE[:size])


def test_a_circle_of_versions_ends():
    circle = bytearray(build_elf(versions={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.3"]}, vernum=0xFFFFFFFF))
    at = circle.index(struct.pack("<HHI", 1, 2, read_index(circle)))
    struct.pack_into("<I", circle, at + 12, 0xFFFFFFFF)  # the next record lies far behind the end
    with pytest.raises(ElfError, match="ends too early"):
        read_elf(bytes(circle))


def read_index(data):
    """Return where the library's name begins in the string table of a file with nothing else in it."""
    return data.index(b"libc.so.6\0") - data.index(b"\0GLIBC_2.2.5\0")


def test_random_mutations_give_a_description_or_the_readers_own_error():
    dice = random.Random(4)
    refused = 0
    for _ in range(5000):
        data = bytearray(SAMPLE)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(4, len(data))] = dice.choice([0, 1, 0x7F, 0xFF, dice.randrange(256)])
        try:
            read_elf(bytes(data))
        except ElfError:
            refused += 1
    assert 0 < refused < 5000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_arbitrary_bytes_never_raise_anything_else(tail, wide, big):
    data = b"\x7fELF" + bytes([1 + wide, 1 + big]) + tail
    try:
        elf = read_elf(data)
    except ElfError:
        return
    assert elf.bits == 32 + 32 * wide
