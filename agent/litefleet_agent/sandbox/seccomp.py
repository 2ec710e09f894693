"""The seccomp filter: which system calls a process makes no more.

It is a list of refusals, not of permissions: which harmless calls a runtime, its OpenMP or an accelerator's driver makes
differs too much.  What is newer than the list does not exist for the process, so the list does not grow holes.
"""

import errno
import struct
from typing import Dict, List, NamedTuple

from .bpf import SIZE, allow_if_any, allow_if_bits, assemble, fail, refuse_if_any, refuse_if_bits, tree
from .kernel import Kernel, Machine, error_name
from .syscalls import ABSENT, DENIED, EXAMINED, FOLDER_CHANGES, LAST_KNOWN, UNSUPPORTED, called, numbers, values

__all__ = ["Installed", "filter_program", "install", "why_unsupported"]

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SET_MODE_FILTER = 1
_TSYNC, _SPEC_ALLOW = 1, 4  # SECCOMP_FILTER_FLAG_*

_EPERM, _EACCES, _ENOSYS = fail(errno.EPERM), fail(errno.EACCES), fail(errno.ENOSYS)

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_O_ACCMODE, _O_CREAT, _O_TRUNC = 0x3, 0x40, 0x200  # alike on the three machines
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_PERSONALITY_QUERY = 0xFFFFFFFF

