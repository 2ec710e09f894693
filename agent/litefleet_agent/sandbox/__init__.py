"""Confines a model's process: Landlock, seccomp, resource limits.  Standard library only, best effort, under a millisecond.

`confine(Policy(work=folder, reads=(model, runtime), data_bytes=limit))` in the process itself, before anything that is not
trusted is loaded; its `to_dict()` goes into the report.  `describe_kernel()` returns what a kernel supports, for `probe`.
`launch.command` runs a script of another interpreter confined.  Nothing here fails on an old kernel: what it lacks is reported.
"""

from .confine import confine, describe_kernel
from .values import Confinement, Part, Policy, SandboxSupport

__all__ = ["Confinement", "Part", "Policy", "SandboxSupport", "confine", "describe_kernel"]
