"""Finds shared libraries: the libc, also beside one that a controller brought, the loader's folders, the watched libraries."""

from __future__ import annotations

import os

from ..formats.elf import Elf, ElfError, read_elf
from ..formats.files import Tree
from .values import Brought, Libc

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Optional, Tuple

# <folder>/python/<key>/bin/python3: the key is the start of the archive's SHA-256
_PLACE = "/bin/python3"
# What builds of Paddle-Lite and numpy need.  A list of every library would be tens of kilobytes per device.
WATCHED: Tuple[str, ...] = (
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libgomp.so.1",
    "libatomic.so.1",
    "libz.so.1",
    "libiomp5.so",
    "libOpenCL.so.1",
    "libOpenCL.so",
    "libopenblas.so.0",
    "libgfortran.so.5",
)

_TRIPLETS: Dict[str, str] = {
    "x86_64": "x86_64-linux-gnu",
    "i686": "i386-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "armv7l": "arm-linux-gnueabihf",
}

_OPENCL_NAMES = ("libOpenCL.so", "libOpenCL.so.1", "libGLES_mali.so", "libmali.so")
OPENCL_FOLDERS = (
    "/system/vendor/lib64",
    "/system/vendor/lib64/egl",
    "/system/vendor/lib",
    "/vendor/lib64",
    "/vendor/lib",
)


def describe_libc(tree: Tree, program: Optional[Elf], confstr: str) -> Libc:
    """Return the libc of a program: by its ELF interpreter, or by `confstr` (CS_GNU_LIBC_VERSION) without one."""
    interpreter = program.interpreter if program is not None else ""
    if "ld-musl" in interpreter:
        return Libc("musl", _musl_version(tree.data(interpreter, 4 << 20)))
    name, _, version = confstr.partition(" ")
    parts = version.split(".")
    if name == "glibc" and 2 <= len(parts) <= 3 and all(part.isdecimal() and len(part) <= 3 for part in parts):
        return Libc("glibc", version)
    return Libc("glibc", "") if "ld-linux" in interpreter else Libc()


def _musl_version(loader: bytes) -> str:
    """Return the version in musl's loader, which holds it as a text of its own."""
    import re  # 6 ms; most devices have glibc

    found = set(re.findall(rb"\x00(1\.\d{1,2}\.\d{1,2}(?:_git[-\w]{0,40})?)\x00", loader))
    return found.pop().decode("ascii") if len(found) == 1 else ""


def loader_files(tree: Tree) -> List[str]:
    """Return the files that say where the loader searches, without its cache."""
    return ["/etc/ld.so.conf"] + ["/etc/ld.so.conf.d/" + name for name in tree.names("/etc/ld.so.conf.d")[:100]]


def search_folders(tree: Tree, arch: str, extra: Iterable[str] = ()) -> List[str]:
    """Return the folders that this architecture's loader searches, in its order, without those of other architectures.

    `extra` is LD_LIBRARY_PATH's folders.
    """
    triplet = _TRIPLETS.get(arch, "")
    bases = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"]
    multi = ["/lib/" + triplet, "/usr/lib/" + triplet, "/usr/local/lib/" + triplet] if triplet else []
    configured = []
    for name in loader_files(tree):
        configured += [line.strip() for line in tree.text(name, 1 << 16).splitlines() if line.startswith("/")]
    found = [folder for folder in list(extra) + configured + multi + bases if folder.startswith("/")]
    return [folder for folder in dict.fromkeys(found) if _is_ours(folder, arch)][:200]


def _is_ours(folder: str, arch: str) -> bool:
    return not any(triplet in folder for other, triplet in _TRIPLETS.items() if other != arch)


def _cached(tree: Tree, arch: str) -> Dict[str, str]:
    """Return name -> path of the watched libraries in ldconfig's cache that are in this architecture's folders."""
    found: Dict[str, str] = {}
    data = tree.data("/etc/ld.so.cache", 4 << 20)
    for name in WATCHED:
        end = b"/" + name.encode("ascii") + b"\0"
        at = data.find(end)
        while at >= 0:
            folder = data[data.rfind(b"\0", 0, at) + 1 : at].decode("utf-8", "replace")
            if folder.startswith("/") and _is_ours(folder, arch):
                found.setdefault(name, folder + "/" + name)
            at = data.find(end, at + 1)
    return found


def find_libraries(tree: Tree, arch: str, folders: Iterable[str]) -> Dict[str, str]:
    """Return name -> path of the watched libraries that the loader would find in `folders`, as `search_folders` gives them."""
    found = {}
    cached = _cached(tree, arch)
    for name in WATCHED:
        paths = [folder + "/" + name for folder in folders] + ([cached[name]] if name in cached else [])
        for path in paths:
            if tree.exists(path):
                found[name] = path
                break
    return found


def find_opencl(tree: Tree, folders: Iterable[str]) -> str:
    """Return the path of an OpenCL library (or Mali's driver, which is one) in `folders` or an Android's, or ""."""
    folders = [*folders, *OPENCL_FOLDERS]
    for name in _OPENCL_NAMES:
        for folder in folders:
            if tree.exists(folder + "/" + name):
                return folder + "/" + name
    return ""


def newest_glibcxx(tree: Tree, path: str) -> str:
    """Return the newest GLIBCXX version that the libstdc++ at `path` defines ("3.4.30"), or ""."""
    try:
        provided = read_elf(tree.path(path)).provides if path else frozenset()
    except ElfError:
        return ""
    versions = [name[len("GLIBCXX_") :].split(".") for name in provided if name.startswith("GLIBCXX_")]
    numbers = [tuple(map(int, parts)) for parts in versions if all(part.isdecimal() for part in parts)]
    return ".".join(str(part) for part in max(numbers)) if numbers else ""


def describe_brought(tree: Tree, executable: str) -> Tuple[Brought, Tuple[str, ...]]:
    """Return the Python that a controller brought here, and the folder that its loader searches first, if any."""
    place = executable[: -len(_PLACE)]
    key = place.rpartition("/")[2]
    if executable != place + _PLACE or len(key) != 32 or key.strip("0123456789abcdef"):
        return Brought(), ()
    if not os.path.isfile(place + "/bin/python3.real"):
        return Brought(), ()
    if not os.path.isfile(place + "/lib/ld.so"):
        return Brought(key), ()
    return Brought(key, _own_libc(tree)), (place + "/lib",)


def _own_libc(tree: Tree) -> str:
    folders = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
    names = [name for folder in folders for name in tree.names(folder)]
    triplets = [folder + "/" + name for folder in folders for name in tree.names(folder) if name.endswith("-gnu")]
    names += [name for folder in triplets[:16] for name in tree.names(folder)]
    if any(name.startswith(("ld-linux", "ld-2.")) for name in names):
        return "glibc"
    return "musl" if any(name.startswith("ld-musl-") for name in names) else "none"
