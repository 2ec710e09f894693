"""What a device copies from files that it holds: found by content, rebuilt by the agent's own code, and small."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.facts.values import Disk
from litefleet_agent.releases.rebuild import RebuildRequest, rebuild
from litefleet_agent.releases.store import Store
from litefleet_controller.devices import graphs
from litefleet_controller.devices.delta import Codings, delta_request, make_delta, packed_request
from litefleet_controller.devices.planes import deflated_planes, in_planes


def name(data: bytes) -> str:
    return sha256(data).hexdigest()


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).getrandbits(8 * size).to_bytes(size, "big")


def bytes_of(body: bytes | Path) -> bytes:
    return body.read_bytes() if isinstance(body, Path) else body


def rebuilt(folder: Path, data: bytes, bases: list[bytes]) -> int | None:
    """Rebuild `data` by the agent from what the controller computes; return the bytes that travel, None for the whole."""
    delta = make_delta(data, {name(base): base for base in bases})
    if delta is None:
        return None
    store = Store(str(folder))
    store.lock()
    for base in bases:
        store.put(name(base), len(base), [base])
    request = delta.request(name(data), len(data))
    rebuild(store, RebuildRequest.from_header(dict(request.fields)), [bytes_of(delta.body)])
    store.unlock()
    assert Path(store.blob(name(data))).read_bytes() == data
    return delta.size


def test_moved_reordered_and_shifted_tensors_are_copied(tmp_path: Path) -> None:
    first, second, third = (noise(n, n) for n in (70_000, 50_001, 90_003))
    old, other = b"topology one" * 30 + first + second, third
    new = b"another topology, of another length" * 20 + third[1:] + b"?" + second + b"!!!" + first
    sent = rebuilt(tmp_path, new, [old, other])
    assert sent is not None
    assert sent < 1500


def test_a_changed_last_layer_is_what_travels(tmp_path: Path) -> None:
    old = noise(400_000)
    new = old[:360_000] + noise(40_000, 9)
    sent = rebuilt(tmp_path, new, [old])
    assert sent is not None
    assert 40_000 <= sent < 41_500


@pytest.mark.parametrize("base", [b"", b"short", noise(200_000, 5)])
def test_what_saves_nothing_is_sent_whole(tmp_path: Path, base: bytes) -> None:
    assert rebuilt(tmp_path, noise(100_000, 3), [base]) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_edit_of_a_file_is_rebuilt_exactly(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    old = noise(20_000, 2) + bytes(3000) + noise(5000, 4)
    pieces = data.draw(st.lists(st.tuples(st.integers(0, len(old)), st.integers(0, len(old))), max_size=6))
    new = b"".join(old[min(p) : max(p)] + data.draw(st.binary(max_size=40)) for p in pieces)
    rebuilt(tmp_path_factory.mktemp("device"), new, [old, b"x" * 1000])


def graph(shift: int) -> bytes:
    """Return records of random bytes with an offset each, as a flatbuffer has them; all offsets are moved by `shift`."""
    records = (noise(20, n) + (5000 + n * 24 + shift).to_bytes(4, "little") for n in range(8000))
    return b"".join(records)


def test_a_graph_whose_offsets_moved_travels_as_differences(tmp_path: Path) -> None:
    weights = noise(300_000)
    old, new = weights + graph(0), b"one more" + weights + graph(8)
    sent = rebuilt(tmp_path, new, [old])
    assert sent is not None
    assert sent < 1500
    without = make_delta(new, {name(old): old}, Codings(near=False))
    assert without is not None
    assert without.size > 30_000
    assert not without.differences


def test_an_agent_that_cannot_add_differences_is_sent_none(tmp_path: Path) -> None:
    weights = noise(100_000)
    old, new = weights + graph(0), weights + graph(8)
    for data in (old, new):
        (tmp_path / name(data)).write_bytes(data)
    for codings, near in ((["zlib", "lzma"], False), (["zlib", "lzma", "near"], True)):
        hello: dict[str, object] = {"rebuild": codings, "blobs": {name(old): len(old)}}
        request = delta_request(hello, name(new), tmp_path / name(new))
        assert request is not None
        assert ("differences" in request.fields) is near


def test_a_large_delta_is_a_file_and_takes_little_memory(tmp_path: Path) -> None:
    old, new = noise(1_000_000), noise(6_000_000, 8)
    new = old + new
    for data in (old, new):
        (tmp_path / name(data)).write_bytes(data)
    request = delta_request({"rebuild": ["zlib"], "blobs": {name(old): len(old)}}, name(new), tmp_path / name(new))
    assert request is not None
    assert isinstance(request.body, Path)
    assert request.body.stat().st_size == request.size > 5_900_000


@pytest.mark.parametrize(
    ("model", "old", "new", "share"),
    [
        ("cls", ("x86",), ("arm",), 0.007),
        ("cls", ("arm", "2.12"), ("arm",), 0.006),
        ("rec", ("x86",), ("arm",), 0.001),
    ],
)
def test_a_model_converted_again_costs_less_than_a_hundredth(
    tmp_path: Path, nb_files: Callable[..., Path], model: str, old: tuple[str, ...], new: tuple[str, ...], share: float
) -> None:
    held, wanted = (nb_files(model, *how).read_bytes() for how in (old, new))
    sent = rebuilt(tmp_path, wanted, [held])
    assert sent is not None
    assert sent < share * len(wanted)


def nb(graph: bytes, weights: bytes) -> bytes:
    """Return bytes that begin as a .nb does."""
    return struct.pack("<H16sQ", 2, b"v2.13-rc", len(graph)) + graph + weights


def tables(inserted: bytes) -> bytes:
    """Return a graph whose tables have an offset each that leads to its end; `inserted` lies in its middle."""
    size = 40_000 + len(inserted)
    graph = bytearray(noise(20_000, 3) + inserted + noise(20_000, 4))
    for place in range(0, 20_000, 16):
        struct.pack_into("<i", graph, place, size - 8 - place % 1024 // 16 * 4 - place)
    return bytes(graph)


WEIGHTS = noise(20_000, 5)


def test_graphs_are_turned_for_agents_that_can_turn_them_back(tmp_path: Path) -> None:
    old, new = nb(tables(b""), WEIGHTS), nb(tables(bytes(40)), WEIGHTS)
    for data in (old, new):
        (tmp_path / name(data)).write_bytes(data)
    sizes = {}
    for able in (False, True):
        codings = ["zlib", "lzma", "near", "planes", *(["graphs"] if able else [])]
        request = delta_request({"rebuild": codings, "blobs": {name(old): len(old)}}, name(new), tmp_path / name(new))
        assert request is not None
        assert ("graphs" in request.fields) is able
        sizes[able] = request.size
    assert sizes[True] < 0.9 * sizes[False]
    assert rebuilt(tmp_path / "device", new, [old]) == sizes[True]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_edit_of_a_graph_is_rebuilt_exactly(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    held = tables(b"")
    pieces = data.draw(st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 40_000)), max_size=5))
    graph = b"".join(held[min(p) : max(p)] + data.draw(st.binary(max_size=20)) for p in pieces)
    other = [nb(graph, WEIGHTS[:5000]), b"no .nb", WEIGHTS]
    folder = tmp_path_factory.mktemp("device")
    rebuilt(folder, nb(graph, WEIGHTS), [nb(held, WEIGHTS), *data.draw(st.sampled_from((other, other[1:], [])))])


def test_graphs_are_turned_only_where_that_makes_the_delta_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    old = nb(tables(b""), WEIGHTS)
    same = make_delta(nb(tables(b""), WEIGHTS[:19_000] + noise(900, 6)), {name(old): old})
    assert same is not None
    assert not same.graphs, "the graph is the same: nothing is gained"
    new = nb(tables(bytes(40)), WEIGHTS)
    for name_of_limit, limit in (("MAX_GRAPHS", 80_039), ("_MOST", len(old) + len(new) - 1)):
        with monkeypatch.context() as patched:
            patched.setattr(graphs, name_of_limit, limit)
            larger = make_delta(new, {name(old): old})
            assert larger is not None
            assert not larger.graphs, "an agent holds so many bytes of graphs and no more"
    found = make_delta(new, {name(old): old})
    assert found is not None
    assert found.graphs == ((26, 40_040), (26, 40_000))


def test_a_new_model_travels_with_its_graph_turned(tmp_path: Path, nb_files: Callable[..., Path]) -> None:
    data = nb_files("cls", "arm", quant_model="true", quant_type="QUANT_INT8").read_bytes()
    (tmp_path / name(data)).write_bytes(data)
    plain, turned = (
        packed_request({"rebuild": ["zlib", *more]}, name(data), tmp_path / name(data)) for more in ([], ["graphs"])
    )
    assert plain is not None
    assert turned is not None
    assert turned.size < 0.95 * plain.size
    store = Store(str(tmp_path / "device"))
    store.lock()
    assert isinstance(turned.body, bytes)
    rebuild(store, RebuildRequest.from_header(dict(turned.fields)), [turned.body])
    assert Path(store.blob(name(data))).read_bytes() == data


def test_only_files_of_the_store_that_the_device_holds_are_bases(tmp_path: Path) -> None:
    old = noise(100_000)
    new = old[:90_000] + noise(10_000, 6)
    for data in (old, new):
        (tmp_path / name(data)).write_bytes(data)
    path, held = tmp_path / name(new), {name(old): len(old)}

    def bytes_of(**hello: object) -> int:
        request = delta_request(hello, name(new), path)
        return request.size if request else -1

    assert 10_000 <= bytes_of(rebuild=["zlib", "lzma"], blobs=held) < 11_000
    assert bytes_of(blobs=held) == -1, "an agent that does not announce it is asked nothing"
    assert bytes_of(rebuild=["other"], blobs=held) == -1
    assert bytes_of(rebuild=["zlib"], blobs={name(old): len(old) - 1}) == -1, "another size is another file"
    assert bytes_of(rebuild=["zlib"], blobs={"../" + name(old): len(old), 7: 3, "0" * 64: 10}) == -1
    assert bytes_of(rebuild=7, blobs=[1]) == -1
    assert delta_request({"rebuild": ["zlib"], "blobs": held}, "1" * 64, path) is None


def test_a_file_that_compresses_well_is_sent_compressed(tmp_path: Path) -> None:
    floats, random_bytes = noise(1000) * 100, noise(100_000)
    hello: dict[str, object] = {"rebuild": ["zlib"], "parts": {}}
    for data in (floats, random_bytes):
        (tmp_path / name(data)).write_bytes(data)
    request = packed_request(hello, name(floats), tmp_path / name(floats))
    assert request is not None
    assert request.size < 20_000
    store = Store(str(tmp_path / "device"))
    store.lock()
    assert isinstance(request.body, bytes)
    rebuild(store, RebuildRequest.from_header(dict(request.fields)), [request.body])
    assert Path(store.blob(name(floats))).read_bytes() == floats
    assert packed_request(hello, name(random_bytes), tmp_path / name(random_bytes)) is None
    assert packed_request({}, name(floats), tmp_path / name(floats)) is None
    for free, sent in ((len(floats) + 500_000, False), (len(floats) + 2_000_000, True)):
        asked = packed_request(hello, name(floats), tmp_path / name(floats), Disk(1 << 30, free))
        assert (asked is not None) is sent, "the compressed bytes lie beside the file for a while"
    assert packed_request({**hello, "parts": {name(floats): 9}}, name(floats), tmp_path / name(floats)) is None


def float_bytes(count: int, seed: int) -> bytes:
    chance = random.Random(seed)
    return struct.pack(f"<{count}f", *(chance.gauss(0, 0.05) for _ in range(count)))


def test_weights_travel_in_planes_to_an_agent_that_knows_them(tmp_path: Path) -> None:
    data = b"a topology of its own" * 4000 + float_bytes(100_000, 1)
    (tmp_path / name(data)).write_bytes(data)
    plain, planed = (
        packed_request({"rebuild": ["zlib", *more]}, name(data), tmp_path / name(data)) for more in ([], ["planes"])
    )
    assert plain is not None
    assert planed is not None
    assert "planes" not in plain.fields
    assert planed.size < 0.95 * plain.size
    store = Store(str(tmp_path / "device"))
    store.lock()
    assert isinstance(planed.body, bytes)
    pieces = (planed.body[place : place + 1000] for place in range(0, planed.size, 1000))
    rebuild(store, RebuildRequest.from_header(dict(planed.fields)), pieces)
    assert Path(store.blob(name(data))).read_bytes() == data


def test_new_weights_of_a_known_model_travel_in_planes(tmp_path: Path) -> None:
    old = noise(400_000)
    new = old[:300_000] + float_bytes(50_000, 2)
    delta = make_delta(new, {name(old): old}, Codings(lzma=False))
    without = make_delta(new, {name(old): old}, Codings(lzma=False, planes=False))
    assert delta is not None
    assert without is not None
    assert delta.planes
    assert not without.planes
    assert delta.size < 0.95 * without.size
    assert rebuilt(tmp_path, new, [old]) is not None


@settings(max_examples=40, deadline=None)
@given(
    st.binary(max_size=300),
    st.lists(st.sampled_from((b"", b"text" * 50_000, noise(70_000), float_bytes(9_001, 3))), max_size=4),
)
def test_what_is_deflated_in_planes_is_one_zlib_stream(head: bytes, pieces: list[bytes]) -> None:
    stream = b"".join(deflated_planes(head, in_planes(pieces), 6))
    planes = b"".join(part for parts in in_planes(pieces) for part in parts)
    assert zlib.decompress(stream) == head + planes
