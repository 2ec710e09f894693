"""Groups devices by the facts that decide their files: CPU part, architecture, features, and the runtime they get."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from litefleet_agent.facts import Facts
from litefleet_agent.findings import Finding
from litefleet_inventory import Device

from ..build.runtimes.choose import ChosenRuntime, choose_runtime, own_runtime_findings
from ..config import Config

HALF_PRECISION = "asimdhp"
# The CPU features that decide whether a file or a published runtime works.
DECIDING = frozenset((HALF_PRECISION, "avx", "avx2", "fma", "neon", "vfpv4"))


class Origin(enum.StrEnum):
    """Where a device's facts come from."""

    PROBE = "probe"  # from the device, just now
    REPORT = "report"  # a saved probe report
    STATE = "state"  # the state database
    NONE = "none"  # unknown


@dataclass(frozen=True)
class DeviceReport:
    """The facts of one device, their origin and their time."""

    device: str
    facts: Facts
    origin: Origin
    seen_at: float = 0.0  # seconds since the epoch; 0 = never
    findings: tuple[Finding, ...] = ()  # why it could not be probed, or what its facts show


@dataclass(frozen=True)
class Runtime:
    """The Paddle-Lite that a device would use."""

    label: str = ""  # "published wheel of 2.13rc0", "its own Paddle-Lite 2.12"
    version: str = ""  # "" = unknown
    published: bool = False  # a wheel of the package index, which needs AVX2 and FMA
    findings: tuple[Finding, ...] = ()  # findings against it on this device


@dataclass(frozen=True, order=True)
class Kind:
    """A group of devices with the same deciding facts."""

    arch: str  # canonical; "" where Paddle-Lite has no CPU backend
    parts: tuple[str, ...]  # "Cortex-A76", ...; the machine name for an unknown CPU
    features: tuple[str, ...]  # of DECIDING, sorted
    features_known: bool  # False: the features are unknown, so a missing one means nothing
    libc: str  # "glibc", "musl", "unknown"
    python: str  # "cp310"
    runtime: str  # Runtime.label
    version: str  # of that runtime

    @property
    def isa(self) -> str:
        """The instruction set in Paddle-Lite's terms: "x86", "arm", or "" for another."""
        return {"x86_64": "x86", "i686": "x86", "aarch64": "arm", "armv7l": "arm"}.get(self.arch, "")

    @property
    def name(self) -> str:
        """The name for people: "Cortex-A72 (aarch64)"."""
        return f"{' + '.join(self.parts) or 'unknown CPU'} ({self.arch or 'no Paddle-Lite'})"


def kind_of(facts: Facts, runtime: Runtime) -> Kind:
    """Return the kind of a device."""
    return Kind(
        arch=facts.arch,
        parts=tuple(sorted(facts.cpu.parts)) or tuple(filter(None, [facts.machine])),
        features=tuple(sorted(DECIDING.intersection(facts.cpu.features))),
        features_known=bool(facts.cpu.features),
        libc=facts.libc.kind,
        python=facts.python.tag,
        runtime=runtime.label,
        version=runtime.version,
    )


def runtime_on(config: Config, device: Device, facts: Facts) -> Runtime:
    """Return the runtime that a device of these facts would get; an empty one where its architecture is unknown.

    Raises: ConfigError when the inventory names a runtime that `runtimes:` lacks.
    """
    if not facts.arch:
        return Runtime()
    chosen = choose_runtime(config, device, facts)
    if chosen.choice.kind == "system":
        version = facts.paddlelite.version
        label = f"its own Paddle-Lite {version}".rstrip()
        return Runtime(label, version, findings=own_runtime_findings(facts))
    return _brought(chosen)


def _brought(chosen: ChosenRuntime) -> Runtime:
    """Return a runtime that litefleet sends; only a published wheel's version is known without reading files."""
    choice, refusals = chosen.choice, chosen.refusals
    if choice.kind != "wheels":
        return Runtime(f"{choice.kind} {choice.path.name}", findings=refusals)
    label = "" if refusals else f"published wheel of {choice.paddlelite}"
    return Runtime(label, choice.paddlelite, published=not refusals, findings=refusals)
