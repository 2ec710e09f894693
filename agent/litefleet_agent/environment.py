"""A model, a device and a runtime: which findings the three give together, before anything is loaded.  Pure."""

import re
from typing import FrozenSet, Iterable, List, Optional, Tuple

from .arch import ARCHES
from .compat import accelerators
from .facts import Facts
from .facts.libraries import WATCHED
from .facts.runtime import RuntimeFacts, describe_runtime
from .findings import Finding, finding
from .nb import NbModel

__all__ = ["RuntimeFacts", "check_environment", "describe_runtime", "grade_versions", "parse_version"]

_VERSION = re.compile(r"^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?:[-_.]?(rc|beta|alpha|b|a)[-_.]?(\d{0,4}))?$", re.I)
_STAGES = {"a": "alpha", "b": "beta"}

# Measured under qemu-user with the wheel of 2.13rc0: it dies with SIGILL at import on a CPU without AVX (Nehalem), and
# in run() on one with AVX that lacks AVX2 or FMA (SandyBridge with FMA, Haswell without either).  Other builds may be
# made for less, so only the published wheel is judged: it alone brings MKL.
_PUBLISHED_X86 = ("avx", "avx2", "fma")
_PUBLISHED_MARK = "libmklml_intel.so"


def check_environment(
    model: NbModel, facts: Facts, runtime: Optional[RuntimeFacts] = None, need_disk: int = 0
) -> List[Finding]:
    """Return what speaks against running `model` on the device of `facts` with `runtime`, what weighs most first.

    `runtime` None means that none is chosen yet: only model and device are judged.  `need_disk` is in bytes.
    What a device does not tell decides nothing.  The kernels' own targets are compat.check_file's matter.
    """
    arch = ARCHES.get(facts.arch)
    if arch is None:
        return [
            finding("LF303", "This device is %s with a %d-bit userland." % (facts.machine or "unknown", facts.bits))
        ]
    found: List[Finding] = []
    if runtime is not None and not runtime.path:
        found.append(finding("LF302", _no_runtime(facts, runtime)))
        runtime = None  # what else speaks against the device is told all the same
    if runtime is not None:
        found += _binary(facts, runtime) + _libraries(facts, runtime) + _numpy(runtime)
    found += _cpu(facts, arch.isa, runtime)
    found += _accelerators(model, facts, runtime)
    found += _room(model, facts, need_disk)
    if runtime is not None:
        found += grade_versions(model.opt_version, runtime.paddlelite_version)
    return found


def _no_runtime(facts: Facts, runtime: RuntimeFacts) -> str:
    if runtime.kind == "system":
        return "No paddlelite package is installed for %s." % (facts.python.executable or "this Python")
    return "The runtime's folder holds no paddlelite package."


def _binary(facts: Facts, runtime: RuntimeFacts) -> List[Finding]:
    """Judge lite.so against the machine and the interpreter."""
    if runtime.so_problem:
        return [finding("LF315", "The runtime cannot be loaded: %s." % runtime.so_problem.rstrip("."))]
    found = []
    if runtime.so_machine and runtime.so_machine != facts.arch:
        found.append(
            finding("LF308", "The runtime's lite.so is for %s; this device is %s." % (runtime.so_machine, facts.arch))
        )
    python = facts.python
    if runtime.python_tags and python.tag and python.tag not in runtime.python_tags:
        seen = "The runtime is for %s; this device's interpreter is %s %s (%s)."
        values = (" or ".join(runtime.python_tags), python.implementation or "Python", python.version, python.tag)
        found.append(finding("LF307", seen % values))
    return found


def _libraries(facts: Facts, runtime: RuntimeFacts) -> List[Finding]:
    if runtime.so_machine != facts.arch:  # another machine's needs say nothing
        return []
    found = []
    if "libc.so.6" in facts.libraries:  # else the places where this device keeps its libraries are not known
        missing = [name for name in runtime.so_needed if name in WATCHED and name not in facts.libraries]
        if missing:
            found.append(
                finding("LF306", "Paddle-Lite needs %s, which this device does not have." % ", ".join(missing))
            )
    return found + _symbol_versions(facts, runtime)


def _symbol_versions(facts: Facts, runtime: RuntimeFacts) -> List[Finding]:
    """Judge the glibc and libstdc++ versions that the binary's symbols ask for."""
    glibc = _newest(runtime.so_versions, "GLIBC_")
    if facts.libc.kind == "musl" and glibc:
        return [
            finding(
                "LF309", "The runtime needs glibc %s; this device has musl %s." % (_dotted(glibc), facts.libc.version)
            )
        ]
    found = []
    if facts.libc.kind == "glibc" and glibc > _numbers(facts.libc.version) > ():
        seen = "The runtime needs glibc %s; this device has %s." % (_dotted(glibc), facts.libc.version)
        found.append(finding("LF309", seen))
    cxx = _newest(runtime.so_versions, "GLIBCXX_")
    if "libstdc++.so.6" not in runtime.so_provided and cxx > _numbers(facts.libstdcxx) > ():
        seen = "The runtime needs a libstdc++ with GLIBCXX_%s; this device's ends at GLIBCXX_%s."
        found.append(finding("LF309", seen % (_dotted(cxx), facts.libstdcxx)))
    return found


