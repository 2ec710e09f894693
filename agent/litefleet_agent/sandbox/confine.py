"""Confines the calling process as far as this kernel can, permanently.  Linux only; never raises, reports what is missing.

Call it before anything untrusted is loaded and before further threads start, but after PR_SET_PDEATHSIG is set: that cannot be
changed afterwards.
"""

import os
import time
from typing import Callable, List, Optional, Tuple

from . import landlock, seccomp
from .kernel import Kernel, Machine, error_name, own_machine
from .limits import drop_capabilities, limit, raise_oom_score
from .values import Confinement, Part, Policy, SandboxSupport

_PR_SET_NO_NEW_PRIVS = 38


def confine(policy: Policy) -> Confinement:
    """Confine this process and return what is in force and what is missing; none of it can be undone."""
    begun = time.perf_counter()
    parts = [_try("limits", lambda: limit(policy)), _try("oom_score_adj", lambda: raise_oom_score(policy))]
    kernel, reason = _kernel()
    abi, filtered = 0, False
    if kernel is None:
        parts += [Part(name, False, reason) for name in ("capabilities", "no_new_privs", "landlock", "seccomp")]
    else:
        abi, filtered = _restrict(kernel, policy, parts)
    return Confinement(policy, tuple(parts), abi, filtered, time.perf_counter() - begun)


def _try(name: str, work: Callable[[], Part]) -> Part:
    """Apply one part; an exception becomes that part's reason, since a model must never fail because of its sandbox."""
    try:
        return work()
    except Exception as error:
        return Part(name, False, "%s: %s" % (type(error).__name__, error))


def _kernel() -> Tuple[Optional[Kernel], str]:
    try:
        return Kernel(), ""
    except (ImportError, OSError, AttributeError, MemoryError) as error:
        return None, "this Python cannot call the C library (%s)" % error


def _restrict(kernel: Kernel, policy: Policy, parts: List[Part]) -> Tuple[int, bool]:
    """Apply Landlock and then seccomp, whose filter refuses the system calls that Landlock needs."""
    machine = own_machine()
    if machine is None:
        reason = "the system call numbers of %s are unknown" % os.uname().machine
        parts += [Part(name, False, reason) for name in ("capabilities", "landlock", "seccomp")]
        return 0, False
    parts.append(_try("capabilities", lambda: drop_capabilities(kernel, machine)))
    parts.append(_try("no_new_privs", lambda: _no_new_privs(kernel)))
    ruled = _try("landlock", lambda: _landlock(kernel, policy))
    abi = landlock.abi_of(kernel) if ruled.on else 0  # before the filter, which refuses the question
    filtered = _try("seccomp", lambda: _seccomp(kernel, machine, policy))
    parts += [ruled, filtered]
    others = _other_threads()
    if others and 0 < abi < 8:
        parts.append(Part("threads", False, "Landlock does not cover %d that were already running" % others))
    return abi, filtered.on


def _no_new_privs(kernel: Kernel) -> Part:
    result = kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return Part("no_new_privs", result == 0, "" if result == 0 else "refused (%s)" % error_name(result))


def _landlock(kernel: Kernel, policy: Policy) -> Part:
    applied = landlock.apply(kernel, policy)
    return Part("landlock", applied.abi > 0, applied.detail)


def _seccomp(kernel: Kernel, machine: Machine, policy: Policy) -> Part:
    program = seccomp.filter_program(
        machine, os.getpid(), policy.writes_nothing, bool(policy.devices), bool(policy.data_bytes)
    )
    installed = seccomp.install(kernel, machine, program)
    return Part("seccomp", installed.on, installed.detail)


def _other_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except OSError:
        return 0


def describe_kernel() -> SandboxSupport:
    """Return what `confine` would get from this kernel; nothing is applied."""
    kernel, reason = _kernel()
    machine = own_machine()
    if kernel is not None and machine is None:
        reason = "the system call numbers of %s are unknown" % os.uname().machine
    if kernel is None or machine is None:
        return SandboxSupport(machine.name if machine else "", 0, reason, False, reason)
    abi = landlock.abi_of(kernel)
    why_not = seccomp.why_unsupported(kernel)
    return SandboxSupport(
        machine.name, max(0, abi), landlock.why_unavailable(abi) if abi <= 0 else "", not why_not, why_not
    )
