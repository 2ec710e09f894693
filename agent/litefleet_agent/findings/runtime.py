"""Checks a Paddle-Lite runtime against a device, independently of a model.  Pure."""

import os
import re
from typing import FrozenSet, Iterable, List, Optional, Tuple

from ..facts import Facts
from ..facts.cxx_library import REMEDY_OF
from ..facts.libraries import WATCHED
from ..facts.runtime import RuntimeFacts
from . import Certainty, Finding, finding

_SYSTEMS = {"windows": "Windows", "macos": "macOS", "android": "Android"}

# Measured under qemu-user with the wheel of 2.13rc0: it dies with SIGILL at import on a CPU without AVX (Nehalem), and
# in run() on one with AVX that lacks AVX2 or FMA (SandyBridge with FMA, Haswell without either).  Other builds may
# require less, so only the published wheel is checked: it alone contains MKL.
_PUBLISHED_X86 = ("avx", "avx2", "fma")
_PUBLISHED_MARK = "libmklml_intel.so"

# What concerns the binding alone: its interpreter and its numpy.
BINDING_ONLY = ("LF304", "LF307", "LF317")


def check_runtime(facts: Facts, runtime: RuntimeFacts, by_binding: bool = True) -> List[Finding]:
    """Return the findings against this runtime on the device of `facts`; what is unknown of either decides nothing.

    `by_binding` False: its C++ library is driven without the binding, so that interpreter and numpy do not matter.  A
    library alone has no binding.
    """
    by_binding = by_binding and runtime.kind != "library"
    found = _binary(facts, runtime, by_binding) + _pages(facts, runtime) + _libraries(facts, runtime)
    return found + check_leftovers(runtime) + (check_numpy(runtime) if by_binding else [])


def _binary(facts: Facts, runtime: RuntimeFacts, by_binding: bool) -> List[Finding]:
    """Check lite.so against the machine and the interpreter."""
    other = check_system(runtime)
    if other and (runtime.so_problem or facts.libc.kind in ("glibc", "musl")):
        return other
    if runtime.so_problem:
        return [finding("LF315", "The runtime cannot be loaded: %s." % runtime.so_problem.rstrip("."))]
    found = []
    if runtime.so_machine and runtime.so_machine != facts.arch:
        found.append(
            finding("LF308", "The runtime's lite.so is for %s; this device is %s." % (runtime.so_machine, facts.arch))
        )
    python = facts.python
    if by_binding and runtime.python_tags and python.tag and python.tag not in runtime.python_tags:
        observed = "The runtime is for %s; this device's interpreter is %s %s (%s)."
        values = (" or ".join(runtime.python_tags), python.implementation or "Python", python.version, python.tag)
        found.append(finding("LF307", observed % values))
    return found + ([] if found else check_interface(runtime))


def check_interface(runtime: RuntimeFacts) -> List[Finding]:
    """Return LF315 for a library that cannot be driven without a binding, with what it is and what to take instead."""
    remedy = REMEDY_OF.get(runtime.interface)
    if runtime.kind != "library" or remedy is None:
        return []
    return [finding("LF315", "%s cannot be used: %s." % (os.path.basename(runtime.path), remedy))]


def check_system(runtime: RuntimeFacts) -> List[Finding]:
    """Return LF323 for a library of another operating system than Linux with its own libc."""
    name = _SYSTEMS.get(runtime.so_system, "")
    return [finding("LF323", "The runtime's library is for %s." % name)] if name else []


def _pages(facts: Facts, runtime: RuntimeFacts) -> List[Finding]:
    """Check the library's segments against the kernel's pages.

    Every loader fails where the segments do not lie in the file as in memory, page for page; glibc before 2.35 also
    rejects those that are merely aligned to less.
    """
    page = facts.page_size
    if not 0 < runtime.page_align < page or runtime.so_machine != facts.arch:
        return []
    old = facts.libc.kind == "glibc" and () < _numbers(facts.libc.version) < (2, 35)
    apart = 0 < runtime.page_fit < page
    if not (old or apart):
        return []
    observed = "The runtime's library is aligned to pages of %d bytes; this device's kernel has pages of %d."
    sure = Certainty.CERTAIN if apart and facts.libc.kind == "glibc" else Certainty.LIKELY
    return [finding("LF318", observed % (runtime.page_align, page), sure)]


def check_leftovers(runtime: RuntimeFacts) -> List[Finding]:
    """Return LF319 for files of macOS's archiver in the package."""
    if not runtime.leftovers:
        return []
    more = " and %d more" % (len(runtime.leftovers) - 3) if len(runtime.leftovers) > 3 else ""
    return [finding("LF319", "The runtime holds %s%s." % (", ".join(runtime.leftovers[:3]), more))]


