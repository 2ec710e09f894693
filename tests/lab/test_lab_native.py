"""The native engine on 64-bit and 32-bit ARM: Debian's Python of that machine under qemu-user, and the stand-in library.

The library is ours and says so (tests/agent/verification/native/standin): it has Paddle-Lite's C++ interface, compiled by
Debian's cross compilers, and computes no model.  That a real library's answers are right is shown on x86_64, beside it.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from litefleet_agent.formats.npz import Array

from tests.agent.verification.native.driving import Driven, Toy, compile_standin, drive, toy
from tests.agent.verification.native.test_native_standin import ACCELERATED, BOTH, LONG, VALUES, X, check_accelerators
from tests.conftest import lacking

from .rootfs import AARCH64, ARMV7, LabError, Userland, build

pytestmark = pytest.mark.lab
CASES = [(AARCH64, "qemu-aarch64-static"), (ARMV7, "qemu-arm-static")]


@dataclass
class Emulated:
    """An ARM machine's Python, and the stand-in compiled for it."""

    userland: Userland
    emulator: str
    root: Path
    folder: Path
    made: dict = field(default_factory=dict)

    def library(self, *flags: str) -> Path:
        """Return the stand-in, compiled once for each set of flags."""
        if flags not in self.made:
            path = self.folder / str(len(self.made)) / "libpaddle_light_api_shared.so"
            self.made[flags] = compile_standin(path, *flags, compiler=f"{self.userland.triplet}-g++")
        return self.made[flags]

    def run(self, library: Path, model: Toy, **job: object) -> Driven:
        """Run the model there."""
        declared = [[t.name, t.dtype, t.dims] for t in model.declared]
        argv = [self.emulator, "-cpu", self.userland.cpu, "-L", self.root, self.root / "usr/bin/python3", "-s"]
        env = {**os.environ, "PYTHONHOME": str(self.root / "usr"), "LD_LIBRARY_PATH": str(self.folder)}
        return drive(argv, library, model.path, [model.case], model.names, env=env, declared=declared, **job)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0].machine)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    userland, emulator = request.param
    for tool in (emulator, f"{userland.triplet}-g++", "mmdebstrap"):
        if shutil.which(tool) is None:
            lacking(f"{tool} is missing: apt-get install $(cat tests/lab/packages.txt)")
    try:
        root = build(userland)
    except (LabError, PermissionError) as error:
        lacking(str(error))
    folder = tmp_path_factory.mktemp(userland.machine)
    for name in ("libstdc++.so.6", "libgcc_s.so.1"):  # the root file system may have none
        shutil.copy(f"/usr/{userland.triplet}/lib/{name}", folder)
    return Emulated(userland, emulator, root, folder)


def simple(folder: Path, *more: str) -> Toy:
    return toy(folder, {"x": X}, {"y": "twice 0"}, *more)


def test_the_library_is_for_that_machine(machine: Emulated, tmp_path: Path) -> None:
    said = subprocess.run(
        ["readelf", "-h", machine.library("-DSTANDIN_ARM")], capture_output=True, text=True, check=True
    )
    assert {"aarch64": "AArch64", "armv7l": "ELF32"}[machine.userland.machine] in said.stdout
    assert machine.run(machine.library("-DSTANDIN_ARM"), simple(tmp_path)).report["version"] == "v2.13"


@pytest.mark.parametrize("layout", [210, 212, 213])
def test_every_known_layout_is_found_at_run_time(machine: Emulated, tmp_path: Path, layout: int) -> None:
    both = BOTH if layout == 213 else ("-DSTANDIN_ARM",)
    library = machine.library(f"-DSTANDIN_LAYOUT={layout}", *both)
    asked = ACCELERATED if layout == 213 else {"threads": 2, "power_mode": "LITE_POWER_LOW"}
    result = machine.run(library, simple(tmp_path), engine=asked, cache="/the/cache")
    assert result.error == ("", "")
    assert struct.unpack("<6f", result.outputs()[0].data)[:3] == (1, -2, 4)
    assert (result.report["threads_set_by"], result.report["threads_taken"]) == ("set_threads", 2)
    assert result.report["power_mode"] == "LITE_POWER_HIGH"  # the stand-in has no small cores
    if layout == 213:
        check_accelerators(result)


def test_types_and_names_go_through(machine: Emulated, tmp_path: Path) -> None:
    values = {f"{LONG}_{name}" if i % 2 else name: value for i, (name, value) in enumerate(VALUES.items())}
    outputs = {f"out_{name}": f"copy {i}" for i, name in enumerate(values)}
    result = machine.run(machine.library("-DSTANDIN_ARM"), toy(tmp_path, values, outputs))
    assert result.error == ("", "")
    assert result.outputs() == list(VALUES.values())
    assert result.report["output_names"] == list(outputs)


def test_a_lod_goes_in_and_comes_out(machine: Emulated, tmp_path: Path) -> None:
    value = Array("int64", (5, 1), struct.pack("<5q", *range(5)))
    levels = [[0, 2, 2], [0, 1, 5]]
    model = toy(tmp_path, {"words": value}, {"same": "copy 0"})
    assert machine.run(machine.library("-DSTANDIN_ARM"), model, lod={"words": levels}).report["lods"] == [[levels]]


@pytest.mark.parametrize("place", ["load", "run"])
@pytest.mark.parametrize(
    ("what", "by"), [("throw", signal.SIGABRT), ("abort", signal.SIGABRT), ("segv", signal.SIGSEGV)]
)
def test_exceptions_and_crashes_end_the_process(
    machine: Emulated, tmp_path: Path, place: str, what: str, by: int
) -> None:
    result = machine.run(machine.library("-DSTANDIN_ARM"), simple(tmp_path, f"on {place} {what}"))
    assert (result.code, result.report) == (-by, {})
    if what == "throw":
        assert f"what():  standin: told to throw at {place}" in result.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-D_GLIBCXX_USE_CXX11_ABI=0",), "built with the old string ABI"),
        (("-DSTANDIN_WITHOUT_PRECISION",), "_ZNK6paddle8lite_api6Tensor9precisionEv"),
        (("-DSTANDIN_LAYOUT=300",), "laid out in a way that is unknown here"),
        (("-DSTANDIN_SHIFTED", "-fvisibility=default"), "should be GetInput: it is NewInThisVersion"),
        (("-DSTANDIN_GARBLES",), "reads back as other items"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_the_library_lacks_is_a_sentence(machine: Emulated, tmp_path: Path, flags: tuple, words: str) -> None:
    assert words in machine.run(machine.library("-DSTANDIN_ARM", *flags), simple(tmp_path)).error[1]


def test_hidden_functions_at_other_positions_give_no_answer(machine: Emulated, tmp_path: Path) -> None:
    result = machine.run(machine.library("-DSTANDIN_ARM", "-DSTANDIN_SHIFTED"), simple(tmp_path))
    assert result.report.get("outputs", []) == []
    assert result.code < 0 or result.error[0] == "native"


def test_a_model_is_destroyed_when_nobody_holds_it(machine: Emulated, tmp_path: Path) -> None:
    result = machine.run(machine.library("-DSTANDIN_ARM"), simple(tmp_path), soak=20, reload=True, shrink=True)
    assert result.error == ("", "")
    assert result.report["same"]
    assert result.stderr.count("standin: predictor destroyed") == 20


def test_a_library_for_another_machine_is_refused_by_the_loader(machine: Emulated, tmp_path: Path) -> None:
    kind, text = machine.run(compile_standin(tmp_path / "host.so"), simple(tmp_path)).error
    assert kind == "import"
    assert str(tmp_path / "host.so") in text
