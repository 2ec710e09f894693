"""A conversion takes the same memory for a model of 100 MB as for one of 1 MB: files are read, copied and hashed in pieces."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.common.errors import FindingError

from tests.agent.support import nb_builder
from tests.controller.build.conversion.test_preflight import op, program, saved, var

SMALL, LARGE = 1 << 18, 25 << 20  # weights of four bytes
MOST = 0.15  # of the larger model: what the peak may grow by
# `admit` reads the same .nb as a ready-made file.  VmHWM is of this program alone; ru_maxrss would begin with its parent's.
CONVERTS = """
import asyncio, sys
from pathlib import Path
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import admit, convert
from litefleet_controller.build.conversion.preflight import load_source
from litefleet_controller.build.conversion.variant import make_variant
from litefleet_controller.build.toolchain import Toolchain

folder, store = Path(sys.argv[1]), ArtifactStore(Path(sys.argv[1]) / "store")

class Converters:
    async def lite(self, version):
        return Toolchain(version, Path(sys.executable), folder / "opt.py")

source = load_source(folder)
variant = make_variant(source.sha256, "x86")
made = asyncio.run(convert(source, variant, Converters(), store))
again = asyncio.run(convert(source, variant, Converters(), store))
ready = admit(made.path, store)
assert again.cached and made.sha256 == again.sha256 == ready.sha256 and made.nb == again.nb == ready.nb
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, made.nb.sha256, made.nb.normalised_sha256, made.nb.parameter_bytes)
"""


def write_model(folder: Path, weights: int) -> None:
    """Write a source whose one parameter has this many weights, and an opt that writes its .nb; both are sparse files."""
    folder.mkdir()
    shape = [weights // 256, 256]
    parts = [var("feed", [], kind=9, persistable=True), var("x", [-1, shape[0]]), var("y", [-1, 256])]
    parts += [var("w", shape, persistable=True), op("feed", ["feed"], ["x"]), op("mul", ["x", "w"], ["y"])]
    (folder / "inference.pdmodel").write_bytes(program(*parts, op("fetch", ["y"], ["fetch"])))
    with (folder / "inference.pdiparams").open("wb") as file:
        file.write(saved(shape, width=0))
        file.truncate(file.tell() + 4 * weights)
    ops = [
        nb_builder.op("feed", "feed/def/1/4/2", ["feed"], ["x"]),
        nb_builder.op("fc", "fc/def/2/1/1", ["x", "w"], ["y"]),
        nb_builder.op("fetch", "fetch/def/1/4/2", ["y"], ["fetch"]),
    ]
    variables = [nb_builder.var("x", [-1, shape[0]]), nb_builder.var("y", [-1, 256])]
    variables.append(nb_builder.var("w", shape, persistable=True))
    empty = nb_builder.param("w", shape, b"")  # ends with the weights: their length in bytes, and a NUL behind them
    (total,) = struct.unpack_from("<I", empty)
    weight = struct.pack("<I", total + 4 * weights) + empty[4:-5] + struct.pack("<I", 4 * weights)
    tail = struct.pack("<HHHHI", 0, 0, 6, 1, len(weight) + 4 * weights) + weight
    head = nb_builder.nb(nb_builder.topology(ops, variables), tail)
    lines = ["import sys", "args = dict(a[2:].split('=', 1) for a in sys.argv[1:])"]
    lines += ["with open(args['optimize_out'] + '.nb', 'wb') as file:", f"    file.write({head!r})"]
    (folder / "opt.py").write_text("\n".join([*lines, f"    file.truncate(file.tell() + {4 * weights + 1})"]))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_memory_of_a_conversion_does_not_grow_with_the_model(tmp_path: Path) -> None:
    peaks = []
    for name, weights in (("small", SMALL), ("large", LARGE)):
        write_model(tmp_path / name, weights)
        argv = [sys.executable, "-c", CONVERTS, str(tmp_path / name)]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        assert ended.returncode == 0, ended.stderr
        peak, sha256, normalised, size = ended.stdout.split()
        assert (normalised, int(size)) == (sha256, 4 * weights)
        peaks.append(int(peak) << 10)
    assert peaks[1] - peaks[0] < MOST * 4 * LARGE, peaks


def test_parameters_that_change_after_the_check_are_not_converted(tmp_path: Path) -> None:

    write_model(tmp_path / "model", SMALL)
    source, params = load_source(tmp_path / "model"), tmp_path / "model" / "inference.pdiparams"
    assert b"".join(source.pieces()) == params.read_bytes()
    for change in (lambda data: data[:-1] + b"\1", lambda data: data[:-1], lambda data: data + b"\0"):
        whole = params.read_bytes()
        params.write_bytes(change(whole))
        with pytest.raises(FindingError, match="changed after it was checked"):
            list(source.pieces())
        params.write_bytes(whole)
    params.unlink()
    with pytest.raises(FindingError, match="cannot be read: No such file"):
        list(source.pieces())
