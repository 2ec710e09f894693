"""A Python that a controller brought to this device: how it is recognized, and what the device itself has."""

import os
import re
from typing import NamedTuple, Tuple

from .tree import Tree

# <folder>/python/<key>/bin/python3: the key is the start of the archive's SHA-256
_PLACE = re.compile(r"^(/.*/([0-9a-f]{32}))/bin/python3$")


class Brought(NamedTuple):
    """The Python that was brought, and the device's own C library; both empty for an interpreter of the device."""

    key: str = ""  # the first 32 digits of the archive's SHA-256
    own_libc: str = ""  # "glibc", "musl" or "none"; "" where the brought Python runs on it

    @property
    def brings_libc(self) -> bool:
        """Whether programs of that Python run on a C library that was brought with it."""
        return bool(self.own_libc)


def describe_brought(tree: Tree, executable: str) -> Tuple[Brought, Tuple[str, ...]]:
    """Return what was brought, and the folder of the libraries that its loader searches first, if any."""
    found = _PLACE.match(executable)
    if found is None or not os.path.isfile(found.group(1) + "/bin/python3.real"):
        return Brought(), ()
    if not os.path.isfile(found.group(1) + "/lib/ld.so"):
        return Brought(found.group(2)), ()
    return Brought(found.group(2), _own_libc(tree)), (found.group(1) + "/lib",)


def _own_libc(tree: Tree) -> str:
    folders = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
    names = [name for folder in folders for name in tree.names(folder)]
    triplets = [folder + "/" + name for folder in folders for name in tree.names(folder) if name.endswith("-gnu")]
    names += [name for folder in triplets[:16] for name in tree.names(folder)]
    if any(name.startswith(("ld-linux", "ld-2.")) for name in names):
        return "glibc"
    return "musl" if any(name.startswith("ld-musl-") for name in names) else "none"
