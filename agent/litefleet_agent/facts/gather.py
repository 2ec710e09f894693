"""Gathers the facts of this machine, without a subprocess and without importing Paddle-Lite; it never raises.

What only changes with a file is taken from an earlier session's note where `known` finds that no such file has changed.
"""

from __future__ import annotations

import os
import struct
import sys

from ..formats.elf import Elf, ElfError, read_elf
from ..formats.files import Tree
from ..formats.light import NamedTuple
from .arch import Arch, arch_of_userland
from .cpu import arm_hwcap, describe_cpuinfo
from .libraries import describe_brought, describe_libc, find_libraries, find_opencl, find_opencl_devices, newest_glibcxx
from .packages import find_package, other_pythons
from .values import MAX_TEXT, Cpu, Disk, Facts, Memory, OsRelease, PythonFacts

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Optional, Tuple


class Process(NamedTuple):
    """What a running interpreter and its kernel report without any file."""

    machine: str = ""
    kernel: str = ""
    hostname: str = ""
    executable: str = ""
    version: str = ""
    implementation: str = ""
    tag: str = ""
    confstr: str = ""  # CS_GNU_LIBC_VERSION: "glibc 2.36", "" on other libcs
    cores: int = 0
    uid: int = -1
    pointer_bits: int = 64
    page_size: int = 0
    packages: Tuple[str, ...] = ()  # sys.path
    programs: Tuple[str, ...] = ()  # PATH
    libraries: Tuple[str, ...] = ()  # LD_LIBRARY_PATH
    container: str = ""  # $container, which systemd-nspawn, podman and lxc set


def this_process() -> Process:
    """Describe the interpreter that runs this."""
    kernel = os.uname()
    return Process(
        machine=kernel.machine,
        kernel=kernel.release,
        hostname=kernel.nodename,
        executable=sys.executable or "",
        version=sys.version.split()[0],
        implementation=sys.implementation.name,
        tag=("cp" if sys.implementation.name == "cpython" else sys.implementation.name[:2])
        + "%d%d" % sys.version_info[:2],
        confstr=_confstr(),
        cores=_cores(),
        uid=os.getuid(),
        pointer_bits=struct.calcsize("P") * 8,
        page_size=_page_size(),
        packages=tuple(sys.path),
        programs=_split(os.environ.get("PATH", "")),
        libraries=_split(os.environ.get("LD_LIBRARY_PATH", "")),
        container=os.environ.get("container", ""),  # noqa: SIM112
    )


def _split(text: str) -> Tuple[str, ...]:
    return tuple(part for part in text.split(":") if part)


def _confstr() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):  # musl does not know the name
        return ""


def _page_size() -> int:
    try:
        return max(0, os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        return 0


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 0


def gather(root: str, sysroot: str = "/", process: Optional[Process] = None) -> Facts:
    """Describe this machine.

    `root` is the agent's folder, which need not exist yet; `sysroot` is the folder that holds /proc, /sys, /etc and /lib;
    `process` replaces what the running interpreter reports.  What cannot be read stays empty.
    """
    own = process if process is not None else this_process()
    tree = Tree(sysroot)
    program = _program(own.executable)
    bits = program.bits if program is not None else own.pointer_bits
    arch = arch_of_userland(own.machine, bits)
    name = arch.name if arch is not None else ""
    brought, folders = describe_brought(tree, own.executable)
    libraries = folders + own.libraries
    found = find_libraries(tree, name, libraries)
    existing = _nearest(root)
    nodes, denied = find_opencl_devices(tree)
    return Facts(
        machine=own.machine,
        arch=name,
        bits=bits,
        kernel=own.kernel,
        hostname=own.hostname[:MAX_TEXT],
        os_release=_os_release(tree),
        cpu=_cpu(tree, arch, own.cores),
        libc=describe_libc(tree, program, own.confstr),
        libstdcxx=newest_glibcxx(tree, found.get("libstdc++.so.6", "")),
        libraries=tuple(sorted(found)),
        python=PythonFacts(own.executable, own.version, own.implementation, own.tag, bits),
        other_pythons=other_pythons(own.programs),
        memory=memory(tree),
        disk=_disk(existing),
        writable=os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK),
        noexec=_noexec(existing),
        opencl=find_opencl(tree, name, libraries),
        opencl_devices=nodes,
        opencl_denied=denied,
        page_size=own.page_size,
        paddlelite=find_package("paddlelite", own.packages),
        numpy=find_package("numpy", own.packages),
        uid=own.uid,
        container=_container(tree, own.container),
        model=_model(tree),
        brought=brought,
    )


def _noexec(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def _program(executable: str) -> Optional[Elf]:
    try:
        return read_elf(executable) if executable else None
    except ElfError:  # a wrapper script, or unreadable
        return None


def _cpu(tree: Tree, arch: Optional[Arch], cores: int) -> Cpu:
    isa = arch.isa if arch is not None else ""
    parts, features, count = describe_cpuinfo(tree.text("/proc/cpuinfo", 4 << 20), isa)
    if not features and arch is not None and isa == "arm":
        features = arm_hwcap(tree.data("/proc/self/auxv", 4096), arch.bits)
    folders = [
        name for name in tree.names("/sys/devices/system/cpu") if name.startswith("cpu") and name[3:].isdecimal()
    ]
    return Cpu(cores, parts, features, count, len(folders))


def _os_release(tree: Tree) -> OsRelease:
    text = tree.text("/etc/os-release", 1 << 16) or tree.text("/usr/lib/os-release", 1 << 16)
    pairs = (line.partition("=") for line in text.splitlines())
    values = {key.strip(): value.strip().strip("\"'")[:200] for key, equals, value in pairs if equals}
    return OsRelease(values.get("ID", ""), values.get("VERSION_ID", ""), values.get("PRETTY_NAME", ""))


def memory(tree: Tree) -> Memory:
    """Return the memory of this machine now; a cgroup's limit counts."""
    table: Dict[str, int] = {}
    for line in tree.text("/proc/meminfo", 1 << 16).splitlines():
        name, _, amount = line.partition(":")
        number, _, unit = amount.strip().partition(" ")
        if unit == "kB":
            table[name] = _number(number) * 1024
    total = table.get("MemTotal", 0)
    guess = table.get("MemFree", 0) + table.get("Buffers", 0) + table.get("Cached", 0)  # before Linux 3.14
    available = table.get("MemAvailable", guess)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        most = _number(tree.text(limit, 64))
        if 0 < most < total:
            total = most
            available = min(available, max(0, most - _number(tree.text(used, 64))))
    return Memory(total, available)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) <= 18 else 0


def _nearest(root: str) -> str:
    """Return the nearest folder on the way to `root` that exists."""
    path = os.path.abspath(root)
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _disk(path: str) -> Disk:
    try:
        state = os.statvfs(path)
    except (OSError, ValueError):
        return Disk()
    return Disk(state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize)


def _container(tree: Tree, environment: str) -> str:
    name = environment or tree.text("/run/systemd/container", 64)
    if name:
        return name[:64]
    for sign, engine in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if tree.exists(sign):
            return engine
    return ""


def _model(tree: Tree) -> str:
    return tree.text("/proc/device-tree/model", 200) or tree.text("/sys/class/dmi/id/product_name", 200)
