"""Sets resource limits and the OOM score of the calling process, and drops root's capabilities."""

import os
import struct
from typing import List, Tuple

from .kernel import Kernel, Machine, error_name
from .syscalls import called
from .values import Part, Policy

_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
# These two stay, so that root can still open a release that another user owns, or a group's device file.
_RETAINED = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def _threads_now() -> int:
    """Return the number of threads of the whole system; 0 when it is unavailable."""
    try:
        opened = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(opened, 200).split()[3].split(b"/")[1])
        finally:
            os.close(opened)
    except (OSError, ValueError, IndexError):
        return 0


def limit(policy: Policy) -> Part:
    """Set the resource limits, soft and hard; a tighter existing limit stays."""
    try:
        import resource
    except ImportError:
        return Part("limits", False, "this Python has no module `resource`")
    threads = _threads_now()
    wanted: List[Tuple[str, int, int]] = [
        ("core", resource.RLIMIT_CORE, 0),
        ("file size", resource.RLIMIT_FSIZE, policy.file_bytes),
        ("open files", resource.RLIMIT_NOFILE, policy.open_files),
    ]
    if policy.data_bytes:
        wanted.append(("data", resource.RLIMIT_DATA, policy.data_bytes))
    if policy.address_space_bytes:
        wanted.append(("address space", resource.RLIMIT_AS, policy.address_space_bytes))
    if threads:
        # Linux counts all threads of the user.  A bound above all threads of the system cannot be too low for what runs now.
        wanted.append(("threads", resource.RLIMIT_NPROC, threads + policy.more_threads))
    refused = []
    for name, which, value in wanted:
        try:
            hard = resource.getrlimit(which)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (value, value))
        except (OSError, ValueError) as error:
            refused.append("%s (%s)" % (name, error))
    if refused:
        return Part("limits", False, "not set: %s" % ", ".join(refused))
    return Part("limits", True, ", ".join("%s %d" % (name, value) for name, _, value in wanted))


def raise_oom_score(policy: Policy) -> Part:
    """Have the kernel end this process first when memory runs out; a higher existing score stays."""
    try:
        opened = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            score = max(int(os.read(opened, 20)), policy.oom_score_adj)
            os.pwrite(opened, b"%d" % score, 0)
        finally:
            os.close(opened)
    except (OSError, ValueError) as error:
        return Part("oom_score_adj", False, "not set: %s" % error)
    return Part("oom_score_adj", True, "%d" % score)


def drop_capabilities(kernel: Kernel, machine: Machine) -> Part:
    """Drop all capabilities except those to open files.  Processes that are not root's usually have none."""
    found = called(machine.column)
    header = struct.pack("@Ii", _CAPABILITY_VERSION, 0)
    sets = kernel.words(6)  # effective, permitted, inheritable: the lower 32 of each, then the upper 32
    result = kernel.call(found["capget"], header, sets)
    if result < 0:
        return Part("capabilities", False, "cannot be read (%s)" % error_name(result))
    if not (sets[1] | sets[4] << 32) & ~_RETAINED:
        return Part("capabilities", True, "none to drop")
    result = kernel.call(
        found["capset"], header, struct.pack("@6I", sets[0] & _RETAINED, sets[1] & _RETAINED, 0, 0, 0, 0)
    )
    if result < 0:
        return Part("capabilities", False, "cannot be dropped (%s)" % error_name(result))
    return Part("capabilities", True, "dropped, except to open files")
