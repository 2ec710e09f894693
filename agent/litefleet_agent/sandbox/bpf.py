"""Programs for seccomp in classic BPF: a decision tree over system call numbers with tests of single arguments at its leaves.

An instruction is 8 bytes: code, jump if true, jump if false, operand (struct sock_filter of linux/filter.h).  Offsets are those
of struct seccomp_data (linux/seccomp.h): number, machine, instruction pointer, six arguments of 64 bits.  Only the lower half
of an argument is tested: the arguments that matter here are ints, or flags in that half.
"""

import struct
from typing import Dict, Iterable, List, Sequence, Tuple

SIZE = 8  # bytes of an instruction
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_instruction = struct.Struct("<HBBI").pack
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16

ALLOW = _instruction(_RETURN, 0, 0, 0x7FFF0000)  # SECCOMP_RET_ALLOW
# SECCOMP_RET_KILL_PROCESS; kernels before 4.14 take it for SECCOMP_RET_KILL, which ends the thread.
KILL = _instruction(_RETURN, 0, 0, 0x80000000)


def fail(error: int) -> bytes:
    """Return the code that has the call fail with an error number, unmade (SECCOMP_RET_ERRNO)."""
    return _instruction(_RETURN, 0, 0, 0x00050000 | error)


def _argument(index: int) -> bytes:
    return _instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _compare(values: Sequence[int], if_any: bytes, otherwise: bytes) -> bytes:
    """Return code that compares what is loaded; both outcomes are one instruction each."""
    count = len(values)
    tests = [_instruction(_EQUAL, count - at, 0, value & 0xFFFFFFFF) for at, value in enumerate(values)]
    return b"".join(tests) + otherwise + if_any


def allow_if_any(argument: int, values: Sequence[int], otherwise: bytes) -> bytes:
    """Allow the call when an argument is one of up to 255 values."""
    return _argument(argument) + _compare(values, ALLOW, otherwise)


def refuse_if_any(argument: int, values: Sequence[int], refusal: bytes) -> bytes:
    """Refuse the call when an argument is one of up to 255 values."""
    return _argument(argument) + _compare(values, refusal, ALLOW)


def allow_if_bits(argument: int, mask: int, bits: int, otherwise: bytes) -> bytes:
    """Allow the call when an argument's bits under a mask are these."""
    return _argument(argument) + _instruction(_AND, 0, 0, mask) + _compare([bits], ALLOW, otherwise)


def refuse_if_bits(argument: int, mask: int, bits: int, refusal: bytes) -> bytes:
    """Refuse the call when an argument's bits under a mask are these."""
    return _argument(argument) + _instruction(_AND, 0, 0, mask) + _compare([bits], refusal, ALLOW)


def tree(leaves: Dict[int, bytes], last: int, beyond: bytes, also: Iterable[Tuple[int, int]] = ()) -> bytes:
    """Return code that goes from a call's number to its leaf.

    Numbers up to `last` without a leaf are allowed, and so are the ranges `also` (first, last); all others get `beyond`.
    """
    spans: List[Tuple[int, bytes]] = []
    free, latest = 0, b""
    for number in sorted(leaves):
        if number > free and latest != ALLOW:
            spans.append((free, ALLOW))
            latest = ALLOW
        code = leaves[number]
        if code != latest:
            spans.append((number, code))
            latest = code
        free = number + 1
    spans += [(free, ALLOW)] if free <= last else []
    spans.append((last + 1, beyond))
    for first, end in sorted(also):
        spans += [(first, ALLOW), (end + 1, beyond)]
    return _split(spans, 0, len(spans))


def _split(spans: List[Tuple[int, bytes]], low: int, high: int) -> bytes:
    """Return code for the spans from `low` up to `high`, halving: eight comparisons where a list would take a hundred."""
    if high - low == 1:
        return spans[low][1]
    middle = (low + high) // 2
    below, above = _split(spans, low, middle), _split(spans, middle, high)
    distance, limit = len(below) // SIZE, spans[middle][0]
    if distance <= 255:
        return _instruction(_AT_LEAST, distance, 0, limit) + below + above
    return _instruction(_AT_LEAST, 0, 1, limit) + _instruction(_JUMP, 0, 0, distance) + below + above


def assemble(audit_arch: int, body: bytes) -> bytes:
    """Return the program: a call by way of another machine's interface ends the process, all else is for `body`.

    Raises ValueError when it is longer than the kernel takes.
    """
    begin = _instruction(_LOAD, 0, 0, _MACHINE) + _instruction(_EQUAL, 1, 0, audit_arch) + KILL
    program = begin + _instruction(_LOAD, 0, 0, _NUMBER) + body
    if len(program) > MAX_INSTRUCTIONS * SIZE:
        raise ValueError("%d instructions, and the kernel takes %d" % (len(program) // SIZE, MAX_INSTRUCTIONS))
    return program
