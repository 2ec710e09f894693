"""Values of the sandbox: what a process may do, what was applied, what a kernel supports.  Makes no system calls."""

from typing import Any, Dict, NamedTuple, Tuple

_AS_USER = "as its user may"


class Policy(NamedTuple):
    """What one process may do from now on.  Paths are absolute; a missing path is skipped."""

    work: str = ""  # the one folder that may be written and read; "" = no file may be written at all
    reads: Tuple[str, ...] = ()  # files and folders to read, besides the system's libraries and the interpreter's own
    devices: Tuple[str, ...] = ()  # device files of an accelerator, such as /dev/mali0: read, write and ioctl
    read_everything: bool = False  # read whatever the user may read: for runtimes with libraries in unusual places
    data_bytes: int = 0  # private memory (RLIMIT_DATA); 0 = as it is
    address_space_bytes: int = 0  # all mappings, untouched ones too (RLIMIT_AS); 0 = as it is
    file_bytes: int = 1 << 30  # the size of any one file that is written (RLIMIT_FSIZE)
    open_files: int = 512  # descriptors (RLIMIT_NOFILE)
    more_threads: int = 512  # threads beyond those that the whole system has now (RLIMIT_NPROC; root is exempt)
    oom_score_adj: int = 500  # 0 to 1000: the higher, the earlier the kernel ends this process when memory runs out

    @property
    def writes_nothing(self) -> bool:
        """Whether every opening for writing can be refused: seccomp sees flags, not paths."""
        return not self.work and not self.devices


class Part(NamedTuple):
    """One part of a confinement: whether it was applied, and details or the reason."""

    name: str
    on: bool
    detail: str


class Confinement(NamedTuple):
    """What was applied to this process.  A missing part is not an error: it is reported, and the rest holds."""

    policy: Policy
    parts: Tuple[Part, ...]
    landlock_abi: int = 0  # 0 = Landlock is not in force
    seccomp: bool = False
    seconds: float = 0.0  # that applying took

    @property
    def missing(self) -> Tuple[str, ...]:
        """Sentences: each part that could not be applied, and why."""
        return tuple("%s: %s" % (part.name, part.detail) for part in self.parts if not part.on)

    @property
    def guarantees(self) -> Dict[str, str]:
        """What this process can still do; "as its user may" means that this is not confined."""
        landlock, seccomp = self.landlock_abi, self.seccomp
        only_work = "its work folder" if self.policy.work else "nothing"
        nothing_by_flags = seccomp and self.policy.writes_nothing
        listed = landlock and not self.policy.read_everything
        network = "none" if seccomp else "no TCP" if landlock >= 4 else _AS_USER
        return {
            "writes": only_work if landlock else "nothing" if nothing_by_flags else _AS_USER,
            "reads": "system libraries and what was listed" if listed else _AS_USER,
            "network": network,
            # Landlock does not cover a program in memory (memfd_create).
            "programs": "none" if seccomp else "none from files" if landlock else _AS_USER,
            "signals": "itself only" if seccomp or landlock >= 6 else _AS_USER,
        }

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form, for proofs and reports: {landlock, seccomp, guarantees, missing, ms}."""
        return {
            "landlock": self.landlock_abi,
            "seccomp": self.seccomp,
            "guarantees": self.guarantees,
            "missing": list(self.missing),
            "ms": round(self.seconds * 1e3, 3),
        }


class SandboxSupport(NamedTuple):
    """What this kernel supports for this process."""

    machine: str  # "x86_64", "aarch64", "armv7"; "" = unsupported
    landlock_abi: int = 0  # 0 = no Landlock
    landlock_reason: str = ""  # why not
    seccomp: bool = False
    seccomp_reason: str = ""

    @property
    def missing(self) -> Tuple[str, ...]:
        """Sentences: what this kernel does not support, and why."""
        reasons = (("landlock", self.landlock_reason), ("seccomp", self.seccomp_reason))
        return tuple("%s: %s" % pair for pair in reasons if pair[1])

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form, for `probe`: {machine, landlock, seccomp, missing}."""
        return {
            "machine": self.machine,
            "landlock": self.landlock_abi,
            "seccomp": self.seccomp,
            "missing": list(self.missing),
        }
