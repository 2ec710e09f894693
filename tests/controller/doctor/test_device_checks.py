"""What doctor says of a device by its facts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.facts import Cpu, Disk, Facts, Libc, Memory, OsRelease, Package, PythonFacts
from litefleet_agent.facts.libraries import WATCHED
from litefleet_controller.config import Config, load_config
from litefleet_controller.doctor.device_checks import device_facts, judge_device
from litefleet_inventory import Device

X86 = Facts(
    machine="x86_64",
    arch="x86_64",
    bits=64,
    os_release=OsRelease("debian", "12", "Debian GNU/Linux 12 (bookworm)"),
    cpu=Cpu(4, ("Intel N100",), ("avx", "avx2", "fma"), 4, 4),
    libc=Libc("glibc", "2.36"),
    libstdcxx="3.4.30",
    libraries=WATCHED,
    python=PythonFacts("/usr/bin/python3", "3.10.13", "cpython", "cp310", 64),
    memory=Memory(8 << 30, 6 << 30),
    disk=Disk(64 << 30, 32 << 30),
    writable=True,
)
OWN = Package("2.13rc0", "/opt/paddlelite")
ARM = X86._replace(
    machine="aarch64",
    arch="aarch64",
    cpu=Cpu(4, ("Cortex-A72",) * 4, ("asimd", "fp"), 4, 4),
    model="Raspberry Pi 4 Model B Rev 1.4",
)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def make(runtimes: str = "{}") -> Config:
        path = tmp_path / "litefleet.yaml"
        path.write_text(f"models: {{cls: {{source: m}}}}\nruntimes: {runtimes}\n")
        return load_config(path)

    return make


def judge(config: Config, facts: Facts, **device: str) -> tuple[list[str], str]:
    """Return the codes, and all that is said."""
    works, found = judge_device(config, Device("one", "192.0.2.1", **device), facts)  # type: ignore[arg-type]
    return [f.code for f in found], "\n".join([*works, *(f.observed for f in found)])


def test_good_devices_have_no_finding(config: Any) -> None:
    assert judge(config(), X86) == ([], "A runtime fits: the wheels of paddlelite 2.13rc0.")
    assert judge(config("{aarch64: system}"), ARM._replace(paddlelite=OWN))[0] == []
    assert judge(config(), ARM._replace(paddlelite=OWN)) == ([], "Its own Paddle-Lite 2.13rc0 is installed.")


@pytest.mark.parametrize(
    ("facts", "code", "said"),
    [
        (X86._replace(machine="riscv64", arch=""), "LF303", "riscv64 with a 64-bit userland"),
        (ARM, "LF302", "published for x86_64 only"),
        (X86._replace(libc=Libc("musl", "1.2.4")), "LF309", "musl 1.2.4"),
        (X86._replace(cpu=Cpu(1, ("Nehalem",), ("sse4_2",), 1, 1)), "LF310", "avx, avx2, fma"),
        (X86._replace(libraries=("libc.so.6", "libm.so.6")), "LF306", "libstdc++.so.6"),
        (X86._replace(writable=False), "LF313", "cannot be written"),
        (X86._replace(noexec=True), "LF327", "mounted noexec"),
        (X86._replace(disk=Disk(1 << 30, 1 << 20)), "LF312", "1 MB are free"),
        (X86._replace(python=X86.python._replace(implementation="pypy", tag="pp310")), "LF302", "pp310"),
    ],
)
def test_what_speaks_against_a_device(config: Any, facts: Facts, code: str, said: str) -> None:
    codes, words = judge(config(), facts)
    assert codes == [code]
    assert said in words
    assert "runtime fits" not in words or code in ("LF312",)


def test_a_system_runtime_with_numpy_2_or_no_paddlelite(config: Any) -> None:
    facts = X86._replace(paddlelite=OWN, numpy=Package("2.1.0", "/opt/numpy"))
    assert judge(config("{x86_64: system}"), facts)[0] == []  # the agent drives its library without the binding
    assert judge(config("{x86_64: system}"), X86)[0] == ["LF302"]
    assert judge(config(), facts)[0] == []  # a bundle brings a numpy of its own


def test_a_runtime_of_the_device_itself_needs_no_root_that_libraries_load_from(config: Any) -> None:
    facts = X86._replace(paddlelite=OWN, noexec=True)
    assert judge(config("{x86_64: system}"), facts)[0] == []
    assert judge(config(), ARM._replace(paddlelite=OWN, noexec=True))[0] == []


def test_arm_that_counts_its_cpus_in_two_ways(config: Any) -> None:
    facts = ARM._replace(cpu=ARM.cpu._replace(cpuinfo_count=2), paddlelite=OWN, container="docker")
    assert judge(config(), facts)[0] == ["LF316"]


def test_a_runtime_that_the_inventory_names_and_the_configuration_lacks(config: Any) -> None:
    assert judge(config(), X86, runtime="nosuch")[0] == ["LF708"]


def test_facts_are_lines_for_people() -> None:
    lines = {fact.label: fact.text for fact in device_facts(ARM._replace(arch="armv7l", bits=32, container="\x1b[2J"))}
    assert lines["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert lines["cpu"] == "4 x Cortex-A72, 4 cores"
    assert lines["userland"] == "armv7l, 32-bit under a kernel for aarch64"
    assert lines["libc"] == "glibc 2.36, libstdc++ with GLIBCXX_3.4.30"
    assert lines["memory"] == "6442 of 8589 MB available"
    assert "\x1b" not in lines["container"]
    assert "opencl" not in lines
    assert device_facts(Facts()) != ()
