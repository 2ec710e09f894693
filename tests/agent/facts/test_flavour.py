"""How a library was built, told from its bytes, and what the checks make of it.  Real wheels, real foreign libraries; what
cannot be had (ARM builds of Paddle-Lite, Android's) is written by elf_builder and marked as a fixture."""

import _ctypes
import ctypes
import os
import struct
import time
from dataclasses import replace

import pytest
from litefleet_agent.facts import Cpu, Facts, Libc, PythonFacts, fingerprint, gather
from litefleet_agent.facts.flavour import Flavour, describe_flavour
from litefleet_agent.facts.present import find_opencl_devices
from litefleet_agent.facts.runtime import RuntimeFacts, describe_library, describe_runtime, with_flavour
from litefleet_agent.findings import Severity
from litefleet_agent.findings.environment import check_build, check_environment
from litefleet_agent.findings.runtime import check_runtime
from litefleet_agent.formats.elf import ElfError, ForeignBinaryError, read_elf
from litefleet_agent.formats.files import Tree
from litefleet_agent.formats.nb import Kernel, NbModel, read_nb

from tests.agent.support.elf_builder import build_elf
from tests.conftest import environment, lacking, packages_for

BASIC = ("conv2d", "pool2d", "softmax", "concat", "feed", "fetch")
KERNEL = Kernel("conv2d", "def", "arm", "fp32", "NCHW")
MODEL = NbModel(
    2, "v2.12", 2003002, (KERNEL,), {"conv2d": 1}, (), (), 1, 4, True, {}, True, "", 100, "", "", 50_000_000
)
BOARD = Facts(
    machine="aarch64",
    arch="aarch64",
    bits=64,
    cpu=Cpu(4, ("Cortex-A76",), ("asimd", "asimdhp"), 4, 4),
    libc=Libc("glibc", "2.36"),
    python=PythonFacts("/usr/bin/python3", "3.9.2", "cpython", "cp39", 64),
    page_size=4096,
)
RUNTIME = RuntimeFacts("bundle", "/r/paddlelite", "2.12", "1.26.4", so_machine="aarch64", so_system="linux")


def touched(*names):
    """Return the exported names of operators as a string table holds them."""
    return b"".join(b"_Z%dtouch_op_%sv\0" % (9 + len(name), name.encode()) for name in names)


def library(tmp_path, data, name="lib.so"):
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def note(owner, kind=1, data=b"\x15\0\0\0"):
    return struct.pack("<III", len(owner), len(data), kind) + owner + b"\0" * (-len(owner) % 4) + data


def codes(found):
    return [f.code for f in found]


# --- real libraries


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("version", "python", "count", "fit"),
    [("2.13rc0", "3.10", 306, 4096), ("2.12", "3.7", 282, 16384), ("2.10", "3.9", 269, 4096)],
)
def test_the_published_builds_are_full_and_name_their_operators(version, python, count, fit):
    interpreter = environment("lite-" + version, python, "paddlelite==" + version, "numpy<2")
    packages = next((interpreter.parent.parent / "lib").glob("python3.*")) / "site-packages"
    begun = time.process_time()
    runtime = with_flavour(describe_runtime(str(packages), []))
    assert time.process_time() - begun < 2  # measured 0.2; a scan in Python's own loop would take minutes
    assert runtime.flavour.kind == "full"
    assert runtime.flavour.extra_ops is True
    assert runtime.flavour.fp16 is None  # x86: the names are there, the kernels are not
    assert len(runtime.flavour.ops) == count
    assert {"conv2d", "while", "fetch", "abs"} <= runtime.flavour.ops
    assert (runtime.so_system, runtime.page_align, runtime.leftovers) == ("linux", 4096, ())
    assert runtime.page_fit == fit  # readelf -lW: the least of what its segments' addresses and offsets differ by


@pytest.mark.toolchain
def test_every_converted_model_finds_its_operators_in_the_published_build(lite_python, nb_files):
    packages = next((lite_python.parent.parent / "lib").glob("python3.*")) / "site-packages"
    runtime = with_flavour(describe_runtime(str(packages), []))
    for name in ("cls", "det", "rec"):
        for targets in ("x86", "arm"):
            assert check_build(read_nb(nb_files(name, targets).read_bytes()), runtime) == []
    model = read_nb(nb_files("rec", "x86").read_bytes())
    poorer = replace(runtime, flavour=replace(runtime.flavour, ops=runtime.flavour.ops - {"matmul_v2", "layer_norm"}))
    (found,) = check_build(model, poorer)
    assert found.code == "LF113"
    assert "layer_norm" in found.observed


