"""What a device reports of itself that may change at any time: this process, memory, disk, GPU nodes.  It never raises."""

from __future__ import annotations

import os
import sys

from ..formats.files import Tree
from ..formats.light import NamedTuple
from .values import MAX_TEXT, Disk, Facts, Memory

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Tuple

_GPU_NODES = ("/dev/mali0", "/dev/kgsl-3d0")  # ARM's and Qualcomm's


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
        pointer_bits=64 if sys.maxsize > 1 << 32 else 32,
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


def with_present_state(facts: Facts, tree: Tree, own: Process, root: str) -> Facts:
    """Return the facts with what may change at any time as it is now; `root` is the agent's folder, which need not exist."""
    existing = _nearest(root)
    nodes, denied = find_opencl_devices(tree)
    return facts._replace(
        kernel=own.kernel,
        hostname=own.hostname[:MAX_TEXT],
        memory=memory(tree),
        disk=_disk(existing),
        writable=os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK),
        noexec=_noexec(existing),
        opencl_devices=nodes,
        opencl_denied=denied,
        container=_container(tree, own.container),
    )


def _noexec(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


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


def find_opencl_devices(tree: Tree) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Return the device nodes of GPU drivers, and those of them that this user may not open."""
    names = list(_GPU_NODES)
    names += ["/dev/dri/" + name for name in tree.names("/dev/dri") if _is_render_node(name)][:16]
    nodes = tuple(name for name in names if tree.exists(name))
    return nodes, tuple(name for name in nodes if not os.access(tree.path(name), os.R_OK | os.W_OK))


def _is_render_node(name: str) -> bool:
    number = name[len("renderD") :]
    return name.startswith("renderD") and number.isdecimal() and len(number) <= 4
