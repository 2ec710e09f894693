"""Applies a Landlock ruleset: the files and folders that a process can still reach.  Anything without a rule is refused.

Rights by ABI, from linux/landlock.h: 1 is Linux 5.13, 2 is 5.19 (REFER), 3 is 6.2 (TRUNCATE), 4 is 6.7 (TCP), 5 is 6.10
(IOCTL_DEV), 6 is 6.12 (abstract sockets, signals), 7 is 6.15 (logging), 8 is 7.0 (all threads at once), 9 is 7.1 (named sockets),
10 is 7.2 (UDP).
"""

import errno
import os
import struct
import sys
from typing import Iterable, List, NamedTuple, Tuple

from .kernel import Kernel, error_name
from .values import Policy

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all supported machines
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
_TSYNC = 1 << 3  # LANDLOCK_RESTRICT_SELF_TSYNC

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

_READ = _READ_FILE | _READ_DIR  # without EXECUTE: libraries are mapped all the same, programs do not start
# No links, pipes, sockets or device files: the parent reads this folder and would follow or block on them.
_WORK = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # other rights on a file are EINVAL

# What the loader, libc, OpenMP, OpenCL and Python read.  Not home folders, /var, /tmp, /run, /srv, /mnt or all of /etc.
_SYSTEM_FOLDERS = (
    "/usr", "/lib", "/lib64", "/opt", "/proc", "/sys", "/vendor", "/system", "/apex", "/nix/store", "/gnu/store",
    "/run/opengl-driver", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/OpenCL", "/etc/vulkan",
)  # fmt: skip
_SYSTEM_FILES = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.preload", "/etc/localtime", "/etc/nsswitch.conf",
    "/etc/passwd", "/etc/group", "/etc/os-release", "/dev/zero", "/dev/urandom",
)  # fmt: skip
_SINK = "/dev/null"


class Applied(NamedTuple):
    """The ABI that was applied (0 = none), and details or the reason."""

    abi: int
    detail: str


def handled_rights(abi: int) -> Tuple[int, int, int]:
    """Return the rights that an ABI can refuse, as bits: files, network, scopes."""
    files = (1 << 13) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV), (9, 1 << 16)):
        files |= right if abi >= since else 0
    network = (0b11 if abi >= 4 else 0) | (0b1100 if abi >= 10 else 0)
    return files, network, 0b11 if abi >= 6 else 0


def abi_of(kernel: Kernel) -> int:
    """Return the ABI of this kernel, or the negative error number where there is none."""
    return kernel.call(_CREATE_RULESET, None, 0, _VERSION)


def why_unavailable(result: int) -> str:
    """Return a sentence for a negative error number from `abi_of`."""
    if result == -errno.ENOSYS:
        return (
            "this kernel does not support it (ENOSYS); Linux does from 5.13 on, if built with CONFIG_SECURITY_LANDLOCK"
        )
    if result == -errno.EOPNOTSUPP:
        return (
            "this kernel supports it, but it is disabled (EOPNOTSUPP); enable it by the boot parameter lsm=landlock,..."
        )
    if result == -errno.EPERM:
        return (
            "refused (EPERM) by a filter around this process; in a systemd unit, add "
            "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self"
        )
    return "refused (%s)" % error_name(result)


def _interpreter() -> List[str]:
    """Return the folders of this Python's modules and libraries, and those of LD_LIBRARY_PATH."""
    found = [sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix] + sys.path
    found += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    folders: List[str] = []
    for path in found:  # not the root, relative paths, or paths inside a folder that is already listed
        if path[:1] == "/" and path.strip("/") and not (path + "/").startswith(tuple(top + "/" for top in folders)):
            folders.append(path)
    return folders


def _rules(policy: Policy) -> Iterable[Tuple[str, int]]:
    if policy.read_everything:
        yield "/", _READ
    else:
        for path in _SYSTEM_FILES:
            yield path, _READ_FILE
        for path in dict.fromkeys(_SYSTEM_FOLDERS + tuple(_interpreter()) + policy.reads):
            yield path, _READ
    yield _SINK, _READ_FILE | _WRITE_FILE | _TRUNCATE
    for path in policy.devices:
        yield path, _DEVICE
    if policy.work:
        yield policy.work, _WORK


def apply(kernel: Kernel, policy: Policy) -> Applied:
    """Apply a ruleset to this thread and those it starts; from ABI 8 on to all threads.  no_new_privs must be set."""
    abi = abi_of(kernel)
    if abi <= 0:
        return Applied(0, why_unavailable(abi))
    handled = handled_rights(abi)
    attributes = struct.pack("@QQQ", *handled)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = kernel.call(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return Applied(0, "cannot create a ruleset (%s)" % error_name(ruleset))
    try:
        for path, rights in _rules(policy):
            _allow(kernel, ruleset, path, rights & handled[0])
        result = kernel.call(_RESTRICT_SELF, ruleset, _TSYNC if abi >= 8 else 0)
    finally:
        os.close(ruleset)
    if result < 0:
        return Applied(0, "refused (%s)" % error_name(result))
    return Applied(abi, "ABI %d" % abi)


def _allow(kernel: Kernel, ruleset: int, path: str, rights: int) -> None:
    """Allow rights beneath a path; one that cannot be opened grants nothing."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    result = kernel.call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("@Qi", rights, opened), 0)
    if result == -errno.EINVAL:  # not a folder
        kernel.call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("@Qi", rights & _OF_A_FILE, opened), 0)
    os.close(opened)
