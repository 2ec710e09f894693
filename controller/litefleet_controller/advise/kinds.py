"""Devices gathered by what decides about their files: CPU part, architecture, features, runtime.  Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding

__all__ = ["DECIDING", "HALF_PRECISION", "DeviceReport", "Kind", "Origin", "Runtime", "kind_of"]

HALF_PRECISION = "asimdhp"
# Of all that a CPU tells, only these decide about a file or a published runtime.
DECIDING = frozenset((HALF_PRECISION, "avx", "avx2", "fma", "neon", "vfpv4"))


class Origin(enum.StrEnum):
    """Where a device's facts come from."""

    PROBE = "probe"  # it answered just now
    REPORT = "report"  # a kept probe report
    STATE = "state"  # what the state database last heard of it
    NONE = "none"  # nothing is known


@dataclass(frozen=True)
class DeviceReport:
    """What is known of one device, from where, and since when."""

    device: str
    facts: Facts
    origin: Origin
    seen_at: float = 0.0  # seconds since the epoch; 0 = never
    findings: tuple[Finding, ...] = ()  # why it could not be asked, or what is odd about it


@dataclass(frozen=True)
class Runtime:
    """The Paddle-Lite that a device would run with."""

    words: str = ""  # "published wheel of 2.13rc0", "its own Paddle-Lite 2.12"
    version: str = ""  # "" = not known
    published: bool = False  # the wheel of the package index, which wants AVX2 and FMA
    findings: tuple[Finding, ...] = ()  # what speaks against it on this device


@dataclass(frozen=True, order=True)
class Kind:
    """Devices for which the same can be said."""

    arch: str  # canonical; "" where Paddle-Lite has no CPU backend
    parts: tuple[str, ...]  # "Cortex-A76", ...; the machine where the CPU does not tell
    features: tuple[str, ...]  # of DECIDING, sorted
    features_known: bool  # False: the CPU's features are not known, so their absence says nothing
    libc: str  # "glibc", "musl", "unknown"
    python: str  # "cp310"
    runtime: str  # Runtime.words
    version: str  # of that runtime

    @property
    def isa(self) -> str:
        """The instruction set in Paddle-Lite's terms: "x86", "arm", or "" for another."""
        return {"x86_64": "x86", "i686": "x86", "aarch64": "arm", "armv7l": "arm"}.get(self.arch, "")

    @property
    def name(self) -> str:
        """What people call it: "Cortex-A72 (aarch64)"."""
        return f"{' + '.join(self.parts) or 'unknown CPU'} ({self.arch or 'no Paddle-Lite'})"


def kind_of(facts: Facts, runtime: Runtime) -> Kind:
    """Return the kind that a device is of."""
    return Kind(
        arch=facts.arch,
        parts=tuple(sorted(facts.cpu.parts)) or tuple(filter(None, [facts.machine])),
        features=tuple(sorted(DECIDING.intersection(facts.cpu.features))),
        features_known=bool(facts.cpu.features),
        libc=facts.libc.kind,
        python=facts.python.tag,
        runtime=runtime.words,
        version=runtime.version,
    )