FOREIGN = [
    ("aarch64-unknown-linux-gnu", "aarch64", "linux"),
    ("aarch64-unknown-linux-musl", "aarch64", "linux"),
    ("x86_64-pc-windows-msvc", "", "windows"),
    ("aarch64-apple-darwin", "", "macos"),
]


@pytest.mark.parametrize(("platform", "machine", "system"), FOREIGN)
def test_real_libraries_of_other_machines_tell_their_system(platform, machine, system):
    folder = packages_for(platform, "markupsafe==3.0.2") / "markupsafe"
    (path,) = [p for p in folder.glob("_speedups.*") if p.suffix in (".so", ".pyd")]
    found = describe_library(str(path))
    assert (found.so_machine, found.so_system) == (machine, system)
    assert describe_flavour(str(path)) == Flavour()
    if system == "linux":
        assert found.page_align == 65536
    else:
        assert codes(check_runtime(BOARD, replace(RUNTIME, so_problem=found.so_problem, so_system=system))) == ["LF323"]


def test_a_library_for_musl_does_not_fit_glibc():
    folder = packages_for("aarch64-unknown-linux-musl", "markupsafe==3.0.2") / "markupsafe"
    found = describe_library(str(next(folder.glob("_speedups.*.so"))))
    runtime = replace(RUNTIME, so_needed=found.so_needed, so_versions=found.so_versions)
    assert [f.observed for f in check_runtime(BOARD, runtime)] == [
        "The runtime was built for musl; this device has glibc 2.36."
    ]
    assert check_runtime(BOARD._replace(libc=Libc("musl", "1.2.4")), runtime) == []


def test_this_interpreters_own_libraries_are_linux(tmp_path):
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if ".so" in line}
    for path in sorted(p for p in paths if os.path.isfile(p))[:20]:
        assert read_elf(path).system in ("linux", "")
        assert read_elf(path).page_align >= 4096
    facts = gather(str(tmp_path))
    assert facts.page_size == os.sysconf("SC_PAGE_SIZE")


# --- fixtures


def test_flavours_of_arm_builds(tmp_path):
    arm = build_elf(183) + b"\0_ZN6paddle4lite3arm4math5sgemmEv\0" + touched(*BASIC)
    assert describe_flavour(library(tmp_path, arm)) == Flavour("", False, False, frozenset(BASIC))
    half = arm + b"_ZN6paddle4lite3arm4math4fp1610gemm_fp16Ev\0" + touched("while") + b"\0LightPredictor\0"
    assert describe_flavour(library(tmp_path, half)) == Flavour("tiny", True, True, frozenset((*BASIC, "while")))
    stripped = build_elf(183) + b"\0conv2d\0fp16\0"
    assert describe_flavour(library(tmp_path, stripped)) == Flavour()


@pytest.mark.parametrize(
    ("soname", "kind"),
    [("libpaddle_light_api_shared.so", "tiny"), ("libpaddle_full_api_shared.so", "full"), ("liblite_pybind.so", "")],
)
def test_the_c_libraries_tell_their_kind_by_their_name_in_the_file(tmp_path, soname, kind):
    assert describe_flavour(library(tmp_path, build_elf(183, soname=soname), "renamed.so")).kind == kind


def test_what_is_no_list_of_operators_is_none(tmp_path):
    few = build_elf(183) + touched("conv2d")  # a program that uses one
    assert describe_flavour(library(tmp_path, few)).ops == frozenset()
    wrong = build_elf(183) + touched(*BASIC) + b"_Z99touch_op_wrongv\0"
    assert describe_flavour(library(tmp_path, wrong)).ops == frozenset(BASIC)
    assert describe_flavour(str(tmp_path / "none")) == Flavour()
    assert describe_flavour(library(tmp_path, b"")) == Flavour()


@pytest.mark.parametrize(
    ("arguments", "system"),
    [
        ({"needed": ("libc.so", "libm.so", "liblog.so")}, "android"),
        ({"needed": ("libc.so",), "versions": {"libc.so": ["LIBC"]}}, "android"),
        ({"note": note(b"GNU\0") + note(b"Android\0"), "needed": ("libfoo.so",)}, "android"),
        ({"note": note(b"GNU\0")}, ""),
        ({"needed": ("libc.so",)}, ""),  # musl's own toolchains name it so as well
        ({"needed": ("libc.so.6",)}, "linux"),
        ({"needed": ("libc.musl-armhf.so.1",)}, "linux"),
        ({"interpreter": "/lib/ld-linux-aarch64.so.1"}, "linux"),
    ],
)
@pytest.mark.parametrize("bits", [32, 64])
def test_android_is_told_from_linux(arguments, system, bits):
    assert read_elf(build_elf(183 if bits == 64 else 40, bits, **arguments)).system == system


