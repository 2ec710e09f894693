"""What the corpus is made of: real files, boards as values, and fixtures where the real thing can't be had here."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from litefleet_agent.facts import Cpu, Facts, Libc, Memory, PythonFacts
from litefleet_agent.facts.runtime import RuntimeFacts, describe_runtime, with_flavour
from litefleet_agent.findings import Finding, ranked
from litefleet_agent.findings.crashlog.decode import decode_log
from litefleet_agent.formats.nb import read_nb
from litefleet_agent.formats.npz import Array
from litefleet_agent.verification.golden_cases import Golden, check_outputs
from litefleet_controller.build.conversion.preflight import Source, check_source, load_source
from litefleet_controller.build.conversion.static import check_source_for
from litefleet_controller.common.errors import FindingError
from litefleet_controller.doctor.files import Examined, Place, diagnose_pairs, examine
from litefleet_controller.doctor.models import diagnose_nb
from litefleet_controller.doctor.runtimes import pair_runtime

from tests.agent.support.bench_fixtures import measured, opened, stand_in, toy_release
from tests.agent.support.nb_builder import nb, op, param, params, topology, var
from tests.conftest import environment, lite_environment, pir_model, raw_nb, source_models

LOGS = Path(__file__).parent.parent / "agent" / "fixtures" / "logs"
FP16 = {"enable_fp16": "true"}
INT8 = {"quant_model": "true", "quant_type": "QUANT_INT8"}
_LIBRARIES = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1",
)  # fmt: skip
_V8 = ("asimd", "crc32", "evtstrm", "fp")


def board(arch: str, part: str, features: Iterable[str], python: str = "cp310", **more: object) -> Facts:
    """Return a device's facts, ordinary but for what is named."""
    bits = 64 if arch in ("x86_64", "aarch64") else 32
    facts = Facts(
        machine="aarch64" if arch == "aarch64" else arch,
        arch=arch,
        bits=bits,
        cpu=Cpu(4, (part,), tuple(sorted(features)), 4, 4),
        libc=Libc("glibc", "2.31"),
        libstdcxx="3.4.28",
        libraries=_LIBRARIES,
        python=PythonFacts("/usr/bin/python3", "3.10.13", "cpython", python, bits),
        memory=Memory(2 << 30, 1 << 30),
        page_size=4096,
    )
    return facts._replace(**more)  # type: ignore[arg-type]


PC = board("x86_64", "Celeron N5105", ("avx", "avx2", "fma", "sse4_2"))
OLD_PC = board("x86_64", "Celeron N3350", ("sse4_2",))
PI4 = board("aarch64", "Cortex-A72", _V8)
PI3 = board("armv7l", "Cortex-A53", ("neon", "vfpv4", "half", "crc32"))
PI1 = board("armv7l", "ARM1176", ("half", "thumb"))
RK3588 = board("aarch64", "Cortex-A76", (*_V8, "asimdhp", "fphp", "asimddp"))
BOARDS = {"pc": PC, "pi4": PI4, "pi3": PI3, "rk3588": RK3588}


def on(facts: Facts, file: Path, runtime: RuntimeFacts | None = None) -> list[Finding]:
    """Return doctor's findings of a .nb file and of it on a device, with a runtime if one is given."""
    return _paired(examine(file), runtime, Place.of_device("board", facts))


def with_runtime(file: Path, runtime: RuntimeFacts) -> list[Finding]:
    """Return doctor's findings of a .nb file together with a runtime, no device known."""
    return _paired(examine(file), runtime, None)


def _paired(file: Examined, runtime: RuntimeFacts | None, place: Place | None) -> list[Finding]:
    files = [file]
    if runtime is not None:
        files.append(Examined(replace(file.diagnosis, findings=()), runtime=runtime))
    found = diagnose_pairs(files, [place] if place else [], "2.13rc0")
    return ranked([*file.diagnosis.findings, *(f for d in found for f in d.findings)])


def inspected(file: Path, arch: str) -> list[Finding]:
    """Return what `inspect FILE --for ARCH` finds."""
    return ranked(diagnose_nb(file, arch).findings)


def doctored(path: Path) -> list[Finding]:
    """Return what `doctor PATH` finds."""
    return list(examine(path).diagnosis.ranked)


def log(name: str) -> list[Finding]:
    """Return what `doctor --log` finds in one of the kept logs."""
    return list(decode_log((LOGS / f"{name}.log").read_text(encoding="utf-8", errors="replace")).findings)


