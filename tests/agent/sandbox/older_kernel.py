"""Runs a program as on a kernel that lacks Landlock, seccomp or both.

argv: "landlock", "seccomp", "systemd", several of them with commas, or ""; then the program and its arguments.

A filter of its own answers as such a kernel would.  It does not share a line with what is tested.  "systemd" is the filter of a
unit whose SystemCallFilter= has neither Landlock nor seccomp(2): both are refused, prctl is not.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

LANDLOCK = (444, 445, 446)
# machine -> AUDIT_ARCH_*, seccomp, prctl
MACHINES = {"x86_64": (0xC000003E, 317, 157), "aarch64": (0xC00000B7, 277, 167)}
MACHINES["armv7l"] = (0x40000028, 383, 172)
EPERM, ENOSYS, EINVAL = 0x00050000 | 1, 0x00050000 | 38, 0x00050000 | 22
ALLOW = 0x7FFF0000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38


def program(lacking: list[str]) -> list[tuple[int, int, int, int]]:
    arch, seccomp, prctl = MACHINES[os.uname().machine]
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, arch), (0x06, 0, 0, ALLOW), (0x20, 0, 0, 0)]
    absent = LANDLOCK if "landlock" in lacking else ()
    refused = (*LANDLOCK, seccomp) if "systemd" in lacking else ()
    if "seccomp" in lacking:
        absent += (seccomp,)
        # prctl(PR_SET_SECCOMP, ...) is EINVAL where filters are not built in
        code += [(0x15, 0, 4, prctl), (0x20, 0, 0, 16), (0x15, 0, 1, PR_SET_SECCOMP), (0x06, 0, 0, EINVAL)]
        code += [(0x06, 0, 0, ALLOW)]
    for number in absent:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, ENOSYS)]
    for number in refused:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, EPERM)]
    return [*code, (0x06, 0, 0, ALLOW)]


def main() -> None:
    lacking = [name for name in sys.argv[1].split(",") if name]
    if lacking:
        code = program(lacking)
        held = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
        libc = ctypes.CDLL(None)
        assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        described = struct.pack("HP", len(code), ctypes.addressof(held))
        assert libc.prctl(PR_SET_SECCOMP, 2, described, 0, 0) == 0
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
