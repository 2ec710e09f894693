"""Gathers the facts of this machine, without a subprocess and without importing Paddle-Lite; it never raises.

`known` spares a session what only changes with a file.
"""

from __future__ import annotations

from ..formats.elf import Elf, ElfError, read_elf
from ..formats.files import Tree
from .arch import Arch, arch_of_userland
from .cpu import arm_hwcap, describe_cpuinfo
from .libraries import (
    OPENCL_FOLDERS,
    describe_brought,
    describe_libc,
    find_libraries,
    find_opencl,
    loader_files,
    newest_glibcxx,
    search_folders,
)
from .packages import find_package, other_pythons
from .present import Process, this_process, with_present_state
from .values import Cpu, Facts, OsRelease, PythonFacts

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import List, Optional


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
    searched = search_folders(tree, name, folders + own.libraries)
    found = find_libraries(tree, name, searched)
    facts = Facts(
        machine=own.machine,
        arch=name,
        bits=bits,
        os_release=_os_release(tree),
        cpu=_cpu(tree, arch, own.cores),
        libc=describe_libc(tree, program, own.confstr),
        libstdcxx=newest_glibcxx(tree, found.get("libstdc++.so.6", "")),
        libraries=tuple(sorted(found)),
        python=PythonFacts(own.executable, own.version, own.implementation, own.tag, bits),
        other_pythons=other_pythons(own.programs),
        opencl=find_opencl(tree, searched),
        page_size=own.page_size,
        paddlelite=find_package("paddlelite", own.packages),
        numpy=find_package("numpy", own.packages),
        uid=own.uid,
        model=_model(tree),
        brought=brought,
    )
    return with_present_state(facts, tree, own, root)


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


def _model(tree: Tree) -> str:
    return tree.text("/proc/device-tree/model", 200) or tree.text("/sys/class/dmi/id/product_name", 200)


def files_behind(facts: Facts, own: Process) -> List[str]:
    """Return the paths whose files and folders decide the facts of `gather`, except for what is read anew each time."""
    tree = Tree("/")
    _, folders = describe_brought(tree, own.executable)
    searched = search_folders(tree, facts.arch, folders + own.libraries)
    paths = [own.executable, "/etc/os-release", "/usr/lib/os-release", "/etc/ld.so.cache", "/etc/ld.so.conf.d"]
    paths += loader_files(tree) + searched + list(OPENCL_FOLDERS) + [facts.opencl]
    paths += find_libraries(tree, facts.arch, searched).values()
    paths += own.programs + own.packages
    for package in (facts.paddlelite, facts.numpy):
        paths += [package.path, package.path + "/__init__.py", package.path + "/version.py"] if package.path else []
    return list(dict.fromkeys(filter(None, paths)))
