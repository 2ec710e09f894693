"""Describes a device's facts for people, and judges them under a configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from litefleet_agent.facts import Facts, Package
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings import Certainty, Finding, Severity, finding
from litefleet_agent.findings.environment import RuntimeFacts
from litefleet_agent.findings.runtime import check_cpu, check_runtime
from litefleet_inventory import Device

from ..build.runtimes.choose import ChosenRuntime, choose_runtime, own_runtime_findings, root_findings
from ..common.errors import ConfigError
from ..common.text import sanitize
from ..config import Config
from ..config.choices import RuntimeChoice
from .diagnosis import Fact

_MB = 10**6


def device_facts(facts: Facts) -> tuple[Fact, ...]:
    """Return the facts that a device reported, one line each; unreported facts have no line."""
    lines = {
        "board": facts.model,
        "cpu": _cpu(facts),
        "userland": _userland(facts),
        "system": facts.os_release.pretty or facts.os_release.id,
        "kernel": facts.kernel,
        "libc": _libc(facts),
        "python": _python(facts),
        "other pythons": ", ".join(facts.other_pythons[:8]),
        "memory": _of(facts.memory.available, facts.memory.total, "available"),
        "disk": _of(facts.disk.free, facts.disk.total, "free"),
        "opencl": facts.opencl,
        "paddlelite": _package(facts.paddlelite),
        "numpy": _package(facts.numpy),
        "container": facts.container,
    }
    return tuple(Fact(label, sanitize(text)) for label, text in lines.items() if text)


def _cpu(facts: Facts) -> str:
    parts = ", ".join(f"{n} x {name}" if n > 1 else name for name, n in Counter(facts.cpu.parts).items())
    cores = f"{facts.cpu.cores} core{'' if facts.cpu.cores == 1 else 's'}" if facts.cpu.cores else ""
    return ", ".join(text for text in (parts, cores) if text)


def _userland(facts: Facts) -> str:
    arch = facts.arch or "none that Paddle-Lite knows"
    kernel = f" under a kernel for {facts.machine}" if facts.machine and facts.machine != facts.arch else ""
    return f"{arch}, {facts.bits}-bit{kernel}"


def _libc(facts: Facts) -> str:
    return facts.libc_words + (f", libstdc++ with GLIBCXX_{facts.libstdcxx}" if facts.libstdcxx else "")


def _python(facts: Facts) -> str:
    python = facts.python
    return f"{python.implementation} {python.version} at {python.executable}" if python.version else ""


def _of(part: int, whole: int, word: str) -> str:
    return f"{part // _MB} of {whole // _MB} MB {word}" if whole else ""


def _package(package: Package) -> str:
    return f"{package.version or 'unknown version'} at {package.path}" if package.path else ""


_BUNDLE_DISK = 300_000_000  # bytes of an unpacked runtime with numpy, its archive beside it while it is unpacked

# What the published x86_64 wheels and numpy 1 need on a device, read from their ELF files.
_NEEDED = ("libpthread.so.0", "libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "libdl.so.2")
_VERSIONS = frozenset({"GLIBC_2.17", "GLIBCXX_3.4.21"})
_PROVIDED = frozenset({"lite.so", "libiomp5.so", "libmklml_intel.so"})


def judge_device(
    config: Config, device: Device, facts: Facts, space: Sequence[Finding] | None = None
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return (sentences on what works, findings) for a device of these facts under this configuration.

    `space` is what speaks against the free space by the sizes of the releases that the device would get; None where they
    are not known yet: then it is judged by what a runtime usually takes, and too little is only possible.
    """
    arch = ARCHES.get(facts.arch)
    if arch is None:
        observed = f"This device is {sanitize(facts.machine) or 'unknown'} with a {facts.bits}-bit userland."
        return (), (finding("LF303", observed),)
    try:
        chosen = choose_runtime(config, device, facts)
    except ConfigError as error:
        return (), tuple(finding("LF708", problem) for problem in error.problems)
    works, found = _runtime(chosen, facts)
    brought = chosen.choice.kind == "wheels" and not chosen.refusals
    published = _published_wheel(facts) if brought else None
    found += check_cpu(facts, arch.isa, published)
    if published is not None:
        found += check_runtime(facts, published)
    found += _storage(chosen.choice, facts, space)
    fits = not any(f.severity is Severity.ERROR for f in found)
    return (works if fits else ()), tuple(found)


def _runtime(chosen: ChosenRuntime, facts: Facts) -> tuple[tuple[str, ...], list[Finding]]:
    """Return (sentences on what works, findings against it) for the chosen runtime."""
    choice = chosen.choice
    if choice.kind == "system":
        version = sanitize(facts.paddlelite.version)
        sentence = f"Its own Paddle-Lite {version} is installed.".replace("  ", " ")
        return ((sentence,) if facts.paddlelite.path else ()), list(own_runtime_findings(facts))
    if chosen.refusals:
        return (), list(chosen.refusals)
    name = f"the wheels of paddlelite {choice.paddlelite}" if choice.kind == "wheels" else choice.path.name
    return (f"A runtime fits: {name}.",), []


def _published_wheel(facts: Facts) -> RuntimeFacts:
    """Return the published wheel as a runtime, for the checks that compare it with the device."""
    return RuntimeFacts(
        kind="bundle",
        path="paddlelite",
        numpy_version="1.0",
        so_machine="x86_64",
        so_needed=_NEEDED,
        so_versions=_VERSIONS,
        so_provided=_PROVIDED,
        so_system="linux",
        python_tags=(facts.python.tag,) if facts.python.tag else (),
    )


def _storage(choice: RuntimeChoice, facts: Facts, space: Sequence[Finding] | None) -> list[Finding]:
    if not facts.writable:
        return [finding("LF313", "The agent's root folder cannot be written or created.")]
    if choice.kind != "system" and facts.noexec:
        return root_findings(facts)
    if space is not None:
        return list(space)
    if choice.kind == "system":
        return []
    if facts.disk.total and facts.disk.free < _BUNDLE_DISK:
        free, need = facts.disk.free // 10**6, _BUNDLE_DISK // 10**6
        observed = f"{free} MB are free under the agent's root; a runtime with its archive takes up to about {need} MB."
        return [finding("LF312", observed, Certainty.POSSIBLE)]
    return []