def _libraries(facts: Facts, runtime: RuntimeFacts) -> List[Finding]:
    if runtime.so_machine != facts.arch:  # the needs of another machine's binary prove nothing
        return []
    found = []
    if "libc.so.6" in facts.libraries:  # else the folders of this device's libraries are unknown
        missing = [name for name in runtime.so_needed if name in WATCHED and name not in facts.libraries]
        if missing:
            found.append(
                finding("LF306", "Paddle-Lite needs %s, which this device does not have." % ", ".join(missing))
            )
    return found + _symbol_versions(facts, runtime)


def _symbol_versions(facts: Facts, runtime: RuntimeFacts) -> List[Finding]:
    """Check the glibc and libstdc++ versions that the binary's symbols need."""
    glibc = newest_version(runtime.so_versions, "GLIBC_")
    if facts.libc.kind == "glibc" and any(name.startswith("libc.musl") for name in runtime.so_needed):
        return [finding("LF309", "The runtime was built for musl; this device has glibc %s." % facts.libc.version)]
    if facts.libc.kind == "musl" and glibc:
        return [
            finding(
                "LF309", "The runtime needs glibc %s; this device has musl %s." % (dotted(glibc), facts.libc.version)
            )
        ]
    found = []
    if facts.libc.kind == "glibc" and glibc > _numbers(facts.libc.version) > ():
        observed = "The runtime needs glibc %s; this device has %s." % (dotted(glibc), facts.libc.version)
        found.append(finding("LF309", observed))
    cxx = newest_version(runtime.so_versions, "GLIBCXX_")
    if "libstdc++.so.6" not in runtime.so_provided and cxx > _numbers(facts.libstdcxx) > ():
        observed = "The runtime needs a libstdc++ with GLIBCXX_%s; this device's ends at GLIBCXX_%s."
        found.append(finding("LF309", observed % (dotted(cxx), facts.libstdcxx)))
    return found


def newest_version(versions: Iterable[str], prefix: str) -> Tuple[int, ...]:
    """Return the highest version after `prefix`, () when there is none (GLIBC_PRIVATE is none)."""
    return max((_numbers(name[len(prefix) :]) for name in versions if name.startswith(prefix)), default=())


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")) if re.match(r"^\d{1,6}(\.\d{1,6}){0,4}$", text) else ()


def dotted(numbers: Tuple[int, ...]) -> str:
    """Return (2, 27) as "2.27"."""
    return ".".join(str(number) for number in numbers)


def check_numpy(runtime: RuntimeFacts) -> List[Finding]:
    """Check the numpy that the runtime would import; a single library imports none."""
    if runtime.kind == "library":
        return []
    if not runtime.numpy_version:
        return [finding("LF317", "The runtime has no numpy.")]
    major = re.match(r"^(\d{1,4})\.", runtime.numpy_version)
    if major and int(major.group(1)) >= 2 and not runtime.numpy_2_ready:
        observed = "The runtime would use numpy %s; this build of Paddle-Lite needs numpy < 2."
        return [finding("LF304", observed % runtime.numpy_version)]
    return []


def check_cpu(facts: Facts, isa: str, runtime: Optional[RuntimeFacts]) -> List[Finding]:
    """Check the CPU's instructions, and the counts of CPUs that Paddle-Lite compares on ARM.

    `isa` is the userland's: "x86" or "arm".  `runtime` None means that none is chosen yet.
    """
    found = []
    missing = _missing_features(facts, isa, runtime)
    if missing:
        name = ", ".join(facts.cpu.parts[:4]) or "This CPU"
        found.append(finding("LF310", "%s has no %s." % (name, ", ".join(missing))))
    counts = (facts.cpu.cpuinfo_count, facts.cpu.sys_count)
    if isa == "arm" and all(counts) and counts[0] != counts[1]:  # the x86 backend does not count
        inside = " (in a %s container)" % facts.container if facts.container else ""
        observed = "/proc/cpuinfo describes %d CPU parts, /sys has %d CPUs%s." % (counts[0], counts[1], inside)
        found.append(finding("LF316", observed))
    return found


def _missing_features(facts: Facts, isa: str, runtime: Optional[RuntimeFacts]) -> List[str]:
    """Return the missing CPU features without which Paddle-Lite is known to crash; an unknown CPU lacks nothing."""
    features: FrozenSet[str] = frozenset(facts.cpu.features)
    if not features or "asimd" in features:  # ARMv8's asimd contains neon and vfpv4
        return []
    if isa == "arm":
        return [name for name in ("neon", "vfpv4") if name not in features and facts.arch == "armv7l"]
    if runtime is not None and _PUBLISHED_MARK in runtime.so_provided:
        return [name for name in _PUBLISHED_X86 if name not in features]
    return []
