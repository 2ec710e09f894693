"""Model, device and runtime judged together: every code with the exact sentence, and nothing said without a fact."""

from dataclasses import replace

import pytest
from litefleet_agent.facts import Cpu, Disk, Facts, Libc, Memory, PythonFacts, gather
from litefleet_agent.facts.runtime import exports_cxx
from litefleet_agent.findings.environment import (
    RuntimeFacts,
    check_environment,
    describe_runtime,
    grade_versions,
    parse_version,
)
from litefleet_agent.formats.engine_settings import NOTHING_ASKED, EngineSettings, NNAdapterSettings, OpenCLSettings
from litefleet_agent.formats.nb import Kernel, NbModel, read_nb

from tests.agent.support.elf_builder import build_elf


def model_of(**changes):
    kernel = Kernel("conv2d", "def", "arm", "fp32", "NCHW")
    return replace(
        NbModel(
            2, "v2.13-rc", 2003002, (kernel,), {"conv2d": 1}, (), (), 1, 4, True, {}, True, "", 100, "", "", 50_000_000
        ),
        **changes,
    )


MODEL = model_of()
BOARD = Facts(
    machine="aarch64",
    arch="aarch64",
    bits=64,
    cpu=Cpu(4, ("Cortex-A72",), ("asimd",), 4, 4),
    libc=Libc("glibc", "2.31"),
    libstdcxx="3.4.28",
    libraries=("libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6"),
    python=PythonFacts("/usr/bin/python3", "3.9.2", "cpython", "cp39", 64),
    memory=Memory(4_000_000_000, 3_000_000_000),
    disk=Disk(16_000_000_000, 8_000_000_000),
)
PC = BOARD._replace(
    machine="x86_64", arch="x86_64", cpu=Cpu(4, ("Celeron N3350",), ("avx", "avx2", "fma", "sse4_2"), 4, 4)
)
RUNTIME = RuntimeFacts(
    kind="bundle",
    path="/r/paddlelite",
    paddlelite_version="2.13rc0",
    numpy_version="1.26.4",
    so_machine="aarch64",
    so_needed=("libstdc++.so.6", "libm.so.6", "libc.so.6"),
    so_versions=frozenset(["GLIBC_2.17", "GLIBC_2.27", "GLIBC_PRIVATE", "GLIBCXX_3.4.22", "GCC_3.0"]),
    python_tags=("cp39",),
)
OPENCL = model_of(kernels=(Kernel("conv2d", "def", "opencl", "fp16", "ImageDefault"),) * 3 + MODEL.kernels)


def seen(facts=BOARD, runtime=RUNTIME, model=MODEL, need_disk=0):
    return [(found.code, found.observed) for found in check_environment(model, facts, runtime, need_disk)]


def test_what_fits_gives_nothing():
    assert seen() == []
    assert seen(runtime=None, need_disk=1000) == []


