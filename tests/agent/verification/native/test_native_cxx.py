"""C++ strings and vectors, built and read without any library; which file is the library; what the sentences say."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from litefleet_agent.verification.native import NativeError
from litefleet_agent.verification.native.cxx import (
    STRING_SIZE,
    CxxLod,
    CxxShape,
    CxxString,
    empty_string_at,
    read_int64s,
    read_lod,
    read_text,
    read_texts,
    text_at,
    word_at,
)
from litefleet_agent.verification.native.errors import explain_missing, explain_unloadable
from litefleet_agent.verification.native.library import find_library
from litefleet_agent.verification.native.selfcheck import check_names, check_version, is_known
from litefleet_agent.verification.native.symbols import WORD, Result


class Heap:
    """Memory as a library would return it, and which of it was freed."""

    def __init__(self) -> None:
        self.kept: list = []
        self.freed: list[int] = []

    def put(self, data: bytes) -> int:
        self.kept.append(ctypes.create_string_buffer(data, len(data) + 1))
        return ctypes.addressof(self.kept[-1])

    def delete(self, address: int) -> None:
        self.freed.append(address)

    def result(self, *words: int, tail: bytes = b"") -> Result:
        data = struct.pack(f"@{len(words)}N", *words) + tail
        return Result.from_buffer_copy(data.ljust(ctypes.sizeof(Result), b"\0"))


@pytest.fixture
def heap() -> Heap:
    return Heap()


def strings(heap: Heap, *texts: bytes) -> tuple[int, int]:
    """Lay out strings one after the other, each short one within itself; return their begin and end."""
    begin = heap.put(bytes(STRING_SIZE * len(texts)))
    for number, text in enumerate(texts):
        at = begin + number * STRING_SIZE
        empty_string_at(at)
        if len(text) > 15:
            ctypes.memmove(at, struct.pack("@3N", heap.put(text), len(text), len(text)), 3 * WORD)
        else:
            ctypes.memmove(at + 2 * WORD, text, len(text))
            ctypes.memmove(at + WORD, struct.pack("@N", len(text)), WORD)
    return begin, begin + STRING_SIZE * len(texts)


@pytest.mark.parametrize("text", [b"", b"x", b"fifteen_letters", b"sixteen_letters_", b"n" * 4096, "名".encode()])
def test_a_string_for_a_call_reads_back(text: bytes) -> None:
    assert text_at(CxxString(text)._as_parameter_) == text


def test_a_shape_and_a_lod_for_a_call_are_vectors() -> None:
    shape = CxxShape([2, -1, 1 << 40])
    begin, end, room = (word_at(shape._as_parameter_ + WORD * i) for i in range(3))
    assert (end - begin, room) == (24, end)
    assert list((ctypes.c_int64 * 3).from_address(begin)) == [2, -1, 1 << 40]
    lod = CxxLod([[0, 2], [0, 1, 5]])
    begin, end = word_at(lod._as_parameter_), word_at(lod._as_parameter_ + WORD)
    assert end - begin == 2 * 3 * WORD
    assert word_at(begin + WORD) - word_at(begin) == 16


def test_returned_strings_are_read_and_freed_once(heap: Heap) -> None:
    assert read_text(heap.result(0xDEAD, 5, tail=b"v2.13garbage"), heap.delete) == b"v2.13"  # its pointer is stale
    assert heap.freed == []
    address = heap.put(b"a version of many letters")
    assert read_text(heap.result(address, 25, 25), heap.delete) == b"a version of many letters"
    assert heap.freed == [address]


def test_returned_lists_of_strings_are_read_and_freed_once(heap: Heap) -> None:
    begin, end = strings(heap, b"x", b"a_name_of_more_than_fifteen", b"fifteen_letters")
    long = word_at(begin + STRING_SIZE)
    assert read_texts(heap.result(begin, end, end), heap.delete) == [
        b"x",
        b"a_name_of_more_than_fifteen",
        b"fifteen_letters",
    ]
    assert heap.freed == [long, begin]
    assert read_texts(heap.result(0, 0, 0), Heap().delete) == []


def test_returned_numbers_are_read_and_freed_once(heap: Heap) -> None:
    address = heap.put(struct.pack("<3q", 1, 3, 48))
    assert read_int64s(heap.result(address, address + 24, address + 64), heap.delete) == (1, 3, 48)
    rows = [heap.put(struct.pack("<2Q", 0, 4)), heap.put(struct.pack("<3Q", 0, 2, 4))]
    begin = heap.put(struct.pack("@6N", rows[0], rows[0] + 16, rows[0] + 16, rows[1], rows[1] + 24, rows[1] + 24))
    assert read_lod(heap.result(begin, begin + 6 * WORD, 0), heap.delete) == [[0, 4], [0, 2, 4]]
    assert heap.freed == [address, *rows, begin]


def test_what_cannot_be_a_string_or_a_list_is_refused_before_it_is_read(heap: Heap) -> None:
    begin, end = strings(heap, b"x")
    wrong = [
        lambda: read_text(heap.result(1, 4097), heap.delete),
        lambda: read_text(heap.result(0, 3), heap.delete),
        lambda: read_texts(heap.result(begin, end - 1), heap.delete),
        lambda: read_texts(heap.result(end, begin), heap.delete),
        lambda: read_texts(heap.result(8, 8 + STRING_SIZE * 1025), heap.delete),
        lambda: read_int64s(heap.result(0, 8), heap.delete),
        lambda: read_int64s(heap.result(8, 8 + 33 * 8), heap.delete),
        lambda: read_lod(heap.result(8, 8 + 3 * WORD * 9), heap.delete),
    ]
    for call in wrong:
        with pytest.raises(NativeError, match="laid out in a way that is unknown here") as raised:
            call()
        assert raised.value.kind == "native"
    ctypes.memmove(begin, struct.pack("@3N", begin, 100, 7), 3 * WORD)  # longer than its room
    with pytest.raises(NativeError, match="a string of 100 characters has room for 7"):
        text_at(begin)
    assert heap.freed == []


# --- files


def test_the_library_is_sought_where_archives_and_wheels_have_it(tmp_path: Path) -> None:
    def library(*parts: str) -> Path:
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    full = library("inference_lite_lib.armlinux.armv8.gcc", "cxx", "lib", "libpaddle_full_api_shared.so")
    assert find_library(str(tmp_path)) == str(full)
    light = library("inference_lite_lib.armlinux.armv8.gcc", "cxx", "lib", "libpaddle_light_api_shared.so")
    top = tmp_path / "inference_lite_lib.armlinux.armv8.gcc"
    for given in (tmp_path, top, top / "cxx", top / "cxx" / "lib", light):
        assert find_library(str(given)) == str(light)
    assert find_library(str(full)) == str(full)
    wheel = library("paddlelite", "lite.so")
    assert find_library(str(tmp_path)) == str(wheel)


def test_no_library_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NativeError, match="holds neither paddlelite") as raised:
        find_library(str(tmp_path))
    assert raised.value.kind == "import"


# --- sentences


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        ("_ZN6paddle8lite_api12MobileConfig19set_model_from_fileERKSs", "with the old string ABI"),
        (
            "_ZN6paddle8lite_api12MobileConfig19set_model_from_fileERKNSt6__ndk112basic_stringIcNS2_11char_traitsIcEE"
            "NS2_9allocatorIcEEEE",
            "it was built for Android (libc++). Take the archive for armlinux",
        ),
        ("Java_com_baidu_paddle_lite_PaddlePredictor_run", "is Paddle-Lite's library for Java"),
    ],
)
def test_another_kind_of_build_is_known_by_its_names(symbol: str, words: str) -> None:
    error = explain_missing("/x/lib.so", ["_ZN1", "_ZN2"], lambda name: name == symbol)
    assert words in str(error)
    assert error.kind == "native"


def test_missing_functions_are_named_and_counted() -> None:
    text = str(explain_missing("/x/lib.so", [f"_ZN{i}" for i in range(5)], lambda name: name.endswith("C1EPv")))
    assert "/x/lib.so lacks functions of Paddle-Lite's C++ interface: _ZN0, _ZN1, _ZN2 and 2 more." in text


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("/x/lib.so: cannot allocate memory in static TLS block", "name it in LD_PRELOAD"),
        ("/x/lib.so: failed to map segment from shared object", "mounted noexec"),
        ("/x/lib.so: undefined symbol: PyExc_ValueError", "needs a Python that exports"),
    ],
)
def test_the_loader_s_words_come_with_what_helps(said: str, hint: str) -> None:
    error = explain_unloadable("/x/lib.so", said)
    assert (error.kind, str(error).startswith(said)) == ("import", True)
    assert hint in str(error)


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("v2.7.1", True),
        ("v2.13-rc", True),
        ("2.10", True),
        ("v2.6", False),
        ("v2.14", False),
        ("v3.0", False),
        ("", False),
    ],
)
def test_known_versions(version: str, known: bool) -> None:
    assert check_version(version.encode()) == version
    assert is_known(version) is known


@pytest.mark.parametrize("text", [b"\x00\x01", b"v" * 101, "版".encode()])
def test_what_is_no_version_is_refused(text: bytes) -> None:
    with pytest.raises(NativeError, match="the function that should give the version gives"):
        check_version(text)


def test_names_are_compared_whatever_their_order() -> None:
    check_names("input", ["b", "a"], ["a", "b"], "v2.13")
    with pytest.raises(NativeError, match="it gives 0 outputs, and the file declares 1") as raised:
        check_names("output", [], ["y"], "v2.13")
    assert "this library calls itself v2.13" in str(raised.value)
