"""Checks a .nb file by itself and against an architecture.  Pure, except for reading the file."""

import mmap
import os
from typing import Dict, FrozenSet, Iterable, List, Optional, Tuple

from ..facts.arch import Arch
from ..formats.files import open_regular
from ..formats.nb import Kernel, NbModel, read_nb
from . import Finding, Severity, finding

CPU_ISAS = ("x86", "arm")
ANYWHERE = frozenset(("host", "any", *CPU_ISAS))
HALF_PRECISION = "asimdhp"  # as /proc/cpuinfo names ARMv8.2's fp16 arithmetic


def accelerators(model: NbModel) -> FrozenSet[str]:
    """Return the hardware beyond the CPU that the kernels need ("opencl", ...)."""
    return frozenset(model.kernels_by_target()) - ANYWHERE


def cpu_features(model: NbModel) -> FrozenSet[str]:
    """Return the CPU features, as /proc/cpuinfo spells them, that the file needs and not every CPU has."""
    return frozenset([HALF_PRECISION] if any(k.target == "arm" for k in _half(model.kernels)) else [])


def check_alone(model: NbModel) -> List[Finding]:
    """Return the findings of the file on any machine: incomplete, two CPU ISAs, fp16 together with int8."""
    found: List[Finding] = []
    if not model.complete:
        found.append(finding("LF105", "The file is not whole: %s." % model.damage))
    if not model.kernels:
        found.append(finding("LF105", "None of its %d operators names a kernel." % sum(model.ops.values())))
    targets = model.kernels_by_target()
    if all(isa in targets for isa in CPU_ISAS):
        found.append(finding("LF102", "%s." % _mixed(targets["x86"], targets["arm"], len(model.kernels))))
    half, small = _half(model.kernels), _int8(model)
    if half and small:
        found.append(finding("LF112", "It has %s and %s." % (_count(len(half), "fp16 kernel"), small)))
    return found


def check_file(model: NbModel, arch: Arch, features: Optional[FrozenSet[str]] = None) -> List[Finding]:
    """Return the findings of this file on that architecture; none of them an error means that it fits.

    `features` are the CPU's, as /proc/cpuinfo spells them; None when they are unknown, and then they decide nothing.
    Accelerators are not checked here (see `accelerators`).
    """
    found = check_alone(model)
    targets = model.kernels_by_target()
    other = _other(arch)
    if other in targets and arch.isa not in targets:
        observed = "%d of %d kernels %s for %s; this device is %s." % (
            targets[other],
            len(model.kernels),
            _are(targets[other]),
            other,
            arch.name,
        )
        found.append(finding("LF101", observed))
    half = _half(model.kernels)
    why = _no_half(arch, features) if half else ""
    if why:
        found.append(
            finding(
                "LF104", "%d of %d kernels %s for fp16; %s." % (len(half), len(model.kernels), _are(len(half)), why)
            )
        )
    small = _int8(model)
    if arch.isa == "x86" and small:
        found.append(finding("LF111", "It has %s; this device is %s." % (small, arch.name)))
    return found


def verdict(findings: Iterable[Finding]) -> str:
    """Return "good" when no finding is an error, else "refused"."""
    return "refused" if any(f.severity is Severity.ERROR for f in findings) else "good"


def deciding_kernels(
    model: NbModel, arch: Arch, features: Optional[FrozenSet[str]] = None
) -> Tuple[Tuple[Kernel, int], ...]:
    """Return the kernels, with their counts, that this architecture cannot run, the most frequent first."""
    half = frozenset(_half(model.kernels)) if _no_half(arch, features) else frozenset()
    counts: Dict[Kernel, int] = {}
    for kernel in model.kernels:
        if kernel.target == _other(arch) or kernel in half:
            counts[kernel] = counts.get(kernel, 0) + 1
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _other(arch: Arch) -> str:
    return "arm" if arch.isa == "x86" else "x86"


def _half(kernels: Iterable[Kernel]) -> List[Kernel]:
    """Return the fp16 kernels that run on the CPU: on a GPU fp16 is ordinary."""
    return [k for k in kernels if k.precision == "fp16" and k.target in CPU_ISAS]


def _no_half(arch: Arch, features: Optional[FrozenSet[str]]) -> str:
    """Return why this CPU cannot run fp16 kernels, "" when it may."""
    if arch.name != "aarch64":
        return "%s has none in Paddle-Lite" % arch.name
    if features is not None and HALF_PRECISION not in features:
        return "this CPU lacks %s" % HALF_PRECISION
    return ""


def _int8(model: NbModel) -> str:
    """Describe what is quantised in the file, "" for nothing: int8 kernels, or weights that opt made int8 or int16."""
    kernels = sum(1 for k in model.kernels if k.precision == "int8")
    parts = []
    if kernels:
        parts.append(_count(kernels, "int8 kernel"))
    if model.quantised_weights:
        kinds = "/".join(sorted(kind for kind in model.weight_dtypes if kind in ("int8", "int16")))
        parts.append("%s weights in %d of %d parameters" % (kinds, model.quantised_weights, model.parameter_count))
    return " and ".join(parts)


def _mixed(x86: int, arm: int, total: int) -> str:
    return "%d of its %d kernels %s for x86 and %d for arm: no CPU runs both" % (x86, total, _are(x86), arm)


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _count(number: int, word: str) -> str:
    return "%d %s%s" % (number, word, "" if number == 1 else "s")


def read_nb_file(path: str) -> NbModel:
    """Describe the .nb file at `path`.  Raises NbError, OSError.

    The file is not mapped: one that is truncated while it is read must not end this process with SIGBUS.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # It ends with its last view.  Private: shared memory would escape RLIMIT_DATA, and the sandbox refuses it.
        memory = mmap.mmap(-1, max(1, size), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = memoryview(memory)[: file.readinto(memory)]
        return read_nb(view)


def altered(model: NbModel, sha256: str) -> List[Finding]:
    """Return LF602 when a model's bytes are not those of `sha256`: one flipped bit gives slightly wrong answers."""
    if not sha256 or model.sha256 == sha256:
        return []
    return [finding("LF602", "The model's file %s no longer holds the bytes that were sent." % sha256[:12])]
