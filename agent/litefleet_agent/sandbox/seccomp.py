"""Builds and installs the seccomp filter: the system calls that a confined process can no longer make.

The filter lists refusals, not permissions: the harmless calls of runtimes, OpenMP and accelerator drivers differ too much.
Calls newer than the list are answered with ENOSYS, so a newer kernel adds no gap.
"""

import errno
import struct
from typing import Dict, List, NamedTuple

from .bpf import SIZE, allow_if_any, allow_if_bits, assemble, fail, refuse_if_any, refuse_if_bits, tree
from .kernel import Kernel, Machine, error_name
from .syscalls import ABSENT, DENIED, EXAMINED, FOLDER_CHANGES, LAST_KNOWN, UNSUPPORTED, called, numbers, values

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SET_MODE_FILTER = 1
_TSYNC, _SPEC_ALLOW = 1, 4  # SECCOMP_FILTER_FLAG_*

_EPERM, _EACCES, _ENOSYS = fail(errno.EPERM), fail(errno.EACCES), fail(errno.ENOSYS)

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_O_ACCMODE, _O_CREAT, _O_TRUNC = 0x3, 0x40, 0x200  # alike on the three machines
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_PERSONALITY_QUERY = 0xFFFFFFFF

# fcntl: with these, the kernel sends any signal to any process of the same user.
_FCNTL_SIGNALS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
# prctl: options that undo the confinement, let it outlive its parent, or open it to other processes.
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
# ioctl without an accelerator: the commands of libc and Python.
_IOCTL_ALLOWED = (
    0x5401,  # TCGETS: isatty
    0x5413,  # TIOCGWINSZ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
# ioctl with an accelerator, whose driver has its own commands: all except those known to reach beyond the device.
_IOCTL_REFUSED = (
    0x540E,  # TIOCSCTTY
    0x5412,  # TIOCSTI: inserts input into a terminal
    0x541C,  # TIOCLINUX
    0x5452,  # FIOASYNC
    0x8901,  # FIOSETOWN
    0x8902,  # SIOCSPGRP
    0x40086602,  # FS_IOC_SETFLAGS of a 64-bit process
    0x40046602,  # FS_IOC_SETFLAGS of a 32-bit process
    0x401C5820,  # FS_IOC_FSSETXATTR
    0x40049409,  # FICLONE
)
_ARM_PRIVATE = (0xF0001, 0xF0006)  # breakpoint, cacheflush, usr26, usr32, set_tls, get_tls: not in the table


class Installed(NamedTuple):
    """Whether the filter was installed, and details or the reason."""

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
    """Return the code for each examined call."""
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
        "tkill": itself,  # the main thread only: a filter cannot know the numbers of the other threads
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
    """Return the code for open or openat; `flags` is the index of its flags argument."""
    if no_writes:
        return allow_if_bits(flags, _O_ACCMODE | _O_CREAT | _O_TRUNC, 0, _EACCES)
    # Before ABI 3, Landlock does not treat O_RDONLY | O_TRUNC as writing.
    return refuse_if_bits(flags, _O_ACCMODE | _O_TRUNC, _O_TRUNC, _EACCES)


def filter_program(
    machine: Machine, pid: int, no_writes: bool = False, accelerator: bool = False, private_memory: bool = True
) -> bytes:
    """Return the filter for process number `pid` of a machine, 8 bytes an instruction.

    `no_writes`: no file can be opened for writing, created, renamed or deleted.  `accelerator`: a driver's ioctl commands are
    allowed.  `private_memory`: no shared anonymous memory, so that RLIMIT_DATA covers all anonymous memory.
    """
    leaves = _leaves(machine, pid, no_writes, accelerator, private_memory)
    also = [_ARM_PRIVATE] if machine.name == "armv7" else []
    return assemble(machine.audit_arch, tree(leaves, LAST_KNOWN, _ENOSYS, also))


def install(kernel: Kernel, machine: Machine, program: bytes) -> Installed:
    """Install a filter for all threads of this process, permanently.  no_new_privs must be set."""
    described = struct.pack("@HP", len(program) // SIZE, kernel.address_of(program))
    number = called(machine.column)["seccomp"]
    tried: List[str] = []
    # SPEC_ALLOW (4.17): without it, kernels before 5.16 disable speculation for the process, which slows inference.
    for flags in (_TSYNC | _SPEC_ALLOW, _TSYNC, _SPEC_ALLOW, 0):
        result = kernel.call(number, _SET_MODE_FILTER, flags, described)
        if result == 0:
            return Installed(True, machine.name + ("" if flags & _TSYNC else ", this thread only"))
        tried.append(error_name(result) if result < 0 else "thread %d has a different filter" % result)
        if result in (-errno.ENOSYS, -errno.EPERM):  # before 3.17; or a filter around this process
            break
    result = kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, described)
    if result == 0:
        return Installed(True, machine.name + ", this thread and those it starts")
    return Installed(False, _why(result) + " (seccomp: %s)" % ", ".join(dict.fromkeys(tried)))


def why_unsupported(kernel: Kernel) -> str:
    """Return why this kernel accepts no filter, "" when it does; nothing is installed."""
    result = kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None)  # it reads the program before any other check
    return "" if result == -errno.EFAULT else _why(result)


def _why(result: int) -> str:
    name = error_name(result)
    if result in (-errno.EINVAL, -errno.ENOSYS):
        return "this kernel does not support seccomp filters (%s)" % name
    if result == -errno.EPERM:
        return "refused (EPERM) by a filter around this process; in a systemd unit, add SystemCallFilter=seccomp"
    return "refused (%s)" % name
