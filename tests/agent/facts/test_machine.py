"""The device's facts: on recorded /proc trees, on this machine, and back from a device that may lie."""

import json
import os
import struct
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.facts import Cpu, Disk, Facts, FactsError, Libc, Package, Process, PythonFacts, fingerprint, gather
from litefleet_agent.facts.cpu import arm_hwcap, describe_cpuinfo
from litefleet_agent.facts.packages import find_package, other_pythons

from tests.agent.support.elf_builder import build_elf

TREES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures", "facts")
LOADERS = {"aarch64": (183, 64, "/lib/ld-linux-aarch64.so.1"), "armv7l": (40, 32, "/lib/ld-linux-armhf.so.3")}


def recorded(tmp_path, name, machine, userland="", **process):
    """Gather from a recorded tree, as an interpreter of `userland` would."""
    number, bits, loader = LOADERS.get(userland or machine, (62, 64, "/lib64/ld-linux-x86-64.so.2"))
    python = tmp_path / "python3"
    python.write_bytes(build_elf(number, bits, needed=("libc.so.6",), interpreter=loader))
    known = {"confstr": "glibc 2.31", "cores": 4, "executable": str(python)}
    known.update(process)
    return gather(str(tmp_path / "not" / "there"), os.path.join(TREES, name), Process(machine=machine, **known))


def test_raspberry_pi_4(tmp_path):
    facts = recorded(tmp_path, "rpi4-aarch64", "aarch64")
    assert (facts.arch, facts.bits) == ("aarch64", 64)
    assert facts.cpu == Cpu(4, ("Cortex-A72",), ("asimd", "fp"), 4, 4)
    assert facts.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert (facts.os_release.id, facts.os_release.version) == ("debian", "12")
    assert facts.os_release.pretty == "Debian GNU/Linux 12 (bookworm)"
    assert facts.libc == Libc("glibc", "2.31")
    assert facts.memory.total == 3884376 * 1024
    assert facts.memory.available == 3215000 * 1024
    assert facts.opencl == ""
    assert facts.libraries == ("libc.so.6", "libm.so.6")  # libgomp is there for armhf only


def test_the_same_board_with_a_32_bit_userland_is_armv7(tmp_path):
    facts = recorded(tmp_path, "rpi4-aarch64", "aarch64", userland="armv7l")
    assert (facts.machine, facts.arch, facts.bits) == ("aarch64", "armv7l", 32)
    assert facts.libraries == ("libgomp.so.1",)


def test_rk3588_has_two_parts_and_fp16(tmp_path):
    facts = recorded(tmp_path, "rk3588-aarch64", "aarch64")
    assert facts.cpu.parts == ("Cortex-A55", "Cortex-A76")
    assert {"asimd", "asimdhp", "asimddp"} <= set(facts.cpu.features)
    assert facts.cpu.features == tuple(sorted(facts.cpu.features))
    assert (facts.cpu.cpuinfo_count, facts.cpu.sys_count) == (8, 8)
    assert facts.opencl == "/usr/lib/aarch64-linux-gnu/libOpenCL.so.1"


def test_armv7_with_and_without_neon(tmp_path):
    with_neon = recorded(tmp_path, "armv7-neon", "armv7l")
    assert with_neon.cpu.parts == ("Cortex-A7",)
    assert {"neon", "vfpv4"} <= set(with_neon.cpu.features)
    without = recorded(tmp_path, "armv7-no-neon", "armv7l")
    assert without.cpu.parts == ("Cortex-A9",)
    assert without.cpu.features == ("vfpv3",)
    assert without.memory.available == 200000 * 1024  # a kernel without MemAvailable


def test_x86_with_and_without_avx(tmp_path):
    facts = recorded(tmp_path, "x86-avx", "x86_64")
    assert facts.cpu.parts == ("Intel(R) Core(TM) i5-6500 CPU @ 3.20GHz",)
    assert facts.cpu.features == ("avx", "avx2", "f16c", "fma", "sse2", "sse4_1", "sse4_2", "ssse3")
    assert facts.model == "OptiPlex 7040"
    assert "avx" not in recorded(tmp_path, "x86-no-avx", "x86_64").cpu.features


def test_a_container_shows_its_own_counts_and_limits(tmp_path):
    facts = recorded(tmp_path, "container-mismatch", "aarch64")
    assert (facts.cpu.cpuinfo_count, facts.cpu.sys_count) == (2, 8)
    assert facts.container == "lxc"
    assert facts.memory.total == 268435456
    assert facts.memory.available == 268435456 - 200000000


def test_an_unknown_architecture_has_no_name(tmp_path):
    facts = recorded(tmp_path, "x86-avx", "riscv64")
    assert (facts.machine, facts.arch) == ("riscv64", "")


def test_an_empty_tree_gives_empty_facts(tmp_path):
    facts = gather(str(tmp_path), str(tmp_path / "nothing"), Process())
    assert facts == Facts()._replace(
        bits=64, python=PythonFacts(bits=64), disk=facts.disk, writable=facts.writable, noexec=facts.noexec
    )


