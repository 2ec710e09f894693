"""A machine for seccomp's programs, and what the kernel's own tables number: to ask a filter of any architecture."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COLUMNS = {"x86_64": 0, "aarch64": 1, "armv7": 2}
ALLOWED, KILLED = "allowed", "killed"


class Call(NamedTuple):
    """What struct seccomp_data holds of one system call."""

    number: int
    arch: int
    arguments: tuple[int, ...] = ()


def kernel_calls(machine: str) -> dict[str, int]:
    """Return the numbers of all calls that a machine has."""
    found = {}
    for line in (Path(__file__).parent / "kernel_calls.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            name, *cells = line.split()
            if cells[COLUMNS[machine]] != "-":
                found[name] = int(cells[COLUMNS[machine]])
    return found


def decide(program: bytes, call: Call) -> str:
    """Return "allowed", "killed" or the name of an error; AssertionError for a program that the kernel would refuse."""
    data = struct.pack("<iIQ6Q", signed(call.number), call.arch, 0, *padded(call.arguments))
    code = list(struct.iter_unpack("<HBBI", program))
    assert 0 < len(code) <= 4096
    register, at = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]  # an IndexError is a jump past the end
        at += 1
        if operation == 0x20:
            assert operand % 4 == 0
            assert operand < 64
            register = struct.unpack_from("<I", data, operand)[0]
        elif operation == 0x54:
            register &= operand
        elif operation == 0x05:
            at += operand
        elif operation == 0x15:
            at += if_true if register == operand else if_false
        elif operation == 0x35:
            at += if_true if register >= operand else if_false
        elif operation == 0x06:
            return outcome(operand)
        else:
            raise AssertionError(f"operation {operation:#x}")


def outcome(returned: int) -> str:
    if returned == 0x7FFF0000:
        return ALLOWED
    if returned == 0x80000000:
        return KILLED
    assert returned & 0xFFFF0000 == 0x00050000
    return errno.errorcode[returned & 0xFFFF]


def signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


def padded(arguments: Sequence[int]) -> list[int]:
    return [value & 0xFFFFFFFFFFFFFFFF for value in arguments] + [0] * (6 - len(arguments))
