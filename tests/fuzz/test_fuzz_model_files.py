"""Model files: .nb, .npy and .npz, ELF, Paddle's program and parameters; on the device and on the controller."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.formats.elf import ElfError, read_elf
from litefleet_agent.formats.nb import NbError, normalise, read_nb
from litefleet_agent.formats.npz import NpzError, read_npy
from litefleet_agent.formats.npz import read_npz as read_npz_on_device
from litefleet_controller.build.conversion.params import ParamsError, read_params
from litefleet_controller.build.conversion.preflight import check_source
from litefleet_controller.build.conversion.program import read_program
from litefleet_controller.build.conversion.protobuf import WireError
from litefleet_controller.build.golden.files import read_npz
from litefleet_controller.common.errors import FindingError
from litefleet_controller.inspection.model import inspect_file

from tests.agent.support import nb_builder
from tests.agent.support.elf_builder import build_elf
from tests.conftest import raw_nb
from tests.fuzz.harness import Reader, fuzz


def npy(value: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, value, allow_pickle=False)
    return out.getvalue()


def npz(compressed: bool) -> bytes:
    out, arrays = io.BytesIO(), {"x": np.ones((1, 3, 4), "float32"), "save_infer_model/scale_0.tmp_1": np.arange(5)}
    (np.savez_compressed if compressed else np.savez)(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


NPY = (npy(np.ones((2, 3), "float32")), npy(np.arange(6, dtype=">i8")), npy(np.asfortranarray(np.ones((2, 3)))[:, :1]))
NPZ = (npz(False), npz(True))
NPY_WORDS = (b"'descr'", b"'<f4'", b"'|O'", b"(1,)", b"(9999999999,)", b"(-1,)", b"True", b"(" * 100, b"1" * 5000)
ELF = (
    build_elf(needed=("libc.so.6", "libm.so.6"), versions={"libc.so.6": ("GLIBC_2.34",)}, runpath="$ORIGIN"),
    build_elf(machine=40, bits=32, needed=("libgomp.so.1",), interpreter="/lib/ld-linux-armhf.so.3", soname="x"),
    build_elf(machine=183, order=">", needed=("libc.so.6",)),
)
ELF_CODES = (b"\x7fELF\x02\x01", b"libc.so.6\0", b"GLIBC_9.99\0")
READERS = (
    Reader("nb", (nb_builder.small(),), read_nb, (NbError,)),
    Reader("nb header", (nb_builder.small(),), normalise, (NbError,)),
    Reader("npy", NPY, read_npy, (NpzError,), NPY_WORDS),
    Reader("npz on the device", NPZ, read_npz_on_device, (NpzError,), NPY_WORDS),
    Reader("elf", ELF, read_elf, (ElfError,), ELF_CODES),
)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_formats(reader: Reader, record_property: Callable[[str, object], None]) -> None:
    fuzz(reader, record_property)


def written(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a reader of bytes that goes by way of a file."""

    def of(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return of


def test_npz_on_the_controller(tmp_path: Path) -> None:
    read = written(tmp_path / "x.npz", read_npz)
    fuzz(Reader("npz on the controller", NPZ, read, (FindingError,), NPY_WORDS))


def test_inspect_of_any_nb_gives_a_verdict(tmp_path: Path) -> None:
    def inspect(path: Path) -> None:
        seen = inspect_file(path, "aarch64")
        assert seen.verdict
        assert seen.to_text()
        json.dumps(seen.to_dict(), allow_nan=False)

    fuzz(Reader("inspect", (nb_builder.small(),), written(tmp_path / "model.nb", inspect), ()))


@pytest.mark.toolchain
def test_a_real_nb() -> None:
    """A converter's own file, of 150 KB of topology: reading it takes longer, so fewer inputs are tried."""
    fuzz(Reader("real nb", (raw_nb("cls", "x86").read_bytes(),), read_nb, (NbError,), least=10))


@pytest.mark.toolchain
def test_program_and_parameters(models: dict[str, Path]) -> None:
    program = (models["cls"] / "inference.pdmodel").read_bytes()
    params = (models["cls"] / "inference.pdiparams").read_bytes()
    fuzz(Reader("program", (program,), read_program, (WireError,), least=10))
    fuzz(Reader("parameters", (params,), lambda data: list(read_params(data)), (ParamsError,), least=10))

    def both(data: bytes) -> object:
        return check_source(data, params)

    fuzz(Reader("source", (program,), both, (FindingError,), least=10, limit_bytes=256 << 20))