def test_an_emulators_host_cpuinfo_is_not_the_devices(tmp_path):
    facts = recorded(tmp_path, "x86-avx", "armv7l")
    assert facts.cpu.features == ()
    assert facts.cpu.parts == ()


def test_features_from_the_auxiliary_vector():
    wide = struct.pack("<6Q", 6, 4096, 16, 1 << 1 | 1 << 10, 0, 0)
    assert arm_hwcap(wide, 64) == ("asimd", "asimdhp")
    narrow = struct.pack("<6I", 6, 4096, 16, 1 << 12 | 1 << 16, 0, 0)
    assert arm_hwcap(narrow, 32) == ("neon", "vfpv4")
    assert arm_hwcap(b"\x10\0\0", 64) == ()


def test_only_what_every_core_has_counts():
    text = "processor: 0\nmodel name: A\nflags: avx avx2 sse2\n\nprocessor: 1\nmodel name: B\nflags: sse2 avx\n"
    assert describe_cpuinfo(text, "x86") == (("A", "B"), ("avx", "sse2"), 2)


def test_an_unknown_part_keeps_its_numbers():
    text = "CPU implementer : 0x41\nCPU part : 0xfff\n"
    assert describe_cpuinfo(text, "arm")[0] == ("0x41:0xfff",)


def test_musl_by_the_loaders_name_and_text(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "ld-musl-x86_64.so.1").write_bytes(b"musl libc\0x\0" + b"1.2.4\0Version %s\0")
    python = tmp_path / "python3"
    python.write_bytes(build_elf(interpreter="/lib/ld-musl-x86_64.so.1"))
    facts = gather(str(tmp_path), str(tmp_path), Process(machine="x86_64", executable=str(python)))
    assert facts.libc == Libc("musl", "1.2.4")


def test_libraries_come_from_configured_folders_and_the_cache(tmp_path):
    for name in ("opt/x/libgomp.so.1", "usr/lib/x86_64-linux-gnu/libc.so.6", "nix/store/z/libz.so.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    cxx = tmp_path / "usr/lib/x86_64-linux-gnu/libstdc++.so.6"
    cxx.write_bytes(build_elf(provides=("GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "GLIBCXX_3.4")))
    (tmp_path / "etc/ld.so.conf.d").mkdir(parents=True)
    (tmp_path / "etc/ld.so.conf.d/x.conf").write_text("# a comment\n/opt/x\n")
    (tmp_path / "etc/ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1\0libz.so.1\0/nix/store/z/libz.so.1\0")
    facts = gather(str(tmp_path), str(tmp_path), Process(machine="x86_64"))
    assert facts.libraries == ("libc.so.6", "libgomp.so.1", "libstdc++.so.6", "libz.so.1")
    assert facts.libstdcxx == "3.4.30"


def test_packages_are_named_without_an_import(tmp_path):
    wheel, debian, bare = (tmp_path / name for name in ("wheel", "debian", "bare"))
    for folder in (wheel, debian, bare):
        (folder / "numpy").mkdir(parents=True)
        (folder / "numpy" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (wheel / "numpy-1.26.4.dist-info").mkdir()
    (debian / "numpy-1.24.2.egg-info").mkdir()
    (bare / "numpy" / "version.py").write_text('short_version: str = "2.1.0"\n')
    assert find_package("numpy", [str(tmp_path), str(wheel), str(debian)]) == Package("1.26.4", str(wheel / "numpy"))
    assert find_package("numpy", [str(debian)]).version == "1.24.2"
    assert find_package("numpy", [str(bare)]).version == "2.1.0"
    assert find_package("paddlelite", [str(wheel)]) == Package()


def test_other_pythons_are_found_by_name(tmp_path):
    for name in ("python3", "python3.11", "python3-config", "python3.11-config", "python2.7"):
        (tmp_path / name).write_text("")
    assert other_pythons([str(tmp_path), "/no/such/folder"]) == ("python3", "python3.11")


def test_the_root_need_not_exist_but_its_file_system_is_measured(tmp_path):
    facts = gather(str(tmp_path / "a" / "b"), str(tmp_path), Process())
    assert 0 < facts.disk.free <= facts.disk.total
    assert facts.writable
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert not gather(str(blocked / "root"), str(tmp_path), Process()).writable


def test_this_machine():
    facts = gather(os.getcwd())
    assert facts.machine == os.uname().machine
    assert facts.python.version == ".".join(str(part) for part in sys.version_info[:3])
    assert facts.python.executable == sys.executable
    assert facts.bits == struct.calcsize("P") * 8
    assert facts.uid == os.getuid()
    assert facts.memory.total > facts.memory.available > 0
    assert "paddlelite" not in sys.modules
    assert Facts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "facts: expected an object, got NoneType."),
        ({"arch": 5}, "facts.arch: expected a text, got a whole number."),
        ({"bits": True}, "facts.bits: expected a whole number, got true or false."),
        ({"writable": 1}, "facts.writable: expected true or false, got a whole number."),
        ({"cpu": []}, "facts.cpu: expected an object, got a list."),
        ({"cpu": {"parts": ["a", 3]}}, "facts.cpu.parts[1]: expected a text, got a whole number."),
        ({"cpu": {"features": ["x"] * 513}}, "facts.cpu.features: expected a list of at most 512 texts, got a list."),
        ({"hostname": "x" * 4097}, "facts.hostname: a text of 4097 characters; at most 4096 are taken."),
        ({"memory": {"total": 1 << 80}}, "facts.memory.total: the number is out of range."),
        ({"disk": {"free": -5}}, "facts.disk.free: the number is out of range."),
        ({"bits": float("nan")}, "facts.bits: expected a whole number, got float."),
    ],
)
def test_a_lying_device_is_told_apart(data, text):
    with pytest.raises(FactsError) as caught:
        Facts.from_dict(data)
    assert str(caught.value) == text


def test_missing_and_unknown_keys_are_no_lie():
    assert Facts.from_dict({"arch": "aarch64", "newer": {"x": 1}}) == Facts(arch="aarch64")


FILES = ("proc/cpuinfo", "proc/meminfo", "proc/self/auxv", "etc/os-release", "etc/ld.so.conf", "etc/ld.so.cache")
LINES = st.sampled_from(
    [
        b"CPU part : 0x",
        b"CPU implementer\t: ",
        b"Features\t: asimd ",
        b"model name\t: ",
        b"flags: ",
        b"/",
        b"ID=",
        b"\n",
        b"\0/",
        b"MemTotal: ",
        b" kB\n",
        b"libc.so.6",
        b"\x10\0\0\0\0\0\0\0",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FILES), st.lists(LINES | st.binary(max_size=12), max_size=30).map(b"".join)),
    st.sampled_from(["aarch64", "armv7l", "x86_64", "mips"]),
)
def test_whatever_the_files_hold_gives_facts_that_are_taken(files, machine):
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            os.makedirs(os.path.join(folder, os.path.dirname(name)), exist_ok=True)
            with open(os.path.join(folder, name), "wb") as stream:
                stream.write(data)
        facts = gather(folder, folder, Process(machine=machine))
    assert Facts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts


def test_files_without_measure_are_cut(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "etc" / "os-release").write_text("PRETTY_NAME=" + "x" * 9000)
    (tmp_path / "proc" / "device-tree" / "model").write_text("y" * 9000)
    (tmp_path / "proc" / "cpuinfo").write_text("".join(f"model name: {n}{'z' * 5000}\n" for n in range(700)))
    facts = gather(str(tmp_path), str(tmp_path), Process(machine="x86_64"))
    assert (len(facts.os_release.pretty), len(facts.model), len(facts.cpu.parts)) == (200, 200, 64)
    assert Facts.from_dict(facts.to_dict()) == facts


TREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*sorted(Facts().to_dict()), "parts", "features", "total", "kind"]), inner, max_size=6
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(TREE)
def test_from_dict_raises_its_own_error_only(data):
    try:
        facts = Facts.from_dict(data)
    except FactsError:
        return
    assert Facts.from_dict(facts.to_dict()) == facts