CASES = {
    "architecture": (
        {"facts": Facts(machine="riscv64", bits=64)},
        ("LF303", "This device is riscv64 with a 64-bit userland."),
    ),
    "no runtime in the system": (
        {"runtime": RuntimeFacts("system")},
        ("LF302", "No paddlelite package is installed for /usr/bin/python3."),
    ),
    "no package in the folder": (
        {"runtime": RuntimeFacts("folder")},
        ("LF302", "The runtime's folder holds no paddlelite package."),
    ),
    "no binary": (
        {"runtime": replace(RUNTIME, so_machine="", so_problem="it has no lite.so")},
        ("LF315", "The runtime cannot be loaded: it has no lite.so."),
    ),
    "another machine's binary": (
        {"runtime": replace(RUNTIME, so_machine="x86_64", so_needed=("libgomp.so.1",))},
        ("LF308", "The runtime's lite.so is for x86_64; this device is aarch64."),
    ),
    "another Python": (
        {"runtime": replace(RUNTIME, python_tags=("cp310", "cp38"))},
        ("LF307", "The runtime is for cp310 or cp38; this device's interpreter is cpython 3.9.2 (cp39)."),
    ),
    "libraries": (
        {"runtime": replace(RUNTIME, so_needed=("libgomp.so.1", "libatomic.so.1", "libstdc++.so.6"))},
        ("LF306", "Paddle-Lite needs libgomp.so.1, libatomic.so.1, which this device does not have."),
    ),
    "glibc": (
        {"facts": BOARD._replace(libc=Libc("glibc", "2.9"))},
        ("LF309", "The runtime needs glibc 2.27; this device has 2.9."),
    ),
    "musl": (
        {"facts": BOARD._replace(libc=Libc("musl", "1.2.4"), libraries=())},
        ("LF309", "The runtime needs glibc 2.27; this device has musl 1.2.4."),
    ),
    "libstdc++": (
        {"facts": BOARD._replace(libstdcxx="3.4.9")},
        ("LF309", "The runtime needs a libstdc++ with GLIBCXX_3.4.22; this device's ends at GLIBCXX_3.4.9."),
    ),
    "numpy 2": (
        {"runtime": replace(RUNTIME, numpy_version="2.0.1")},
        ("LF304", "The runtime would use numpy 2.0.1; this build of Paddle-Lite needs numpy < 2."),
    ),
    "no numpy": ({"runtime": replace(RUNTIME, numpy_version="")}, ("LF317", "The runtime has no numpy.")),
    "memory": (
        {"facts": BOARD._replace(memory=Memory(64_000_000, 20_000_000))},
        ("LF311", "The model needs about 50.0 MB of memory; 20.0 MB of 64.0 MB are free."),
    ),
    "disk": (
        {"facts": BOARD._replace(disk=Disk(100_000_000, 10_000_000)), "need_disk": 25_000_000},
        ("LF312", "25.0 MB are to be stored; 10.0 MB are free under the agent's root."),
    ),
    "counts": (
        {"facts": BOARD._replace(cpu=Cpu(2, ("Cortex-A72",), ("asimd",), 2, 8), container="lxc")},
        ("LF316", "/proc/cpuinfo describes 2 CPU parts, /sys has 8 CPUs (in a lxc container)."),
    ),
    "no neon": (
        {
            "facts": BOARD._replace(machine="armv7l", arch="armv7l", cpu=Cpu(2, ("Cortex-A9",), ("vfpv3",), 2, 2)),
            "runtime": None,
        },
        ("LF310", "Cortex-A9 has no neon, vfpv4."),
    ),
    "no AVX with the published wheel": (
        {
            "facts": PC._replace(cpu=Cpu(2, ("Celeron N3350",), ("sse4_2",), 2, 2)),
            "runtime": replace(RUNTIME, so_machine="x86_64", so_provided=frozenset(["libmklml_intel.so"])),
        },
        ("LF310", "Celeron N3350 has no avx, avx2, fma."),
    ),
    "no OpenCL on the device": (
        {"model": OPENCL},
        ("LF103", "3 of 4 kernels are for opencl; this device has no OpenCL library."),
    ),
    "no OpenCL in the runtime": (
        {"model": OPENCL, "facts": BOARD._replace(opencl="/usr/lib/libOpenCL.so")},
        ("LF103", "3 of 4 kernels are for opencl; its Paddle-Lite runtime was built without OpenCL."),
    ),
    "version": (
        {"runtime": replace(RUNTIME, paddlelite_version="2.12")},
        ("LF108", "The file was written by Paddle-Lite v2.13-rc; the runtime is 2.12."),
    ),
    "unknown version": (
        {"runtime": replace(RUNTIME, paddlelite_version="")},
        ("LF109", "The file was written by v2.13-rc, the runtime reports no version."),
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_one_thing_wrong_gives_one_finding(case):
    arguments, expected = CASES[case]
    assert seen(**arguments) == [expected]


@pytest.mark.parametrize(
    "arguments",
    [
        {"facts": BOARD._replace(libraries=())},  # libraries in places that are not known
        {"facts": BOARD._replace(libc=Libc(), libstdcxx="")},
        {"facts": BOARD._replace(memory=Memory(), disk=Disk()), "need_disk": 1 << 40},
        {"facts": BOARD._replace(cpu=Cpu())},
        {"facts": BOARD._replace(machine="armv7l", arch="armv7l", bits=32, cpu=Cpu()), "runtime": None},
        {"runtime": replace(RUNTIME, python_tags=(), so_versions=frozenset())},
        {"runtime": replace(RUNTIME, so_needed=("libvendor.so.3",))},  # not one that facts look for
        {"runtime": replace(RUNTIME, numpy_version="2.1.0", numpy_2_ready=True)},
        {"runtime": replace(RUNTIME, numpy_version="?")},
        {"facts": BOARD._replace(arch="armv7l", bits=32), "runtime": None},  # asimd contains neon and vfpv4
        {"facts": PC._replace(cpu=Cpu(4, ("x",), ("sse2",), 4, 8)), "runtime": None},  # a build made for less may do
        {
            "facts": BOARD._replace(opencl="/usr/lib/libOpenCL.so"),
            "runtime": replace(RUNTIME, opencl=True),
            "model": OPENCL,
        },
        {
            "facts": BOARD._replace(libstdcxx="3.4.9"),
            "runtime": replace(RUNTIME, so_provided=frozenset(["libstdc++.so.6"])),
        },
    ],
)
def test_what_is_not_known_or_does_not_matter_is_not_judged(arguments):
    assert [pair for pair in seen(**arguments) if pair[0] != "LF434"] == []  # a note about every accelerator


@pytest.mark.parametrize(
    ("one", "other"),
    [("v2.13-rc", "2.13rc0"), ("v2.12", "2.12"), ("v2.12", "2.12.0"), ("v2.10-beta", "2.10b0"), ("2.9.1", "v2.9.1")],
)
def test_the_files_and_the_wheels_spelling_are_one_version(one, other):
    assert parse_version(one) == parse_version(other) is not None
    assert grade_versions(one, other) == []


@pytest.mark.parametrize("text", ["", "8c6f1e0ab", "develop", "v2", "2.13.", "2.13rc0; rm"])
def test_an_untagged_version_is_unknown(text):
    assert parse_version(text) is None
    assert [found.code for found in grade_versions(text, "2.13rc0")] == ["LF109"]


def test_a_release_candidate_is_not_the_release():
    assert [found.code for found in grade_versions("v2.13-rc", "2.13")] == ["LF108"]


def runtime_folder(tmp_path, binary, name="lite.so"):
    (tmp_path / "paddlelite" / "libs").mkdir(parents=True)
    (tmp_path / "paddlelite" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "paddlelite" / name).write_bytes(binary)
    (tmp_path / "paddlelite" / "libs" / "libown.so").write_bytes(build_elf(183, needed=("libdl.so.2", "libc.so.6")))
    (tmp_path / "paddlelite" / "._lite.so").write_bytes(b"AppleDouble")
    return str(tmp_path)


def test_a_bare_folder_is_described_by_its_binary(tmp_path):
    binary = build_elf(
        183, needed=("libown.so", "libgomp.so.1"), versions={"libc.so.6": ["GLIBC_2.28"]}, runpath="$ORIGIN/libs"
    )
    texts = b"\0v2.13-rc\0" + b"3.9\0" + b"libOpenCL.so\0"
    found = describe_runtime(runtime_folder(tmp_path, binary + texts), [])
    assert found == RuntimeFacts(
        kind="folder",
        path=str(tmp_path / "paddlelite"),
        paddlelite_version="v2.13-rc",
        so_machine="aarch64",
        so_needed=("libgomp.so.1", "libdl.so.2", "libc.so.6"),
        so_versions=frozenset(["GLIBC_2.28"]),
        so_provided=frozenset(["lite.so", "libown.so"]),
        python_tags=("cp39",),
        opencl=True,
        so_system="linux",
    )


@pytest.mark.parametrize(("text", "ready"), [(b"numpy.core\0", False), (b"numpy.core\0numpy._core\0", True)])
def test_a_binding_that_knows_numpy_2_is_told_by_pybind11s_text(tmp_path, text, ready):
    found = describe_runtime(runtime_folder(tmp_path, build_elf(183) + b"\0" + text), [])
    assert found.numpy_2_ready is ready


def test_the_binarys_name_may_tell_the_python(tmp_path):
    found = describe_runtime(runtime_folder(tmp_path, build_elf(183), "lite.cpython-311-aarch64-linux-gnu.so"), [])
    assert found.python_tags == ("cp311",)


def test_a_number_that_is_no_pythons_does_not_tell_the_python(tmp_path):
    found = describe_runtime(runtime_folder(tmp_path, build_elf(183) + b"\x003.1\x003.4\x00"), [])
    assert found.python_tags == ()


def test_numpy_of_the_system_is_what_a_runtime_without_numpy_would_import(tmp_path):
    system = tmp_path / "dist-packages"
    (system / "numpy").mkdir(parents=True)
    (system / "numpy" / "__init__.py").write_text("")
    (system / "numpy-2.1.3.dist-info").mkdir()
    runtime = runtime_folder(tmp_path / "r", build_elf(183))
    assert describe_runtime(runtime, [str(system)]).numpy_version == "2.1.3"
    assert describe_runtime(runtime, []).numpy_version == ""


def test_what_is_no_binary_is_said(tmp_path):
    found = describe_runtime(runtime_folder(tmp_path, b"version https://git-lfs"), [])
    assert found.so_problem == "lite.so: This is not an ELF file: it begins with b'vers'."
    assert check_environment(MODEL, BOARD, found)[0].code == "LF315"


def test_without_a_runtime_what_else_speaks_against_the_device_is_told_as_well():
    small = BOARD._replace(memory=Memory(64_000_000, 20_000_000))
    assert [code for code, _ in seen(small, RuntimeFacts("system"))] == ["LF302", "LF311"]


REMOVES = "`engine: {aarch64: {opencl: null}}` removes them here."
TUNED = EngineSettings(opencl=OpenCLSettings("CL_TUNE_NORMAL"))
NPU = EngineSettings(nnadapter=NNAdapterSettings(("rockchip_npu",)))
NPU_FILE = model_of(kernels=(Kernel("subgraph", "def", "nnadapter", "any", "NCHW"), *MODEL.kernels))


@pytest.mark.parametrize(
    ("model", "opencl", "runtime", "engine", "told"),
    [
        (MODEL, "", RUNTIME, TUNED, [("LF103", "no OpenCL library: " + REMOVES)]),
        (MODEL, "", None, TUNED, [("LF103", "no OpenCL library: " + REMOVES)]),
        (MODEL, "/lib/libOpenCL.so", RUNTIME, TUNED, [("LF103", "without OpenCL: " + REMOVES)]),
        (MODEL, "/lib/libOpenCL.so", replace(RUNTIME, opencl=True), TUNED, [("LF433", "or remove them.")]),
        (MODEL, "", RUNTIME, NPU, [("LF433", "convert with `targets: {aarch64: 'rockchip_npu,arm'}`, or remove them.")]),
        (NPU_FILE, "", RUNTIME, NPU, [("LF434", "NNAdapter (asked for: NNAdapter devices rockchip_npu).")]),
        (NPU_FILE, "", RUNTIME, NOTHING_ASKED, [("LF103", "cannot detect whether this device has it.")]),
        (MODEL, "", RUNTIME, EngineSettings(threads=2, power_mode="LITE_POWER_HIGH"), []),
    ],
)  # fmt: skip
def test_what_is_asked_of_an_accelerator_is_judged_before_anything_is_loaded(model, opencl, runtime, engine, told):
    found = check_environment(model, BOARD._replace(opencl=opencl), runtime, engine=engine)
    assert [f.code for f in found] == [code for code, _ in told]
    for place, (_, words) in enumerate(told):
        assert found[place].observed.endswith(words), found[place].observed


def test_no_runtime_at_all(tmp_path):
    assert describe_runtime(str(tmp_path), []) == RuntimeFacts("folder")
    assert describe_runtime(None, [str(tmp_path)]) == RuntimeFacts("system")


@pytest.mark.toolchain
def test_the_published_wheel_on_this_machine(lite_python, nb_files, tmp_path):
    packages = next((lite_python.parent.parent / "lib").glob("python3.*")) / "site-packages"
    found = describe_runtime(str(packages), [])
    assert (found.kind, found.paddlelite_version, found.so_machine) == ("bundle", "2.13rc0", "x86_64")
    assert found.python_tags == ("cp310",)
    assert found.numpy_version.startswith("1.")
    assert not found.opencl
    assert "libmklml_intel.so" in found.so_provided
    assert not found.so_provided & set(found.so_needed)
    assert {"GLIBC_2.14", "GLIBCXX_3.4.21"} <= found.so_versions
    facts = gather(str(tmp_path))._replace(python=PythonFacts("/usr/bin/python3.10", "3.10.13", "cpython", "cp310", 64))
    assert check_environment(read_nb(nb_files("cls", "x86").read_bytes()), facts, found) == []
    wrong = facts._replace(python=PythonFacts("/usr/bin/python3.11", "3.11.2", "cpython", "cp311", 64))
    assert [f.code for f in check_environment(MODEL, wrong, found)] == ["LF307"]
    assert exports_cxx(found)
    assert check_environment(MODEL, wrong, found, by_binding=False) == []
