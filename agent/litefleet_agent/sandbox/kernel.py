"""System calls by number through the C library, and the machine whose numbers they are."""

import errno
import os
import struct
import sys
from typing import Any, NamedTuple, Optional, Union

Argument = Union[int, bytes, None, Any]  # Any: what Kernel.words returns


class Machine(NamedTuple):
    """A system call interface.  `audit_arch` is AUDIT_ARCH_* of linux/audit.h, as seccomp reports it."""

    name: str
    audit_arch: int
    column: int  # of the table of numbers in syscalls.py


X86_64 = Machine("x86_64", 0xC000003E, 0)
AARCH64 = Machine("aarch64", 0xC00000B7, 1)
ARMV7 = Machine("armv7", 0x40000028, 2)  # every 32-bit ARM with the EABI


def own_machine(uname: str = "", pointer_bytes: int = struct.calcsize("P")) -> Optional[Machine]:
    """Return the interface that this process uses; None when it is unknown.

    The pointer's size decides: a 64-bit kernel may run a 32-bit Python, and `setarch` may rename the machine.
    """
    uname = uname or os.uname().machine
    if sys.byteorder != "little":
        return None
    if pointer_bytes == 8:
        return {"x86_64": X86_64, "i686": X86_64, "aarch64": AARCH64, "armv8l": AARCH64}.get(uname)
    if pointer_bytes == 4 and (uname == "aarch64" or uname.startswith(("armv6", "armv7", "armv8"))):
        return ARMV7
    return None


class Kernel:
    """The kernel, by way of libc's `syscall` and `prctl`.  Raises ImportError or OSError where ctypes or libc is missing."""

    def __init__(self) -> None:
        import ctypes  # here: agents that confine nothing do not pay for it, and a minimal Python may lack it

        self._ctypes = ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        self._syscall: Any = libc.syscall
        self._syscall.restype = ctypes.c_long
        # A void pointer takes integers, bytes and None, and fills a whole register: a plain int would leave its upper half.
        self._syscall.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 5
        self._prctl: Any = libc.prctl
        self._prctl.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 4

    def call(self, number: int, *arguments: Argument) -> int:
        """Make a system call with up to five arguments; return its result, or the negative error number."""
        return self._result(self._syscall(number, *(arguments + (None,) * (5 - len(arguments)))))

    def prctl(self, option: int, *arguments: Argument) -> int:
        """Call prctl; return its result, or the negative error number."""
        return self._result(self._prctl(option, *(arguments + (None,) * (4 - len(arguments)))))

    def _result(self, result: int) -> int:
        return -self._ctypes.get_errno() if result == -1 else result

    def words(self, count: int) -> Any:
        """Return room for `count` 32-bit numbers, to be filled by the kernel and read as a sequence."""
        return (self._ctypes.c_uint32 * count)()

    def address_of(self, data: bytes) -> int:
        """Return the address of the bytes themselves; the caller must hold `data` for as long as the kernel reads them."""
        return int(self._ctypes.cast(self._ctypes.c_char_p(data), self._ctypes.c_void_p).value or 0)


def error_name(result: int) -> str:
    """Return "EPERM" for -1, "error 9999" for one without a name."""
    return errno.errorcode.get(-result, "error %d" % -result)