BASE = Facts(
    machine="aarch64",
    arch="aarch64",
    cpu=Cpu(4, ("Cortex-A72",), ("asimd",)),
    python=PythonFacts("/usr/bin/python3", "3.11.2"),
)


@pytest.mark.parametrize(
    "other",
    [
        BASE._replace(arch="armv7l"),
        BASE._replace(machine="armv7l"),
        BASE._replace(cpu=Cpu(4, ("Cortex-A53",), ("asimd",))),
        BASE._replace(cpu=Cpu(4, ("Cortex-A72",), ("asimd", "asimdhp"))),
        BASE._replace(libc=Libc("glibc", "2.36")),
        BASE._replace(python=PythonFacts("/usr/bin/python3", "3.11.3")),
        BASE._replace(python=PythonFacts("/opt/python3", "3.11.2")),
        BASE._replace(numpy=Package("2.0.0", "/usr/lib/python3/dist-packages/numpy")),
        BASE._replace(paddlelite=Package("2.12", "/usr/lib/python3/dist-packages/paddlelite")),
    ],
)
def test_the_fingerprint_changes_with_what_decides(other):
    assert fingerprint(other) != fingerprint(BASE)


def test_the_fingerprint_stays_with_what_does_not():
    moved = BASE._replace(hostname="other", disk=Disk(10, 5), writable=True, kernel="6.6", container="lxc")
    assert fingerprint(moved) == fingerprint(BASE)
    assert len(fingerprint(BASE)) == 64


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a file system")
def test_a_root_on_a_file_system_without_exec_is_told(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from litefleet_agent.facts import gather; "
        "print(gather(sys.argv[1] + '/not/yet/there').noexec, gather('/').noexec)"
    )
    script = 'mount -t tmpfs -o noexec none "$1" && exec "$0" -c "$2" "$1" "${@:3}"'
    argv = ["unshare", "-m", "bash", "-c", script, sys.executable, str(tmp_path), code]
    done = subprocess.run(argv + [p for p in sys.path if p], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout.split() == [b"True", b"False"]
