"""What is checked in a .nb beyond its description: no real file is refused, and few mutated ones still pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from litefleet_agent.formats.nb import NbError, read_nb

from tests.agent.support.nb_builder import Fields, attr, ints, nb, op, param, params, small, topology, var
from tests.conftest import CACHE

HEADER = 26  # bytes before the topology
CONV = [ints("strides", [1, 1]), ints("paddings", [0, 0, 0, 0]), ints("dilations", [1, 1]), attr("groups", i=1)]


def conv(*changed: Fields, left_out: str = "", kind: str = "conv2d") -> bytes:
    """A feed, one convolution and a fetch; `changed` attributes replace those of their name."""
    names = {fields.values[0] for fields in changed}
    more = [a for a in CONV if a.values[0] not in names and a.values[0] != left_out] + list(changed)
    return model(op(kind, f"{kind}/def/2/1/1", ["x", "w"], ["y"], more=more))


def model(operator: Fields, variables: Sequence[Fields] = ()) -> bytes:
    ops = [op("feed", "feed/def/1/4/2", ["feed"], ["x"]), operator, op("fetch", "fetch/def/1/4/2", ["y"], ["fetch"])]
    known = [var("x", [-1, 2]), var("y", [-1, 3]), var("w", [2, 3], persistable=True), *variables]
    return nb(topology(ops, known), params(param("w", [2, 3], bytes(24))))


def damage(data: bytes) -> str:
    return read_nb(data).damage


@pytest.mark.parametrize("kind", ["conv2d", "depthwise_conv2d", "conv2d_transpose"])
def test_a_usual_convolution_is_fine(kind: str) -> None:
    assert damage(conv(kind=kind)) == ""
    assert damage(small()) == ""


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (conv(ints("strides", [0, 1])), "operator 1 (conv2d) has strides of 0"),
        (conv(ints("strides", [])), "operator 1 (conv2d) has no strides"),
        (conv(left_out="paddings"), "operator 1 (conv2d) has no paddings"),
        (conv(ints("paddings", [65536, 0])), "operator 1 (conv2d) has paddings of 65536"),
        (conv(ints("paddings", [-1, 0])), "operator 1 (conv2d) has paddings of -1"),
        (conv(ints("dilations", [0, 0])), "operator 1 (conv2d) has dilations of 0"),
        (conv(attr("groups", i=0)), "operator 1 (conv2d) has groups of 0"),
        (conv(ints("strides", [1, 1], kind=99)), "the attribute 'strides' of operator 1 (conv2d) has the unknown type 99"),
        (conv(ints("strides", [1, 1], kind=4)), "has the type 4 and a list of another one"),
        (conv(ints("axis", [1]), ints("axis", [2])), "has the attribute 'axis' twice"),
        (conv(attr("a\x01b", i=1)), "has the name"),
        (conv(attr("", i=1)), "has the name ''"),
        (model(op("fc", "pc/def/2/1/1", ["x", "w"], ["y"])), "operator 1 (fc) has a kernel of 'pc'"),
        (model(op("fc", "fc/def/2/0/1", ["x", "w"], ["y"])), "has a kernel without target, precision or layout"),
        (model(op("fc", "fc/def/2/1/1", ["x", "v"], ["y"])), "operator 1 (fc) uses the variable 'v', which is not declared"),
        (
            model(op("fc", "fc/def/2/1/1", ["x", "v"], ["y"]), [var("v", [1])]),
            "operator 1 (fc) reads the variable 'v', which no operator writes",
        ),
        (model(op("fc", "fc/def/2/1/1", ["x"], ["y"]), [var("z", [1 << 40])]), "has a dimension of 1099511627776"),
        (model(op("fc", "fc/def/2/1/1", ["x"], ["y"]), [var("z", [-(1 << 40)])]), "has a dimension of -1099511627776"),
        (model(op("fc", "fc/def/2/1/1", ["x"], ["y"]), [var("z", [1 << 30, 1 << 30])]), "elements"),
        (model(op("fc", "fc/def/2/1/1", ["x"], ["y"]), [var("z", [1], data_type=4849669)]), "has the unknown data type"),
    ],
)  # fmt: skip
def test_what_ends_the_runtime_is_named(data: bytes, sentence: str) -> None:
    assert sentence in damage(data)


@pytest.mark.parametrize("dims", [[-2, -2], [-1, -4], [0], []])
def test_free_dims_stay_fine(dims: list[int]) -> None:
    assert damage(model(op("fc", "fc/def/2/1/1", ["x", "w"], ["y"]), [var("z", dims)])) == ""


@pytest.mark.toolchain
def test_no_real_file_is_refused(nb_files: Callable[..., Path]) -> None:
    nb_files("cls", "x86")  # at least this one
    files = sorted(CACHE.glob("nb-*/*.nb"))
    assert files
    assert {file.parent.name: read_nb(file.read_bytes()).damage for file in files} == dict.fromkeys(
        (file.parent.name for file in files), ""
    )


@pytest.mark.toolchain
def test_most_changes_to_a_topology_are_found(nb_files: Callable[..., Path]) -> None:
    """Four of five changed bytes; `bench/nb_mutations.py` measures what the runtime does with the others."""
    data = nb_files("cls", "x86").read_bytes()
    end = HEADER + int.from_bytes(data[18:26], "little")
    chance = random.Random(7)
    found, count = 0, 200
    for _ in range(count):
        changed = bytearray(data)
        changed[chance.randrange(HEADER, end)] ^= 1 << chance.randrange(8)
        try:
            found += bool(damage(bytes(changed)))
        except NbError:
            found += 1
    assert found > 0.75 * count
