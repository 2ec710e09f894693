"""Graphs with offsets counted from their end: turned back to the same bytes, in whatever pieces, and never beyond bounds."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.errors import AgentError
from litefleet_agent.releases.graph_offsets import MAX_GRAPHS, Base, Graph, turned, with_turned
from litefleet_agent.releases.rebuild import RebuildRequest, rebuild
from litefleet_agent.releases.store import Store, StoreError

from tests.agent.support.rebuild_steps import leb128, sha

WORDS = st.one_of(
    st.integers(-40_000, 40_000).map(lambda n: struct.pack("<i", n)),
    st.sampled_from((b"conv", b"ut\0\0", b"\x7f\xff\xff\xff", struct.pack("<f", 1.0), struct.pack("<i", -(1 << 31)))),
)


@st.composite
def graphs(draw: st.DrawFn) -> bytes:
    """Return words as graphs have them, with zeros between, so that long offsets lead into the graph."""
    words = draw(st.lists(WORDS, max_size=12))
    return b"".join(word + bytes(4 * draw(st.integers(0, 2000))) for word in words) + draw(st.binary(max_size=3))


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_what_is_turned_twice_is_as_it_was(graph: bytes) -> None:
    there = turned(graph)
    assert len(there) == len(graph)
    assert turned(there) == graph


def test_an_offset_to_the_end_is_the_same_number_wherever_its_table_stands() -> None:
    size, numbers = 40_000, []
    for place in (0, 4, 20_000):
        graph = bytearray(size)
        struct.pack_into("<i", graph, place, size - 12 - place)  # leads to 12 bytes before the end
        numbers += struct.unpack_from("<i", turned(bytes(graph)), place)
        struct.pack_into("<i", graph, place, place - (size - 12))  # to a table's layout, which is subtracted
        numbers += struct.unpack_from("<i", turned(bytes(graph)), place)
    assert numbers == [4095 + 12, -4095 - 12] * 3


@pytest.mark.parametrize("word", [b"ut\0\0", struct.pack("<i", 30_000)])
def test_the_end_of_a_text_stays_as_it_is(word: bytes) -> None:
    assert turned(b"Outp" + word + bytes(40_000)) == b"Outp" + word + bytes(40_000)
    assert turned(b"Out\0" + word + bytes(40_000)) != b"Out\0" + word + bytes(40_000)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.binary(max_size=9), st.binary(max_size=9), st.data())
def test_a_file_is_turned_in_whatever_pieces_it_is_read(
    graph: bytes, before: bytes, after: bytes, data: st.DataObject
) -> None:
    file, place = before + graph + after, Graph(len(before), len(graph))
    there = before + turned(graph) + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(file)), max_size=4)))
    parts = [slice(*ends) for ends in zip([0, *cuts], [*cuts, len(file)])]  # noqa: B905 - 3.7
    assert b"".join(with_turned([file[part] for part in parts], place)) == there
    base = Base(io.BytesIO(file), place)
    for part in parts:
        assert base.read(part.start, part.stop - part.start) == there[part]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path))
    made.lock()
    return made


def model(inserted: bytes) -> bytes:
    """Return a file of which a graph is a part: in its middle, `inserted`, on both sides offsets that lead to its end."""
    size = 12_000 + len(inserted)
    graph = bytearray(6000) + inserted + bytes(6000)
    for place in (*range(0, 6000, 64), *range(6000 + len(inserted), 7800 + len(inserted), 64)):
        struct.pack_into("<i", graph, place, size - 8 - place)
    return b"head" + bytes(graph) + WEIGHTS


WEIGHTS = bytes(range(256)) * 8
OLD, NEW = model(b""), model(b"an attribute\0\0\0\0")
GRAPHS = [[4, 12_016], [4, 12_000]]


def request(script: int, **changed: object) -> RebuildRequest:
    header = {"sha256": sha(NEW), "size": len(NEW), "bases": [sha(OLD)], "script": script, "coding": "zlib"}
    return RebuildRequest.from_header({**header, "graphs": GRAPHS, **changed})


def recipe() -> tuple[bytes, bytes]:
    """Return the steps and the new bytes that make NEW from OLD, both with turned graphs."""
    first = 4 + 6000
    return leb128(0, 0, 0, first) + leb128(16, 0, 0, len(OLD) - first), b"an attribute\0\0\0\0"


def test_a_graph_with_an_insertion_is_copied_with_the_offsets_over_it(store: Store) -> None:
    script, new = recipe()
    store.put(sha(OLD), len(OLD), [OLD])
    rebuild(store, request(len(script)), [zlib.compress(script + new)])
    assert Path(store.blob(sha(NEW))).read_bytes() == NEW
    Path(store.blob(sha(NEW))).unlink()
    with pytest.raises(StoreError) as caught:
        rebuild(store, request(len(script), graphs=[]), [zlib.compress(script + new)])
    assert caught.value.code == "hash-mismatch", "as they are, the offsets are others"


def test_a_body_cut_at_any_byte_makes_nothing(store: Store) -> None:
    script, new = recipe()
    store.put(sha(OLD), len(OLD), [OLD])
    body = zlib.compress(script + new)
    for size in range(len(body)):
        with pytest.raises(StoreError) as caught:
            rebuild(store, request(len(script)), [body[:size]])
        assert caught.value.code == "bad-request"
    assert [path.name for path in Path(store.root, "blobs").iterdir()] == [sha(OLD)]


def test_places_of_graphs_at_random_give_an_error_or_the_right_bytes(store: Store) -> None:
    script, new = recipe()
    store.put(sha(OLD), len(OLD), [OLD])
    body, chance, refused = zlib.compress(script + new), random.Random(3), 0
    for _ in range(200):
        places = [[chance.choice((0, 4, chance.randrange(15_000))), chance.randrange(15_000)] for _ in GRAPHS]
        try:
            rebuild(store, request(len(script), graphs=places), [body])
        except (AgentError, StoreError):
            refused += 1
            assert not Path(store.blob(sha(NEW))).exists()
        else:
            assert store.check_blob(sha(NEW))
            Path(store.blob(sha(NEW))).unlink()
    assert refused > 150


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (7, "must be a list"),
        ([[0, 9]], "of the result and of each base"),
        ([[0, 9], [0, 9], [0, 9]], "must be a list of 0 to 2 items"),
        ([[0, 9], [0]], "of the result and of each base"),
        ([[0, 9], [0, 1, 2]], "must be a list of 0 to 2 items"),
        ([[0, 9], 9], "must be a list"),
        ([[-1, 9], [0, 9]], "start of one of"),
        ([["0", 9], [0, 9]], "start of one of"),
        ([[0, 9], [1 << 60, 9]], "start of one of"),
        ([[0, 9.0], [0, 9]], "size of one of"),
        ([[0, 9], [0, MAX_GRAPHS + 1]], "size of one of"),
        ([[0, 9], [0, MAX_GRAPHS]], "larger than 8388608 bytes"),
        ([[len(NEW), 1], [0, 9]], "the result's graph ends at byte"),
        ([[0, len(NEW) + 1], [0, 9]], "the result's graph ends at byte"),
    ],
)
def test_places_of_graphs_that_do_not_fit_are_refused(places: object, said: str) -> None:
    with pytest.raises(AgentError, match=said) as caught:
        request(0, graphs=places)
    assert caught.value.code == "bad-request"


@pytest.mark.parametrize("place", [[0, len(OLD) + 1], [len(OLD), 1], [1 << 40, 5]])
def test_a_graph_behind_its_base_is_refused(store: Store, place: list) -> None:
    script, new = recipe()
    store.put(sha(OLD), len(OLD), [OLD])
    with pytest.raises((StoreError, AgentError), match="graph"):
        rebuild(store, request(len(script), graphs=[GRAPHS[0], place]), [zlib.compress(script + new)])
    assert [path.name for path in Path(store.root, "blobs").iterdir()] == [sha(OLD)]
