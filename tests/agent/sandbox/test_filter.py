"""The seccomp filter of each architecture, asked call by call: what is refused, what stays, and what no table knows."""

from __future__ import annotations

import errno
import struct

import pytest
from litefleet_agent.sandbox import bpf, syscalls
from litefleet_agent.sandbox.kernel import AARCH64, ARMV7, X86_64, Machine, own_machine
from litefleet_agent.sandbox.seccomp import filter_program

from tests.agent.sandbox.bpf_machine import ALLOWED, COLUMNS, KILLED, Call, decide, kernel_calls

MACHINES = (X86_64, AARCH64, ARMV7)
PID = 4711
UNSUPPORTED = errno.errorcode[errno.EOPNOTSUPP]  # it has two names

# What Python, glibc, musl, OpenMP and a model's runtime need: read from strace of real inference, and from their sources.
NEEDED = """
read write readv writev pread64 pwrite64 close fstat newfstatat lseek munmap mprotect mremap madvise brk futex exit exit_group
rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack getpid gettid getppid getuid clock_gettime clock_nanosleep nanosleep
sched_yield sched_getaffinity sched_setaffinity set_robust_list get_robust_list set_tid_address rseq getrandom prlimit64 uname
getdents64 readlinkat faccessat faccessat2 statx ppoll epoll_create1 epoll_ctl epoll_pwait eventfd2 pipe2 dup dup3
sendto recvfrom sendmsg recvmsg getsockname getpeername getsockopt shutdown fsync fdatasync ftruncate getcwd
mlock munlock mbind get_mempolicy set_mempolicy membarrier sysinfo getrusage times getpriority fadvise64
"""

# Families that must be closed wherever a machine has them, by their start: the whole family, whatever it is called.
CLOSED = (
    "exec",
    "ptrace",
    "process_",
    "pidfd_",
    "io_uring_",
    "landlock_",
    "mount",
    "umount",
    "fsmount",
    "fsopen",
    "fsconfig",
)
CLOSED += (
    "kexec_",
    "init_module",
    "finit_module",
    "delete_module",
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "perf_event",
)
CLOSED += (
    "userfaultfd",
    "unshare",
    "setns",
    "chroot",
    "pivot_root",
    "swapo",
    "reboot",
    "socket",
    "connect",
    "bind",
    "listen",
)
CLOSED += (
    "accept",
    "shm",
    "sem",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "memfd_",
    "fanotify_",
    "chmod",
)
CLOSED += (
    "fchmod",
    "chown",
    "fchown",
    "lchown",
    "setuid",
    "setgid",
    "setre",
    "setfs",
    "setgroups",
    "setxattr",
    "lsetxattr",
)
CLOSED += (
    "fsetxattr",
    "removexattr",
    "link",
    "symlink",
    "mknod",
    "utime",
    "futimesat",
    "truncate",
    "fork",
    "vfork",
    "setsid",
)
CLOSED += (
    "vmsplice",
    "splice",
    "tee",
    "move_",
    "open_tree",
    "open_by_handle",
    "name_to_handle",
    "clock_settime",
    "clock_adj",
)
CLOSED += (
    "settimeofday",
    "adjtimex",
    "sethostname",
    "setdomainname",
    "ioperm",
    "iopl",
    "modify_ldt",
    "acct",
    "quotactl",
)
CLOSED += (
    "vhangup",
    "syslog",
    "setpgid",
    "kcmp",
    "migrate_pages",
    "ioprio_set",
    "seccomp",
    "capset",
    "setsockopt",
    "statmount",
)
OPEN = ("shmdt",)  # ends what could not begin

MODES = [
    {},
    {"no_writes": True},
    {"accelerator": True},
    {"private_memory": False},
    {"no_writes": True, "private_memory": False},
]


