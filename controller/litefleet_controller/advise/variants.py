"""Assigns files to devices, and finds the fewest files that serve them all.  Pure.

Files are compared by their bytes: architectures with equal conversions share one file.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from litefleet_agent.facts.arch import ARCHES, arch_of
from litefleet_agent.facts.runtime import RuntimeFacts
from litefleet_agent.findings import Finding, Severity, finding, ranked
from litefleet_agent.findings.environment import check_environment, grade_versions
from litefleet_agent.findings.model_file import check_file
from litefleet_agent.findings.runtime import check_cpu
from litefleet_agent.formats.nb import NbModel

from .kinds import HALF_PRECISION, DeviceReport, Kind, Runtime, kind_of

_PUBLISHED = RuntimeFacts("bundle", "published", so_provided=frozenset(["libmklml_intel.so"]))


class PlacementStatus(enum.StrEnum):
    """The status of one model on one device."""

    READY = "ready"  # file and runtime fit
    NO_RUNTIME = "no runtime"  # the file fits, the runtime does not
    EXCLUDED = "excluded"  # no file fits it
    UNKNOWN = "unknown"  # the device was never probed


@dataclass(frozen=True)
class CandidateFile:
    """A converted or ready-made file, and its content."""

    sha256: str
    label: str  # "arm", "opencl,arm fp16", "ready-made"
    nb: NbModel

    @property
    def size(self) -> int:
        """Bytes."""
        return self.nb.size


@dataclass(frozen=True)
class Placement:
    """One model on one device: its file, the reason, and the findings."""

    device: str
    model: str
    status: PlacementStatus
    device_report: DeviceReport
    kind: Kind
    why: str
    file: CandidateFile | None = None
    findings: tuple[Finding, ...] = ()  # the most severe first

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "device": self.device,
            "model": self.model,
            "standing": self.status.value,
            "file": self.file.sha256 if self.file else "",
            "kind": self.kind.name,
            "why": self.why,
            "facts_from": self.device_report.origin.value,
            "seen_at": self.device_report.seen_at,
            "findings": [found.to_dict() for found in self.findings],
        }


@dataclass(frozen=True)
class NeededFile:
    """One file that the fleet needs, with the devices that take it."""

    model: str
    file: CandidateFile
    devices: tuple[str, ...]
    arches: tuple[str, ...]
    parts: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "model": self.model,
            "sha256": self.file.sha256,
            "bytes": self.file.size,
            "variant": self.file.label,
            "opt_version": self.file.nb.opt_version,
            "memory_bytes": self.file.nb.estimated_memory_bytes,
            "devices": list(self.devices),
            "arches": list(self.arches),
            "parts": list(self.parts),
        }


def place(
    model: str,
    device_report: DeviceReport,
    runtime: Runtime,
    file: CandidateFile | None,
    problems: Sequence[Finding] = (),
) -> Placement:
    """Return the placement of a model on a device; `problems` explain a missing `file` for its architecture."""
    kind = kind_of(device_report.facts, runtime)

    def placement(
        status: PlacementStatus, why: str, found: Sequence[Finding], chosen: CandidateFile | None = None
    ) -> Placement:
        return Placement(device_report.device, model, status, device_report, kind, why, chosen, tuple(found))

    if not device_report.facts.machine and not device_report.facts.arch:
        why = "its facts are unknown: run `litefleet probe` when it is reachable"
        return placement(PlacementStatus.UNKNOWN, why, device_report.findings)
    against_file = _against_file(device_report, file, problems)
    if file is None or _errors(against_file):
        found = ranked([*against_file, *device_report.findings])
        return placement(PlacementStatus.EXCLUDED, _first(found), found)
    against_runtime = _against_runtime(device_report, runtime, file, kind)
    # Only these of the device's own findings count: whether it is reachable now does not matter here.
    asked = [f for f in device_report.findings if f.code in ("LF301", "LF314")]
    status = PlacementStatus.NO_RUNTIME if _errors([*against_runtime, *asked]) else PlacementStatus.READY
    found = ranked([*against_file, *against_runtime, *device_report.findings])
    return placement(status, _why(device_report, kind, runtime, file), found, file)


def _against_file(
    device_report: DeviceReport, file: CandidateFile | None, problems: Sequence[Finding]
) -> list[Finding]:
    arch = ARCHES.get(device_report.facts.arch)
    if arch is None:
        machine = device_report.facts.machine or "unknown"
        if arch_of(machine) is not None:  # no Python ran that could report the userland
            return [f for f in device_report.findings if f.severity is Severity.ERROR]
        return [finding("LF303", f"This device is {machine}.")]
    if file is None:
        return list(problems)
    features = frozenset(device_report.facts.cpu.features) or None
    return [*check_file(file.nb, arch, features), *check_environment(file.nb, device_report.facts)]


def _against_runtime(device_report: DeviceReport, runtime: Runtime, file: CandidateFile, kind: Kind) -> list[Finding]:
    found = list(runtime.findings)
    if runtime.published:
        found += check_cpu(device_report.facts, kind.isa, _PUBLISHED)
    if runtime.version and not any(f.severity is Severity.ERROR for f in runtime.findings):
        found += grade_versions(file.nb.opt_version, runtime.version)
    return found


def _errors(findings: Sequence[Finding]) -> bool:
    return any(f.severity is Severity.ERROR for f in findings)


def _first(findings: Sequence[Finding]) -> str:
    return f"{findings[0].code}: {findings[0].observed}" if findings else "no file can be made for it"


def _why(device_report: DeviceReport, kind: Kind, runtime: Runtime, file: CandidateFile) -> str:
    """Return the reason for a file in one line: the userland's architecture, the CPU, its features, the runtime."""
    machine = device_report.facts.machine
    programs = "" if machine in ("", kind.arch) else f" (its programs; the kernel is {machine})"
    parts = [f"{file.label} for {kind.arch}{programs}"]
    if kind.arch == "aarch64" and kind.features_known:
        parts.append("can fp16" if HALF_PRECISION in kind.features else "no fp16")
    parts += [runtime.label] if runtime.label else []
    return "; ".join(parts)


def needed_files(placements: Sequence[Placement]) -> tuple[NeededFile, ...]:
    """Return the files that serve all devices, each model's most used first."""
    groups: dict[tuple[str, str], list[Placement]] = {}
    for one in placements:
        if one.file is not None:
            groups.setdefault((one.model, one.file.sha256), []).append(one)
    models = list(dict.fromkeys(p.model for p in placements))
    ordered = sorted(groups.values(), key=lambda g: (models.index(g[0].model), -len(g)))
    return tuple(_needed(group) for group in ordered)


def _needed(group: Sequence[Placement]) -> NeededFile:
    first = group[0]
    assert first.file is not None
    return NeededFile(
        first.model,
        first.file,
        tuple(p.device for p in group),
        tuple(sorted({p.kind.arch for p in group})),
        tuple(sorted({part for p in group for part in p.kind.parts})),
    )
