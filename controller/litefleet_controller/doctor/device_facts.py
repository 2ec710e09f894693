"""A device's facts in lines for people."""

from __future__ import annotations

from collections import Counter

from litefleet_agent.facts import Facts, Package

from ..texts import plain
from .diagnosis import Fact

__all__ = ["device_facts"]

_MB = 10**6


def device_facts(facts: Facts) -> tuple[Fact, ...]:
    """Return what a device told of itself, a line each; what it did not tell has no line."""
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
    return tuple(Fact(label, plain(text)) for label, text in lines.items() if text)


def _cpu(facts: Facts) -> str:
    parts = ", ".join(f"{n} x {name}" if n > 1 else name for name, n in Counter(facts.cpu.parts).items())
    cores = f"{facts.cpu.cores} core{'' if facts.cpu.cores == 1 else 's'}" if facts.cpu.cores else ""
    return ", ".join(text for text in (parts, cores) if text)


def _userland(facts: Facts) -> str:
    arch = facts.arch or "none that Paddle-Lite knows"
    kernel = f" under a kernel for {facts.machine}" if facts.machine and facts.machine != facts.arch else ""
    return f"{arch}, {facts.bits}-bit{kernel}"


def _libc(facts: Facts) -> str:
    text = f"{facts.libc.kind} {facts.libc.version}".strip()
    return text + (f", libstdc++ with GLIBCXX_{facts.libstdcxx}" if facts.libstdcxx else "")


def _python(facts: Facts) -> str:
    python = facts.python
    return f"{python.implementation} {python.version} at {python.executable}" if python.version else ""


def _of(part: int, whole: int, word: str) -> str:
    return f"{part // _MB} of {whole // _MB} MB {word}" if whole else ""


def _package(package: Package) -> str:
    return f"{package.version or 'unknown version'} at {package.path}" if package.path else ""