def ask(machine: Machine, name: str, *arguments: int, **mode: bool) -> str:
    """Return what the filter of a machine makes of a call."""
    program = filter_program(machine, PID, **mode)
    return decide(program, Call(kernel_calls(machine.name)[name], machine.audit_arch, arguments))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_numbers_are_the_kernels(machine: Machine) -> None:
    tables = (syscalls.DENIED, syscalls.ABSENT, syscalls.UNSUPPORTED, syscalls.FOLDER_CHANGES, syscalls.EXAMINED)
    kernels = kernel_calls(machine.name)
    for table in tables:
        ours = syscalls.numbers(table, machine.column)
        every = {name for other in COLUMNS.values() for name in syscalls.numbers(table, other)}
        assert ours == {name: kernels[name] for name in every if name in kernels}
        assert sorted(syscalls.values(table, machine.column)) == sorted(set(ours.values()))
    called = syscalls.called(machine.column)
    assert called == {name: kernels[name] for name in called}
    assert set(called) == {"capget", "capset", "seccomp"}


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_what_is_closed_and_what_is_needed(machine: Machine, mode: dict[str, bool]) -> None:
    kernels = kernel_calls(machine.name)
    program = filter_program(machine, PID, **mode)
    answers = {name: decide(program, Call(number, machine.audit_arch, (0,) * 6)) for name, number in kernels.items()}
    for name in (name for name in kernels if name.startswith(CLOSED) and name not in OPEN):
        assert answers[name] == "EPERM", name
    for name in (name for name in NEEDED.split() if name in kernels):
        assert answers[name] == ALLOWED, name
    assert answers["clone3"] == answers["openat2"] == "ENOSYS"
    assert answers["fallocate"] == UNSUPPORTED
    folder = {name: answers[name] for name in ("mkdirat", "renameat2", "unlinkat")}
    assert set(folder.values()) == {"EACCES" if mode.get("no_writes") else ALLOWED}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_number_is_answered_as_its_table_says(machine: Machine) -> None:
    """All numbers up to 1,100 and the odd ones: no jump of the tree goes wrong."""
    program = filter_program(machine, PID)
    column = machine.column
    denied, absent = set(syscalls.values(syscalls.DENIED, column)), set(syscalls.values(syscalls.ABSENT, column))
    examined, other = (
        set(syscalls.values(syscalls.EXAMINED, column)),
        set(syscalls.values(syscalls.UNSUPPORTED, column)),
    )
    private = set(range(0xF0001, 0xF0007)) if machine is ARMV7 else set()
    for number in [*range(1100), *range(0xEFFF0, 0xF0020), 0x40000000, 0x40000027, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]:
        answer = decide(program, Call(number, machine.audit_arch))
        if number in private:
            assert answer == ALLOWED
        elif number > syscalls.LAST_KNOWN or number in absent:
            assert answer == "ENOSYS", number
        elif number in denied:
            assert answer == "EPERM", number
        elif number in other:
            assert answer == UNSUPPORTED, number
        elif number not in examined:
            assert answer == ALLOWED, number


