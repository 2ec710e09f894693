"""A Python that can be brought to a device: a value that its maker and its sender share, and where it lies there, in sh.

ROOT/python/KEY/bin/python3    the Python, in the agent's root; ROOT/python/current holds the KEY in use
/usr/local/lib/litefleet/python    the same, placed by `litefleet provision` for every user of the device
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_NEEDS = {"xz": {"xz"}, "gz": {"gzip"}, "tar": set[str]()}  # the smallest form first
SHARED = "/usr/local/lib/litefleet/python"
# Defines `mine PATH`: nobody but this user and root can exchange what lies there.  `ls -ldn` is what BusyBox and the GNU tools
# write alike: its first word is the type and the rights, its third and fourth the numbers of owner and group; 65534 owns what a
# container cannot name.  What a folder that only owners may rename in (/tmp) holds is examined too.
MINE = """mine() {
q=$(cd -P "$1" 2>/dev/null && pwd) || { w="there is no folder $1"; return 1; }
while :; do
set -- $(ls -ldn "$q" 2>/dev/null) || :
[ $# -gt 4 ] || { w="ls cannot tell who owns $q"; return 1; }
case $3 in 0|65534) ;; *) [ -O "$q" ] || { w="$q belongs to the user number $3"; return 1; };; esac
case $1 in
?????????[tT]*) ;;
????????w*) w="$q can be changed by every user ($1)"; return 1;;
?????w*) [ "$4" = 0 ] || [ -G "$q" ] || { w="$q can be changed by the group number $4 ($1)"; return 1; };;
esac
[ "$q" = / ] && return 0
q=${q%/*}; q=${q:-/}
done
}
"""

# Defines `place ROOT`: $base is ROOT/python, ROOT as the inventory names it ("~/x"), or where the agent would make its own.
PLACE = """place() {
case $1 in
'') if [ -d /var/lib/litefleet ]; then base=/var/lib/litefleet; else base=/var/lib; fi
# busybox calls everything writable for root, and a read-only file system is not
if [ -w "$base" ] && (: >"$base/.litefleet-$$") 2>/dev/null && rm -f "$base/.litefleet-$$"; then base=/var/lib/litefleet/python
else base=${HOME:-/}/.local/share/litefleet/python; fi;;
'~/'*) base=${HOME:-}/${1#'~/'}/python;;
*) base=$1/python;;
esac
}
"""


def best_form(tools: frozenset[str]) -> str:
    """Return the smallest form ("xz", "gz", "tar") that a device with these tools can unpack, "" for none."""
    if not tools & {"tar", "dd"}:
        return ""
    return next(form for form, needed in _NEEDS.items() if needed <= tools)


@dataclass(frozen=True)
class PackedForm:
    """One archive of a Python; `size` in bytes."""

    form: str  # "xz", "gz" or "tar"
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class PythonBundle:
    """A Python as a tar archive, packed in one way.  Sizes in bytes."""

    key: str  # the first 32 digits of the tar archive's SHA-256
    machine: str  # "aarch64"
    python: str  # "3.11"
    libc: str  # "glibc 2.36"; "" where it runs on the device's own
    unpacked_size: int
    files: int
    description: str
    packed: PackedForm
    largest_page: int = 0  # the largest page, in bytes, of a kernel that can load it; 0: any, or unknown
    needs: str = ""  # the libc of the device that it is started by: "glibc", "musl"; "" for none, or unknown

    @property
    def space(self) -> int:
        """Bytes that the files take on a disk with blocks of 4 KiB."""
        return self.unpacked_size + 4096 * self.files

    def why_not(self, facts: Mapping[str, str]) -> str:
        """Return why a device that told `facts` of itself cannot start it, "" where nothing speaks against it.

        glibc's loader refuses segments that do not lie in the file as in memory, page for page.
        """
        told, libc = facts.get("page", ""), facts.get("libc", "")
        page = int(told) * 1024 if told.isdecimal() and len(told) < 8 else 0
        if 0 < self.largest_page < page:
            return (
                f"{self.description} is aligned to pages of {self.largest_page} bytes; this device's kernel has pages of "
                f"{page}: nothing was sent"
            )
        if self.needs and libc and libc != self.needs:
            has = {"unknown": "none", "": "none"}.get(libc, libc)
            return f"{self.description} is started by the device's own {self.needs}; this device has {has}: nothing was sent"
        return ""


class PythonMaker(Protocol):
    """Makes Pythons for devices."""

    async def for_machine(self, machine: str, form: str) -> PythonBundle:
        """Return the Python for devices whose `uname -m` is `machine`, in a form of `best_form`.

        Raises: LitefleetError where none can be made.
        """
