"""A variant: one conversion of one source, with its targets, options and converter version.  Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from litefleet_agent.facts.arch import ARCHES, Arch

from ...common.errors import FindingError, UsageError
from ...config.choices import CPU_TARGETS, DEFAULT_PADDLELITE, TARGETS, split_targets, target_hint

QUANTS = ("", "int8", "int16")


@dataclass(frozen=True)
class Variant:
    """One conversion; equal variants give equal bytes.  `make_variant` makes a checked one."""

    source_sha256: str
    target: str  # canonical: accelerators first, one CPU last ("x86", "arm", "opencl,arm")
    fp16: bool = False
    quant: str = ""  # "", "int8" or "int16": weights only
    opt_version: str = DEFAULT_PADDLELITE

    @property
    def key(self) -> str:
        """The SHA-256 that names this variant in the cache."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def label(self) -> str:
        """A short name for people: "arm", "opencl,arm fp16"."""
        return " ".join(filter(None, [self.target, "fp16" if self.fp16 else "", self.quant]))


def parse_targets(text: str) -> tuple[str, ...]:
    """Read "opencl,arm" (commas or spaces) into targets, accelerators first: opt takes the first that has a kernel.

    Raises: UsageError for nothing or an unknown name; FindingError with LF102 for two CPU instruction sets.
    """
    names = split_targets(text)
    if not names:
        raise UsageError("No target is named. Name one CPU target, x86 or arm, with or without an accelerator.")
    for name in names:
        if name not in TARGETS:
            sentence = f"Unknown target {name!r}{target_hint(name)}"
            raise UsageError(sentence if sentence.endswith("?") else f"{sentence}.")
    cpus = [name for name in CPU_TARGETS if name in names]
    if len(cpus) > 1:
        observed = f"The targets {','.join(dict.fromkeys(names))!r} ask for the kernels of two CPUs in one file."
        raise FindingError.of("LF102", observed)
    return (*(name for name in dict.fromkeys(names) if name not in CPU_TARGETS), *cpus)


def make_variant(
    source_sha256: str, targets: str, *, fp16: bool = False, quant: str = "", opt_version: str = DEFAULT_PADDLELITE
) -> Variant:
    """Return the checked variant.

    Raises: UsageError or FindingError as `parse_targets` does; UsageError for an unknown quantisation; FindingError
    with LF112 for fp16 with int8 and LF104 for fp16 on x86.
    """
    parsed = parse_targets(targets)
    if quant not in QUANTS:
        raise UsageError(f"Unknown weight quantisation {quant!r}; known are int8 and int16.")
    if fp16 and quant:
        raise FindingError.of("LF112", f"fp16 and {quant} are asked for in one file.")
    if fp16 and "x86" in parsed:
        raise FindingError.of("LF104", "fp16 is asked for on x86, where Paddle-Lite has no fp16 kernels.")
    return Variant(source_sha256, ",".join(parsed), fp16, quant, opt_version)


def target_arch(target: str) -> Arch | None:
    """Return a 64-bit architecture that runs a target's file; None when the target names an accelerator alone."""
    cpus = [name for name in target.split(",") if name in CPU_TARGETS]
    return ARCHES["x86_64" if cpus[0] == "x86" else "aarch64"] if cpus else None