@pytest.mark.parametrize(
    ("head", "system"),
    [(b"MZ\x90\0", "windows"), (b"\xcf\xfa\xed\xfe\x0c\0\0\1", "macos"), (b"\xca\xfe\xba\xbe\0\0\0\2", "macos")],
)
def test_binaries_of_other_systems_are_named(head, system):
    with pytest.raises(ForeignBinaryError) as raised:
        read_elf(head.ljust(64, b"\0"))
    assert raised.value.system == system


def test_a_java_class_is_no_mac_library():
    with pytest.raises(ElfError) as raised:
        read_elf(b"\xca\xfe\xba\xbe\0\0\0\x34".ljust(64, b"\0"))
    assert not isinstance(raised.value, ForeignBinaryError)


def test_a_library_that_was_cut_off_behind_its_headers_is_damaged(tmp_path):
    whole = build_elf(183, needed=("libc.so.6",))
    longer = bytearray(whole + bytes(1000))
    struct.pack_into("<Q", longer, 64 + 32, len(longer))  # the first segment's size in the file
    assert read_elf(bytes(longer)).needed == ("libc.so.6",)
    with pytest.raises(ElfError, match="ends too early: it has"):
        read_elf(bytes(longer[:-1]))


def test_apple_doubles_are_told_by_name_and_first_bytes(tmp_path):
    package = tmp_path / "paddlelite"
    (package / "libs").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lite.so").write_bytes(build_elf(183))
    (package / "._lite.so").write_bytes(b"\x00\x05\x16\x07" + bytes(20))
    (package / "libs" / "._a").write_bytes(b"\x00\x05\x16\x07" + bytes(20))
    (package / "._other").write_bytes(b"something else")
    found = describe_runtime(str(tmp_path), [])
    assert found.leftovers == ("._lite.so", "libs/._a")
    assert "The runtime holds ._lite.so, libs/._a." in [f.observed for f in check_runtime(BOARD, found)]


def test_the_smallest_alignment_of_the_package_counts(tmp_path):
    package = tmp_path / "paddlelite"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "lite.so").write_bytes(build_elf(183, align=65536, needed=("libown.so",)))
    (package / "libown.so").write_bytes(build_elf(183, align=4096))
    (package / "libunused.so").write_bytes(build_elf(183, align=512))
    assert describe_runtime(str(tmp_path), []).page_align == 4096


# --- judged


def test_good_combinations_give_nothing():
    known = replace(RUNTIME, page_align=4096, flavour=Flavour("tiny", False, False, frozenset(BASIC)))
    assert check_environment(MODEL, BOARD, known) == []
    assert check_environment(MODEL, BOARD._replace(page_size=0), replace(known, page_align=0)) == []
    half = replace(MODEL, kernels=(KERNEL._replace(precision="fp16"),))
    assert check_environment(half, BOARD, replace(known, flavour=Flavour(fp16=True))) == []
    assert check_environment(half, BOARD, replace(known, flavour=Flavour())) == []


@pytest.mark.parametrize(
    ("facts", "runtime", "model", "expected"),
    [
        (
            {},
            {"flavour": Flavour(ops=frozenset(BASIC))},
            {"ops": {"while": 1, "conv2d": 3, "gru": 2}},
            ("LF113", "The file uses 2 operators that this build of Paddle-Lite does not have: gru, while."),
        ),
        (
            {},
            {"flavour": Flavour(fp16=False)},
            {"kernels": (KERNEL._replace(precision="fp16"), KERNEL)},
            ("LF104", "1 of 2 kernels are for fp16; this Paddle-Lite was built without it."),
        ),
        (
            {"page_size": 16384},
            {"page_align": 4096, "page_fit": 4096},
            {},
            (
                "LF318",
                "The runtime's library is aligned to pages of 4096 bytes; this device's kernel has pages of 16384.",
            ),
        ),
        ({}, {"so_system": "android"}, {}, ("LF323", "The runtime's library is for Android.")),
        ({}, {"leftovers": ("._lite.so",)}, {}, ("LF319", "The runtime holds ._lite.so.")),
    ],
)
def test_one_thing_wrong_gives_one_finding(facts, runtime, model, expected):
    found = check_environment(replace(MODEL, **model), BOARD._replace(**facts), replace(RUNTIME, **runtime))
    assert [(f.code, f.observed) for f in found] == [expected]


def test_an_android_library_may_be_right_where_the_libc_is_not_known():
    assert check_runtime(BOARD._replace(libc=Libc()), replace(RUNTIME, so_system="android")) == []