# fcntl: with these, the kernel would send a signal of one's choice to a process of one's choice.
_FCNTL_SIGNALS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
# prctl: what would undo the confinement, outlive the parent, or open this process to others.
_PRCTL_REFUSED = (
    1,  # PR_SET_PDEATHSIG
    4,  # PR_SET_DUMPABLE
    8,  # PR_SET_KEEPCAPS
    22,  # PR_SET_SECCOMP
    24,  # PR_CAPBSET_DROP
    28,  # PR_SET_SECUREBITS
    35,  # PR_SET_MM
    36,  # PR_SET_CHILD_SUBREAPER
    47,  # PR_CAP_AMBIENT
    53,  # PR_SET_SPECULATION_CTRL
    59,  # PR_SET_SYSCALL_USER_DISPATCH
    62,  # PR_SCHED_CORE
    0x59616D61,  # PR_SET_PTRACER
)
# ioctl without an accelerator: what libc and Python themselves ask.
_IOCTL_ALLOWED = (
    0x5401,  # TCGETS: isatty
    0x5413,  # TIOCGWINSZ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
# ioctl with an accelerator, whose driver has commands of its own: all but what is known to reach beyond the device.
_IOCTL_REFUSED = (
    0x540E,  # TIOCSCTTY
    0x5412,  # TIOCSTI: types into a terminal
    0x541C,  # TIOCLINUX
    0x5452,  # FIOASYNC
    0x8901,  # FIOSETOWN
    0x8902,  # SIOCSPGRP
    0x40086602,  # FS_IOC_SETFLAGS of a 64-bit process
    0x40046602,  # FS_IOC_SETFLAGS of a 32-bit process
    0x401C5820,  # FS_IOC_FSSETXATTR
    0x40049409,  # FICLONE
)
_ARM_PRIVATE = (0xF0001, 0xF0006)  # breakpoint, cacheflush, usr26, usr32, set_tls, get_tls: no number of the table


class Installed(NamedTuple):
    """Whether the filter is in force, and how, or why not."""

    on: bool
    detail: str


def _leaves(machine: Machine, pid: int, no_writes: bool, accelerator: bool, private_memory: bool) -> Dict[int, bytes]:
    column = machine.column
    leaves = dict.fromkeys(values(DENIED, column), _EPERM)
    leaves.update(dict.fromkeys(values(ABSENT, column), _ENOSYS))
    leaves.update(dict.fromkeys(values(UNSUPPORTED, column), fail(errno.EOPNOTSUPP)))
    if no_writes:
        leaves.update(dict.fromkeys(values(FOLDER_CHANGES, column), _EACCES))
    rules = _rules(pid, no_writes, accelerator)
    if not private_memory:
        del rules["mmap"], rules["mmap2"]
    for name, number in numbers(EXAMINED, column).items():
        if name in rules:
            leaves[number] = rules[name]
    return leaves


def _rules(pid: int, no_writes: bool, accelerator: bool) -> Dict[str, bytes]:
    """Return what decides about each examined call."""
    itself = allow_if_any(0, [pid], _EPERM)
    itself_or_zero = allow_if_any(0, [0, pid], _EPERM)
    fcntl = refuse_if_any(1, _FCNTL_SIGNALS, _EPERM)
    # Shared anonymous memory is private memory that RLIMIT_DATA does not count.
    mmap = refuse_if_bits(3, _MAP_SHARED | _MAP_ANONYMOUS, _MAP_SHARED | _MAP_ANONYMOUS, _EPERM)
    ioctl = refuse_if_any(1, _IOCTL_REFUSED, _EPERM) if accelerator else allow_if_any(1, _IOCTL_ALLOWED, _EPERM)
    return {
        "clone": allow_if_bits(0, _CLONE_THREAD | _CLONE_NEW, _CLONE_THREAD, _EPERM),
        "prctl": refuse_if_any(0, _PRCTL_REFUSED, _EPERM),
        "ioctl": ioctl,
        "fcntl": fcntl,
        "fcntl64": fcntl,
        "open": _opening(1, no_writes),
        "openat": _opening(2, no_writes),
        "mmap": mmap,
        "mmap2": mmap,
        "kill": itself,
        "tkill": itself,  # one's main thread only: which other numbers are one's own threads cannot be told here
        "tgkill": itself,
        "rt_sigqueueinfo": itself,
        "rt_tgsigqueueinfo": itself,
        "prlimit64": itself_or_zero,
        "setpriority": allow_if_any(1, [0], _EPERM),
        "sched_setscheduler": itself_or_zero,
        "sched_setparam": itself_or_zero,
        "sched_setattr": itself_or_zero,
        "personality": allow_if_any(0, [_PERSONALITY_QUERY], _EPERM),
    }


def _opening(flags: int, no_writes: bool) -> bytes:
    """Return what decides about open, whose flags are argument number `flags`."""
    if no_writes:
        return allow_if_bits(flags, _O_ACCMODE | _O_CREAT | _O_TRUNC, 0, _EACCES)
    # Opening to read and truncating at once is no writing for Landlock before ABI 3.
    return refuse_if_bits(flags, _O_ACCMODE | _O_TRUNC, _O_TRUNC, _EACCES)


def filter_program(
    machine: Machine, pid: int, no_writes: bool = False, accelerator: bool = False, private_memory: bool = True
) -> bytes:
    """Return the filter for process number `pid` of a machine, 8 bytes an instruction.

    `no_writes`: no file is opened for writing or changed in its folder.  `accelerator`: a driver's ioctl commands are let
    through.  `private_memory`: no shared anonymous memory, so that RLIMIT_DATA counts all that is taken.
    """
    leaves = _leaves(machine, pid, no_writes, accelerator, private_memory)
    also = [_ARM_PRIVATE] if machine.name == "armv7" else []
    return assemble(machine.audit_arch, tree(leaves, LAST_KNOWN, _ENOSYS, also))


def install(kernel: Kernel, machine: Machine, program: bytes) -> Installed:
    """Put a filter in force for all threads of this process, for good.  no_new_privs must be set."""
    described = struct.pack("@HP", len(program) // SIZE, kernel.address_of(program))
    number = called(machine.column)["seccomp"]
    tried: List[str] = []
    # SPEC_ALLOW (4.17): without it, kernels before 5.16 turn off speculation for the process, and inference gets slower.
    for flags in (_TSYNC | _SPEC_ALLOW, _TSYNC, _SPEC_ALLOW, 0):
        result = kernel.call(number, _SET_MODE_FILTER, flags, described)
        if result == 0:
            return Installed(True, machine.name + ("" if flags & _TSYNC else ", this thread only"))
        tried.append(error_name(result) if result < 0 else "thread %d has a filter of its own" % result)
        if result in (-errno.ENOSYS, -errno.EPERM):  # before 3.17; or a filter around this process
            break
    result = kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, described)
    if result == 0:
        return Installed(True, machine.name + ", this thread and those it starts")
    return Installed(False, _why(result) + " (seccomp: %s)" % ", ".join(dict.fromkeys(tried)))


def why_unsupported(kernel: Kernel) -> str:
    """Return why this kernel takes no filter, "" when it does; nothing is put in force."""
    result = kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None)  # it looks for the program before anything else
    return "" if result == -errno.EFAULT else _why(result)


def _why(result: int) -> str:
    name = error_name(result)
    if result in (-errno.EINVAL, -errno.ENOSYS):
        return "this kernel takes no seccomp filters (%s)" % name
    if result == -errno.EPERM:
        return "refused (EPERM) by a filter around this process, such as systemd's SystemCallFilter="
    return "refused (%s)" % name
