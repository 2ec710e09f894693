"""Gain and risk of fp16, quantised weights or another Paddle-Lite on one kind of device: rules as data.  Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .kinds import HALF_PRECISION, Kind

Sizes = Mapping[str, Mapping[str, int]]  # model -> option ("plain", "fp16", "int8", "int16") -> bytes of its file


class Level(enum.StrEnum):
    """The basis of a statement."""

    MEASURED = "measured"  # by litefleet's developers or on this machine
    DOCUMENTED = "documented"  # by Paddle-Lite, in public
    REPORTED = "reported"  # by a user, in a public thread
    REASONED = "reasoned"  # derived from other facts, not measured


class Possible(enum.StrEnum):
    """Whether an option is available to a kind of device."""

    IN_USE = "in use"
    YES = "yes"
    NEEDS = "needs something first"
    UNKNOWN = "not known"
    NO = "no"


@dataclass(frozen=True)
class Evidence:
    """One statement that supports an option, and its basis."""

    level: Level
    text: str

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"level": self.level.value, "text": self.text}


@dataclass(frozen=True)
class Proof:
    """A variant of a model that is confirmed on devices with this CPU, from the state database."""

    arch: str
    parts: tuple[str, ...]
    model: str
    label: str  # "arm fp16"
    opt_version: str
    devices: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "model": self.model,
            "variant": self.label,
            "opt_version": self.opt_version,
            "devices": self.devices,
        }


@dataclass(frozen=True)
class Option:
    """One change that is possible for one kind of device."""

    name: str  # "fp16", "int8 weights", "Paddle-Lite 2.12"
    possible: Possible
    because: str  # the reason for `possible`
    gain: str
    risk: str
    evidence: tuple[Evidence, ...]
    do: str = ""  # the setting or command that tries it
    use: int = 0  # its usual gain, for the order; more is better

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "option": self.name,
            "possible": self.possible.value,
            "because": self.because,
            "gain": self.gain,
            "risk": self.risk,
            "evidence": [one.to_dict() for one in self.evidence],
            "do": self.do,
        }


Answer = tuple[Possible, str]


@dataclass(frozen=True)
class _Rule:
    key: str  # as `Sizes` names it
    name: str
    judge: Callable[[Kind], Answer]
    gain: str
    risk: str
    evidence: tuple[Evidence, ...]
    do: str
    use: int


def _half(kind: Kind) -> Answer:
    if kind.isa != "arm":
        return Possible.NO, "Paddle-Lite has no fp16 kernels for x86 (LF104)"
    if kind.arch != "aarch64":
        return Possible.NO, "litefleet gives fp16 files to 64-bit programs only (LF104)"
    if not kind.features_known:
        return Possible.UNKNOWN, f"the CPU's features are not known; fp16 needs {HALF_PRECISION}"
    if HALF_PRECISION not in kind.features:
        return Possible.NO, f"this CPU has no {HALF_PRECISION} (ARMv8.2 half precision, LF104)"
    return Possible.NEEDS, "the CPU can; the runtime must be built with fp16 (`--with_arm82_fp16=ON`)"


def _small(kind: Kind) -> Answer:
    if kind.isa == "x86":
        return Possible.UNKNOWN, (
            "on x86 quantised weights are right in convolutions and wrong in fully connected layers (NaN, or another class; "
            "LF111): `litefleet advise --measure` tries each model"
        )
    return Possible.YES, "no special CPU or build is known to be needed"


_DYNAMIC = "Paddle-Lite's guide to dynamic post-training quantisation"
_SAME = "the weights become fp32 again when the model is loaded: not less memory, and a run is not faster"
_RULES = (
    _Rule(
        "fp16",
        "fp16",
        _half,
        "half-precision kernels: twice as many numbers for each vector instruction",
        "numbers above 65504 overflow to Inf and NaN, weights and what is computed alike; a plain runtime aborts "
        "at 'calib'",
        (
            Evidence(Level.REASONED, "ARMv8.2 computes eight fp16 numbers at once, four in fp32; measure it"),
            Evidence(Level.MEASURED, "a plain aarch64 runtime v2.13-rc aborts on an fp16 file ('calib'), in emulation"),
            Evidence(Level.REPORTED, "NaN from an fp16 MobileNetV3 on a T610: PaddlePaddle/Paddle-Lite#10402"),
            Evidence(Level.REPORTED, "refused or SIGILL without ARMv8.2: PaddlePaddle/Paddle-Lite#8707, #9192"),
        ),
        "`options: {{{arch}: {{fp16: true}}}}` under the model, and the fp16 build under `runtimes: {{{arch}: ...}}`",
        3,
    ),
    _Rule(
        "int8",
        "int8 weights",
        _small,
        f"a smaller file to send and store; {_SAME}",
        "the answers change a little; the proof against the golden says whether it is too much",
        (
            Evidence(
                Level.DOCUMENTED, f"{_DYNAMIC}: 1/4 of the size, accuracy suffers, only computed after conversion back"
            ),
            Evidence(
                Level.MEASURED, "right on an aarch64 runtime v2.13-rc in emulation; NaN on x86_64 (PP-OCR models)"
            ),
        ),
        "`options: {{{arch}: {{quant: int8}}}}` under the model",
        2,
    ),
    _Rule(
        "int16",
        "int16 weights",
        _small,
        f"a smaller file to send and store; {_SAME}",
        "hardly any loss of accuracy is to be expected; the proof against the golden says so",
        (
            Evidence(Level.DOCUMENTED, f"{_DYNAMIC}: 1/2 of the size, accuracy not affected"),
            Evidence(Level.MEASURED, "NaN or a constant on x86_64 (PP-OCR models); not measured on ARM"),
        ),
        "`options: {{{arch}: {{quant: int16}}}}` under the model",
        1,
    ),
)

_NEWS = {
    "2.13rc0": Evidence(
        Level.DOCUMENTED,
        "release notes of v2.13-rc: INT8 ERNIE 3.0 models run 30 % to 100 % faster on ARM CPUs, more operators",
    )
}


def options_for(
    kind: Kind,
    sizes: Sizes,
    published: Mapping[str, Sequence[str]],
    versions: Sequence[str],
    in_use: Sequence[str] = (),
    current: str = "",
) -> tuple[Option, ...]:
    """Return the options for a kind of device, the most useful first.

    `published` gives the CPythons that each version's x86_64 wheel is for; `versions` are the known ones, the newest
    first; `in_use` names the options that the configuration has; `current` is the converter's version.
    """
    if not kind.isa:
        return ()
    found = [_option(rule, kind, sizes, rule.key in in_use) for rule in _RULES]
    found += [_version(kind, version, published, versions, current) for version in versions if version != current]
    return tuple(sorted(found, key=lambda option: (option.possible is Possible.NO, -option.use)))


def _option(rule: _Rule, kind: Kind, sizes: Sizes, in_use: bool) -> Option:
    possible, because = rule.judge(kind)
    if in_use and possible is not Possible.NO:
        possible, because = Possible.IN_USE, "litefleet.yaml asks for it"
    measured = _compared(sizes, rule.key)
    evidence = rule.evidence
    if measured:
        evidence = (Evidence(Level.MEASURED, f"converted now: {measured}"), *evidence)
    do = rule.do.format(arch=kind.arch) if possible in (Possible.YES, Possible.NEEDS, Possible.UNKNOWN) else ""
    return Option(rule.name, possible, because, rule.gain, rule.risk, evidence, do, rule.use)


def _compared(sizes: Sizes, key: str) -> str:
    """Return "cls 571 kB to 160 kB (28 %)" for each model that was converted both ways."""
    pairs = [(name, by["plain"], by[key]) for name, by in sizes.items() if by.get("plain") and key in by]
    sizes_text = [f"{name} {a / 1e3:,.0f} kB to {b / 1e3:,.0f} kB ({b / a:.0%})" for name, a, b in pairs]
    return ", ".join(sizes_text)


def _version(
    kind: Kind, version: str, published: Mapping[str, Sequence[str]], versions: Sequence[str], current: str
) -> Option:
    newer = current in versions and versions.index(version) < versions.index(current)
    possible, because = _runtime_of(kind, version, published.get(version, ()))
    evidence = [
        Evidence(
            Level.MEASURED,
            "files of 2.12 on the runtime 2.13rc0, and the reverse, gave right answers on x86_64 "
            "(PP-OCR classifier and recogniser), with a warning",
        )
    ]
    evidence = [_NEWS[version], *evidence] if version in _NEWS else evidence
    if version == "2.10":
        evidence.append(Evidence(Level.MEASURED, "its converter refuses two PP-OCR models for x86: no matmul_v2"))
    gain = "operators and speed of a newer release" if newer else "files and runtime alike where a device stays on it"
    risk = "file and runtime must go together: a difference is LF108; every proof has to be made again"
    if not newer:
        risk += "; fewer operators"
    # A project has one converter: the setting cannot name a kind.
    do = f"`toolchain: {{paddlelite: {version}}}`, then `litefleet plan`" if possible is not Possible.NO else ""
    return Option(f"Paddle-Lite {version}", possible, because, gain, risk, tuple(evidence), do, 3 if newer else 0)


def _runtime_of(kind: Kind, version: str, pythons: Sequence[str]) -> Answer:
    if kind.arch != "x86_64":
        return Possible.NEEDS, f"no wheel is published for {kind.arch}: you would build the runtime {version} yourself"
    if kind.libc == "musl":
        return Possible.NEEDS, f"the published wheels need glibc: you would build the runtime {version} yourself"
    if not pythons:
        return Possible.UNKNOWN, f"no wheel of {version} is known"
    named = " or ".join(pythons)
    if kind.python in ["cp" + python.replace(".", "") for python in pythons]:
        return Possible.YES, f"its wheel is published for this CPython ({named})"
    if not kind.python.startswith("cp3"):
        return Possible.NEEDS, "its wheel needs a CPython on the device (`python:` in the inventory)"
    return Possible.YES, f"its wheel is for CPython {named}; other interpreters use the C++ library in it"