def test_int8_on_32_bit_arm_is_a_note():
    small = replace(MODEL, kernels=(KERNEL._replace(precision="int8"),))
    board = BOARD._replace(machine="armv7l", arch="armv7l", bits=32)
    (found,) = check_environment(small, board)
    assert (found.code, found.severity) == ("LF114", Severity.NOTE)
    assert check_environment(small, BOARD) == []


OPENCL = replace(MODEL, kernels=(Kernel("conv2d", "def", "opencl", "fp16", "ImageDefault"),))


@pytest.mark.parametrize(
    ("nodes", "denied", "severity"),
    [
        (("/dev/mali0",), ("/dev/mali0",), Severity.ERROR),
        (("/dev/dri/renderD128",), ("/dev/dri/renderD128",), Severity.WARNING),
        (("/dev/mali0", "/dev/dri/renderD128"), ("/dev/dri/renderD128",), None),
        (("/dev/mali0",), (), None),
        ((), (), None),
    ],
)
def test_a_gpu_that_this_user_may_not_open(nodes, denied, severity):
    facts = BOARD._replace(opencl="/usr/lib/libOpenCL.so", opencl_devices=nodes, opencl_denied=denied)
    found = check_environment(OPENCL, facts, replace(RUNTIME, opencl=True))
    assert [(f.code, f.severity) for f in found] == [("LF321", severity) if severity else ("LF434", Severity.NOTE)]
    assert check_environment(MODEL, facts, RUNTIME) == []  # a CPU's model does not ask


def test_gpu_nodes_are_found(tmp_path):
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    for name in ("mali0", "dri/renderD128", "dri/card0"):
        (tmp_path / "dev" / name).write_text("")
    there, denied = find_opencl_devices(Tree(str(tmp_path)))
    assert there == ("/dev/mali0", "/dev/dri/renderD128")
    assert denied == ()
    assert find_opencl_devices(Tree(str(tmp_path / "none"))) == ((), ())


def test_the_new_facts_travel_and_change_no_fingerprint():
    more = BOARD._replace(page_size=16384, opencl_devices=("/dev/mali0",), opencl_denied=("/dev/mali0",))
    assert Facts.from_dict(more.to_dict()) == more
    assert fingerprint(more) == fingerprint(BOARD)
    older = {name: value for name, value in more.to_dict().items() if not name.startswith(("page", "opencl_"))}
    assert Facts.from_dict(older).page_size == 0


@pytest.mark.parametrize("apart", [False, True])
def test_the_loader_agrees_with_lf318(tmp_path, apart):
    """A real library of this interpreter: its segments ask for half a page of this kernel, or also lie half a page apart."""
    source = _ctypes.__file__
    here = gather(str(tmp_path))._replace(libraries=())
    if not source.endswith(".so") or here.libc.kind != "glibc" or here.bits != 64:
        lacking("the interpreter's _ctypes is no file of its own, or the libc is not a 64-bit glibc")
    half = os.sysconf("SC_PAGE_SIZE") // 2
    with open(source, "rb") as stream:
        data = bytearray(stream.read())
    start = struct.unpack_from("<Q", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 54)
    for offset in range(start, start + size * count, size):
        if struct.unpack_from("<I", data, offset)[0] == 1:
            struct.pack_into("<Q", data, offset + 48, half)
            last = offset
    if apart:
        for field in (16, 24):
            struct.pack_into("<Q", data, last + field, struct.unpack_from("<Q", data, last + field)[0] + half)
    path = library(tmp_path, bytes(data))
    # Only what the loader asks: moved segments no longer hold what the dynamic section points at.
    runtime = replace(RUNTIME, so_machine=here.arch, page_align=half, page_fit=half if apart else 0)
    expected = check_runtime(here, runtime)
    if expected:
        assert codes(expected) == ["LF318"]
        with pytest.raises(OSError, match=r"ELF load command a.* not page-aligned"):
            ctypes.CDLL(path)
    else:
        ctypes.CDLL(path)
    assert bool(expected) or not apart


@pytest.mark.parametrize(
    ("libc", "fit", "severity"),
    [
        (Libc("glibc", "2.31"), 0, Severity.ERROR),
        (Libc("glibc", "2.36"), 0, None),
        (Libc("glibc", "2.36"), 4096, Severity.ERROR),
        (Libc("musl", "1.2.4"), 0, None),
        (Libc("musl", "1.2.4"), 4096, Severity.ERROR),
        (Libc(), 0, None),
    ],
)
def test_pages_are_judged_as_each_loader_does(libc, fit, severity):
    board = BOARD._replace(page_size=16384, libc=libc)
    found = check_runtime(board, replace(RUNTIME, page_align=4096, page_fit=fit))
    assert [(f.code, f.severity) for f in found] == ([("LF318", severity)] if severity else [])
