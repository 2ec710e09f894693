"""Describes the processor from the contents of /proc/cpuinfo and the auxiliary vector.  Pure."""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # known to type checkers; loading typing takes a third of a session's start
if TYPE_CHECKING:
    from typing import Dict, FrozenSet, List, Tuple

# The features that decide about kernels; the other hundred flags of an x86 CPU would only enlarge every answer.
_ARM = "asimd asimdhp asimddp asimdrdm fphp fp atomics i8mm bf16 sve sve2 neon vfpv3 vfpv4 vfpd32 idiva"
_X86 = "sse2 ssse3 sse4_1 sse4_2 avx avx2 avx512f avx512_vnni avx_vnni fma f16c amx_int8"
RELEVANT: FrozenSet[str] = frozenset((_ARM + " " + _X86).split())

_IMPLEMENTERS: Dict[int, Dict[int, str]] = {
    0x41: {  # Arm
        0xB76: "ARM1176", 0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9",
        0xC0D: "Cortex-A12", 0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15", 0xD01: "Cortex-A32", 0xD03: "Cortex-A53",
        0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73",
        0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1",
        0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
        0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3",
        0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
    },
    0x48: {0xD01: "TaiShan-v110"},
    0x4E: {0x003: "Denver-2", 0x004: "Carmel"},
    0x51: {  # Qualcomm
        0x06F: "Krait", 0x201: "Kryo", 0x205: "Kryo", 0x211: "Kryo", 0x800: "Kryo-2xx-Gold", 0x801: "Kryo-2xx-Silver",
        0x802: "Kryo-3xx-Gold", 0x803: "Kryo-3xx-Silver", 0x804: "Kryo-4xx-Gold", 0x805: "Kryo-4xx-Silver",
    },
    0x61: {0x022: "Apple-M1-Icestorm", 0x023: "Apple-M1-Firestorm"},
}  # fmt: skip

# AT_HWCAP's bits (arch/arm64 and arch/arm, uapi/asm/hwcap.h)
_HWCAP: Dict[int, Dict[int, str]] = {
    64: {0: "fp", 1: "asimd", 8: "atomics", 9: "fphp", 10: "asimdhp", 12: "asimdrdm", 20: "asimddp", 22: "sve"},
    32: {12: "neon", 13: "vfpv3", 16: "vfpv4", 17: "idiva", 19: "vfpd32"},
}
_AT_HWCAP = 16
_HEX = "0123456789abcdefABCDEF"


def describe_cpuinfo(text: str, isa: str) -> Tuple[Tuple[str, ...], Tuple[str, ...], int]:
    """Return (parts, features, count) of /proc/cpuinfo for a userland of instruction set `isa` ("x86", "arm", "").

    An emulator shows its host's cpuinfo: lines of another instruction set are ignored.
    """
    rows = _rows(text)
    if isa == "x86":
        parts = [value for key, value in rows if key == "model name"]
        flags = [value for key, value in rows if key == "flags"]
        count = len([1 for key, value in rows if key == "processor" and value.isdigit()])
    elif isa == "arm":
        parts = _arm_parts(rows)
        flags = [value for key, value in rows if key == "features"]
        count = len(parts)
    else:
        parts, flags = [], []
        count = len([1 for key, _ in rows if key == "processor"])
    common = _common(flags)
    return tuple(_distinct(parts)), tuple(sorted(common & RELEVANT)), count


def _rows(text: str) -> List[Tuple[str, str]]:
    pairs = (line.partition(":") for line in text.splitlines())
    return [(key.strip().lower(), value.strip()) for key, colon, value in pairs if colon]


def _arm_parts(rows: List[Tuple[str, str]]) -> List[str]:
    names = []
    implementer = 0
    for key, value in rows:
        if key == "cpu implementer":
            implementer = _number(value)
        elif key == "cpu part":
            part = _number(value)
            names.append(_IMPLEMENTERS.get(implementer, {}).get(part) or "0x%02x:0x%03x" % (implementer, part))
    return names


def _number(text: str) -> int:
    digits = text[2:]
    return int(digits, 16) if text[:2] == "0x" and 0 < len(digits) <= 8 and not digits.strip(_HEX) else 0


def _common(lines: List[str]) -> FrozenSet[str]:
    """Return the flags that every core has: a thread may be moved to any of them."""
    sets = [frozenset(line.lower().split()) for line in lines]
    return frozenset.intersection(*sets) if sets else frozenset()


def _distinct(names: List[str]) -> List[str]:
    return list(dict.fromkeys(name[:200] for name in names))[:64]


def arm_hwcap(auxv: bytes, bits: int) -> Tuple[str, ...]:
    """Return the features in an ARM program's auxiliary vector (/proc/self/auxv), sorted; empty when it names none."""
    step = 16 if bits == 64 else 8
    form = "<QQ" if bits == 64 else "<II"
    for offset in range(0, min(len(auxv), 4096) - step + 1, step):
        kind, value = struct.unpack_from(form, auxv, offset)
        if kind == _AT_HWCAP:
            return tuple(sorted(name for bit, name in _HWCAP.get(bits, {}).items() if value >> bit & 1))
    return ()