def _newest(versions: Iterable[str], prefix: str) -> Tuple[int, ...]:
    """Return the highest version behind `prefix`, () when there is none (GLIBC_PRIVATE is none)."""
    return max((_numbers(name[len(prefix) :]) for name in versions if name.startswith(prefix)), default=())


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")) if re.match(r"^\d{1,6}(\.\d{1,6}){0,4}$", text) else ()


def _dotted(numbers: Tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)


def _numpy(runtime: RuntimeFacts) -> List[Finding]:
    if not runtime.numpy_version:
        return [finding("LF317", "The runtime has no numpy.")]
    major = re.match(r"^(\d{1,4})\.", runtime.numpy_version)
    if major and int(major.group(1)) >= 2 and not runtime.numpy_2_ready:
        seen = "The runtime would use numpy %s; this build of Paddle-Lite needs numpy < 2."
        return [finding("LF304", seen % runtime.numpy_version)]
    return []


def _cpu(facts: Facts, isa: str, runtime: Optional[RuntimeFacts]) -> List[Finding]:
    found = []
    missing = _missing_features(facts, isa, runtime)
    if missing:
        name = ", ".join(facts.cpu.parts[:4]) or "This CPU"
        found.append(finding("LF310", "%s has no %s." % (name, ", ".join(missing))))
    counts = (facts.cpu.cpuinfo_count, facts.cpu.sys_count)
    if isa == "arm" and all(counts) and counts[0] != counts[1]:  # the x86 backend does not count
        inside = " (in a %s container)" % facts.container if facts.container else ""
        seen = "/proc/cpuinfo describes %d CPU parts, /sys has %d CPUs%s." % (counts[0], counts[1], inside)
        found.append(finding("LF316", seen))
    return found


def _missing_features(facts: Facts, isa: str, runtime: Optional[RuntimeFacts]) -> List[str]:
    """Return the CPU features whose want is known to kill; an unknown CPU lacks nothing."""
    features: FrozenSet[str] = frozenset(facts.cpu.features)
    if not features or "asimd" in features:  # ARMv8's asimd contains neon and vfpv4
        return []
    if isa == "arm":
        return [name for name in ("neon", "vfpv4") if name not in features and facts.arch == "armv7l"]
    if runtime is not None and _PUBLISHED_MARK in runtime.so_provided:
        return [name for name in _PUBLISHED_X86 if name not in features]
    return []


def _accelerators(model: NbModel, facts: Facts, runtime: Optional[RuntimeFacts]) -> List[Finding]:
    found = []
    counts = model.kernels_by_target()
    for name in sorted(accelerators(model)):
        lacking = _lacking(name, facts, runtime)
        if lacking:
            seen = "%d of %d kernels are for %s; %s." % (counts.get(name, 0), len(model.kernels), name, lacking)
            found.append(finding("LF103", seen))
    return found


def _lacking(name: str, facts: Facts, runtime: Optional[RuntimeFacts]) -> str:
    if name != "opencl":
        return "litefleet looks for OpenCL only and cannot tell that this device has it"
    if not facts.opencl:
        return "this device has no OpenCL library"
    if runtime is not None and not runtime.opencl:
        return "its Paddle-Lite runtime was built without OpenCL"
    return ""


def _room(model: NbModel, facts: Facts, need_disk: int) -> List[Finding]:
    found = []
    need = model.estimated_memory_bytes
    if facts.memory.total and facts.memory.available < need:
        seen = "The model needs about %s of memory; %s of %s are free."
        values = (_size(need), _size(facts.memory.available), _size(facts.memory.total))
        found.append(finding("LF311", seen % values))
    if need_disk and facts.disk.total and facts.disk.free < need_disk:
        seen = "%s are to be stored; %s are free under the agent's root."
        found.append(finding("LF312", seen % (_size(need_disk), _size(facts.disk.free))))
    return found


def _size(count: int) -> str:
    return "%.1f MB" % (count / 1e6)


def parse_version(text: str) -> Optional[Tuple[int, int, int, str, int]]:
    """Return a Paddle-Lite version as (major, minor, patch, stage, number); None for a hash, a blank, "" and the like.

    The file's "v2.13-rc" and the wheel's "2.13rc0" are the same version.
    """
    found = _VERSION.match(text.strip())
    if not found:
        return None
    major, minor, patch, stage, number = found.groups()
    stage = (stage or "").lower()
    return int(major), int(minor), int(patch or 0), _STAGES.get(stage, stage), int(number or 0)


def grade_versions(file_version: str, runtime_version: str) -> List[Finding]:
    """Compare the version that wrote a .nb with the one that would run it: nothing, LF108 or LF109."""
    wrote, runs = parse_version(file_version), parse_version(runtime_version)
    names = (file_version or "no version", runtime_version or "no version")
    if wrote is None or runs is None:
        return [finding("LF109", "The file says it was written by %s, the runtime calls itself %s." % names)]
    if wrote != runs:
        return [finding("LF108", "The file was written by Paddle-Lite %s; the runtime is %s." % names)]
    return []
