"""CPU architectures: the names that `uname -m` gives, and the Paddle-Lite target of each.  Pure."""

from __future__ import annotations

from ..formats.light import NamedTuple

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, Optional


class Arch(NamedTuple):
    """One CPU architecture that litefleet converts for."""

    name: str  # canonical, as `uname -m` names it: "x86_64", "aarch64", "armv7l", "i686"
    isa: str  # the instruction set family in Paddle-Lite's terms: "x86" or "arm"
    bits: int  # of the userland, 32 or 64

    @property
    def target(self) -> str:
        """The `--valid_targets` value whose kernels this architecture runs."""
        return self.isa


ARCHES: Dict[str, Arch] = {
    "x86_64": Arch("x86_64", "x86", 64),
    "i686": Arch("i686", "x86", 32),
    "aarch64": Arch("aarch64", "arm", 64),
    "armv7l": Arch("armv7l", "arm", 32),
}

_ALIASES: Dict[str, str] = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
    "x86": "i686",
    "arm64": "aarch64",
    "armv8": "aarch64",
    "armv8l": "armv7l",  # a 64-bit CPU that runs a 32-bit kernel personality
    "armv7": "armv7l",
    "armhf": "armv7l",
}


def arch_of(machine: str) -> Optional[Arch]:
    """Return the architecture that `uname -m` (or a common alias) names, or None where Paddle-Lite has no CPU backend for it."""
    name = machine.strip().lower()
    return ARCHES.get(_ALIASES.get(name, name))


def arch_of_userland(machine: str, bits: int) -> Optional[Arch]:
    """Return the architecture that programs see: a 32-bit userland on a 64-bit kernel counts as 32-bit.

    `bits` is the pointer size of the userland's own programs, in bits.
    """
    arch = arch_of(machine)
    if arch is None or arch.bits == bits:
        return arch
    for other in ARCHES.values():
        if other.isa == arch.isa and other.bits == bits:
            return other
    return None