@cache
def runtime(version: str = "2.13rc0") -> RuntimeFacts:
    """Return the real runtime of that version, as it lies in its environment."""
    return with_flavour(describe_runtime(str(_packages(lite_environment(version))), []))


def _packages(python: Path) -> Path:
    return next((python.parent.parent / "lib").glob("python3*/site-packages"))


def numpy_2_runtime() -> Path:
    """Return the folder of a real runtime with numpy 2 beside it."""
    return _packages(environment("lite-2.13rc0-numpy2", "3.10", "paddlelite==2.13rc0", "numpy>=2"))


def runtime_on(facts: Facts, described: RuntimeFacts) -> list[Finding]:
    """Return what is found of a runtime on a device, no model known."""
    return ranked(pair_runtime(described, facts))


@cache
def scratch() -> Path:
    """Return a folder for files that are made from real ones; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="litefleet-corpus-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def written(name: str, data: bytes) -> Path:
    """Return a file of the scratch folder with these bytes."""
    path = scratch() / name
    path.write_bytes(data)
    return path


def real(model: str, target: str, **flags: str) -> bytes:
    """Return the bytes of a real .nb file."""
    return raw_nb(model, target, **flags).read_bytes()


def mixed_precision() -> Path:
    """Return a made-up .nb with an fp16 and an int8 kernel: no converter writes one."""
    return _two_kernels("mixed.nb", 5, 2)


def int8_kernels() -> Path:
    """Return a made-up .nb with int8 kernels for ARM, as a model that was quantised in training gives."""
    return _two_kernels("int8.nb", 2, 2)


def _two_kernels(name: str, first: int, second: int) -> Path:
    ops = [
        op("feed", None, ["feed"], ["x"]),
        op("fc", f"fc/def/4/{first}/1", ["x"], ["y"]),
        op("conv2d", f"conv2d/def/4/{second}/1", ["y"], ["z"]),
        op("fetch", None, ["z"], ["fetch"]),
    ]
    names = [var(n, [1, 4]) for n in ("x", "y", "z")]
    tail = params(param("w", [4, 4], b"\0" * 64))
    return written(name, nb(topology(ops, [*names, var("w", [4, 4], persistable=True)]), tail))


def untagged() -> Path:
    """Return a real .nb whose header names a commit, as an untagged converter writes it."""
    data = real("cls", "x86")
    return written("untagged.nb", data[:2] + b"a1b2c3d4e".ljust(16, b"\0") + data[18:])


def source(model: str, target: str, version: str = "2.13rc0") -> list[Finding]:
    """Return what is found of a real source model before its conversion."""
    facts = load_source(source_models()[model]).facts
    return ranked([*facts.findings, *check_source_for(facts, target, version)])


def sources(program: bytes, parameters: bytes) -> list[Finding]:
    """Return what is found of a program and its parameters."""
    try:
        return ranked(check_source(program, parameters).findings)
    except FindingError as error:
        return list(error.findings)


def loaded(model: str) -> Source:
    """Return a real source model."""
    return load_source(source_models()[model])


def pir() -> list[Finding]:
    """Return what doctor finds of a model as PaddlePaddle 3 saves it."""
    return doctored(pir_model())


def ran(first: list[float], second: list[float], later: list[float] | None = None) -> list[Finding]:
    """Return the judgement of two cases whose reference is ([1, 0], [0, 1]); `later` is a later run of the first."""
    import struct

    def array(values: list[float]) -> Array:
        return Array("float32", (1, 2), struct.pack("<2f", *values))

    model = read_nb(real("cls", "x86"))
    goldens = [Golden({}, (array([1.0, 0.0]),)), Golden({}, (array([0.0, 1.0]),))]
    again = [(0, array(later))] if later else []
    return ranked(check_outputs(model, goldens, [([array(first)], again), ([array(second)], [])]).findings)


def benched(behaviour: str) -> list[Finding]:
    """Return what a bench of a few seconds finds; the stand-in for Paddle-Lite does `behaviour` in each run."""
    folder = Path(tempfile.mkdtemp(prefix="litefleet-corpus-"))
    try:
        store = opened(folder / "root")
        toy_release(store, stand_in(store, "runtime", behaviour))
        return [Finding.from_dict(found) for found in measured(store, seconds=6)["findings"]]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