def test_another_machines_calls_end_the_process() -> None:
    i386, x32 = 0x40000003, 0x40000000
    for machine in MACHINES:
        program = filter_program(machine, PID)
        for arch in (i386, *(m.audit_arch for m in MACHINES if m is not machine)):
            assert decide(program, Call(20, arch)) == KILLED
    # x32 is the same architecture with a bit in the number: it does not exist.
    assert decide(filter_program(X86_64, PID), Call(x32 | 59, X86_64.audit_arch)) == "ENOSYS"
    assert decide(filter_program(X86_64, PID), Call(x32 | 39, X86_64.audit_arch)) == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_threads_may_start_and_processes_may_not(machine: Machine) -> None:
    glibc_thread, musl_thread, fork, vfork = 0x3D0F00, 0x7D0F00, 0x1200011, 0x4111
    assert ask(machine, "clone", glibc_thread) == ALLOWED
    assert ask(machine, "clone", musl_thread) == ALLOWED
    assert ask(machine, "clone", 1 << 32 | glibc_thread) == ALLOWED  # the kernel takes the lower half
    for flags in (fork, vfork, 0, 0x11):
        assert ask(machine, "clone", flags) == "EPERM"
    for namespace in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(machine, "clone", glibc_thread | namespace) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_signals_and_limits_reach_this_process_only(machine: Machine) -> None:
    for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        assert ask(machine, name, PID, PID, 6) == ALLOWED
        for other in (1, PID + 1, 0, -1, -PID):
            assert ask(machine, name, other, PID, 9) == "EPERM", (name, other)
    for name in ("prlimit64", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        assert [ask(machine, name, pid) for pid in (0, PID, 1)] == [ALLOWED, ALLOWED, "EPERM"]
    assert [ask(machine, "setpriority", 0, who) for who in (0, 1)] == [ALLOWED, "EPERM"]
    fcntls = [name for name in ("fcntl", "fcntl64") if name in kernel_calls(machine.name)]
    for name in fcntls:
        assert [ask(machine, name, 3, command) for command in (1, 2, 3, 4, 1030)] == [ALLOWED] * 5
        assert [ask(machine, name, 3, command) for command in (8, 10, 15)] == ["EPERM"] * 3


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_opening_is_decided_by_its_flags(machine: Machine) -> None:
    read, write, update, create, truncate, append, temporary = 0, 1, 2, 0o100, 0o1000, 0o2000, 0o20200000
    openers = [("openat", (0xFFFFFF9C, 0))] + ([("open", (0,))] if "open" in kernel_calls(machine.name) else [])
    for name, before in openers:
        for flags in (read, 0o2000000, 0o2100000):  # O_CLOEXEC, and O_LARGEFILE
            assert ask(machine, name, *before, flags) == ALLOWED
            assert ask(machine, name, *before, flags, no_writes=True) == ALLOWED
        assert ask(machine, name, *before, read | truncate) == "EACCES"  # Landlock sees no writing in it before ABI 3
        for flags in (write, update, write | create | truncate, read | create, write | append, update | temporary, 3):
            assert ask(machine, name, *before, flags) == ALLOWED
            assert ask(machine, name, *before, flags, no_writes=True) == "EACCES"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_other_arguments(machine: Machine) -> None:
    mapping = "mmap2" if machine is ARMV7 else "mmap"
    private, shared, shared_validate = 0x22, 0x21, 0x23
    assert ask(machine, mapping, 0, 4096, 3, private) == ALLOWED
    assert ask(machine, mapping, 0, 4096, 1, 1) == ALLOWED  # a file, shared
    assert ask(machine, mapping, 0, 4096, 3, shared) == ask(machine, mapping, 0, 4096, 3, shared_validate) == "EPERM"
    assert ask(machine, mapping, 0, 4096, 3, shared, private_memory=False) == ALLOWED
    assert [ask(machine, "prctl", option) for option in (15, 16, 38, 0x53564D41)] == [ALLOWED] * 4
    assert [ask(machine, "prctl", option) for option in (1, 4, 22, 36, 0x59616D61)] == ["EPERM"] * 5
    assert [ask(machine, "ioctl", 1, command) for command in (0x5401, 0x5421, 0x5451)] == [ALLOWED] * 3
    mali, typing, owner = 0xC0108000, 0x5412, 0x8901
    assert [ask(machine, "ioctl", 1, command) for command in (mali, typing, owner)] == ["EPERM"] * 3
    with_device = [ask(machine, "ioctl", 1, command, accelerator=True) for command in (mali, typing, owner)]
    assert with_device == [ALLOWED, "EPERM", "EPERM"]
    assert [ask(machine, "personality", value) for value in (0xFFFFFFFF, 0, 0x40000)] == [ALLOWED, "EPERM", "EPERM"]


def test_the_machine_is_the_processs_not_the_kernels() -> None:
    assert own_machine("x86_64", 8) is X86_64
    assert own_machine("i686", 8) is X86_64  # setarch
    assert own_machine("aarch64", 8) is AARCH64
    assert own_machine("aarch64", 4) is ARMV7  # a 32-bit system on a 64-bit kernel, as Raspberry Pi OS had it for years
    assert own_machine("armv7l", 4) is own_machine("armv8l", 4) is own_machine("armv6l", 4) is ARMV7
    for uname, size in (("x86_64", 4), ("i686", 4), ("riscv64", 8), ("mips", 4), ("aarch64_be", 8)):
        assert own_machine(uname, size) is None


@pytest.mark.parametrize("count", [1, 2, 3, 100, 257, 380])
def test_a_tree_of_any_size_finds_its_leaves(count: int) -> None:
    """Leaves of different lengths; from some size on jumps are longer than an instruction's own 255."""
    leaves = {3 * n: bpf.refuse_if_any(0, range(n % 9), bpf.fail(1 + n % 30)) for n in range(count)}
    last = 3 * count
    program = bpf.assemble(7, bpf.tree(leaves, last, bpf.fail(38), [(5000, 5002)]))
    for n in range(count):
        refused = n % 9 > 0
        wanted = decide(bpf.fail(1 + n % 30), Call(0, 0)) if refused else ALLOWED
        assert decide(program, Call(3 * n, 7)) == wanted
        assert decide(program, Call(3 * n, 7, (99,))) == ALLOWED
        assert decide(program, Call(3 * n + 1, 7)) == ALLOWED
    assert [decide(program, Call(n, 7)) for n in (4999, 5000, 5002, 5003)] == ["ENOSYS", ALLOWED, ALLOWED, "ENOSYS"]
    assert decide(program, Call(last + 1, 7)) == "ENOSYS"


def test_a_program_that_the_kernel_would_refuse_is_not_made() -> None:
    with pytest.raises(ValueError, match="4100 instructions, and the kernel takes 4096"):
        bpf.assemble(7, bpf.ALLOW * 4096)
    assert len(filter_program(ARMV7, PID, no_writes=True, accelerator=True)) // struct.calcsize("HBBI") < 600
