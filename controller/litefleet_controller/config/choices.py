"""Values that configuration and build share: converter targets, published versions, runtime choices, golden specs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from litefleet_agent.facts.arch import ARCHES, Arch, arch_of

from ..common.errors import UsageError
from .preprocess import PreprocessConfig

# Paddle-Lite version, the newest first -> the CPythons with an x86_64 Linux wheel on PyPI, the oldest first.
PUBLISHED_PYTHONS: Mapping[str, tuple[str, ...]] = {
    "2.13rc0": ("3.8", "3.10"),
    "2.12": ("3.7",),
    "2.10": ("3.9",),
}
DEFAULT_PADDLELITE = "2.13rc0"  # the newest version with published wheels

# CPU instruction sets: a file for two of them crashes or returns NaN on both (LF102).
CPU_TARGETS = ("x86", "arm")
_NEW = ("2.13rc0",)
_SINCE_212 = ("2.13rc0", "2.12")
_UNTIL_212 = ("2.12", "2.10")
_EVERY = ("2.13rc0", "2.12", "2.10")
# Accelerator -> the versions whose converter accepts it in --valid_targets.  The published converters were asked.
ACCELERATORS: Mapping[str, tuple[str, ...]] = {
    "opencl": _EVERY,
    "metal": _EVERY,
    "xpu": _EVERY,
    "cambricon_mlu": _NEW,
    "huawei_ascend_npu": _EVERY,
    "imagination_nna": _EVERY,
    "mediatek_apu": _EVERY,
    "huawei_kirin_npu": _EVERY,
    "verisilicon_timvx": _SINCE_212,
    "android_nnapi": _SINCE_212,
    "eeasytech_npu": _SINCE_212,
    "qualcomm_qnn": _SINCE_212,
    "kunlunxin_xtcl": _SINCE_212,
    "rockchip_npu": _EVERY,
    "amlogic_npu": _EVERY,
    "intel_fpga": _UNTIL_212,
}
TARGETS = (*CPU_TARGETS, *ACCELERATORS)


def split_targets(text: str) -> tuple[str, ...]:
    """Return the lower-case names in "opencl, arm" (commas or spaces), in the order written; they may be unknown."""
    return tuple(name for name in re.split(r"[\s,]+", text.strip().lower()) if name)


def arch_of_option(name: str) -> Arch:
    """Return the architecture that `--for` names.  Raises: UsageError when Paddle-Lite does not run on it."""
    arch = arch_of(name)
    if arch is None:
        raise UsageError(f"--for {name}: Paddle-Lite has no CPU backend for it; known are {', '.join(ARCHES)}")
    return arch


def target_hint(name: str) -> str:
    """Return how to correct an unknown target: "; did you mean 'opencl'?", or the list of known ones."""
    arch = arch_of(name)
    if arch is not None:
        return f"; for {name} the target is {ARCHES[arch.name].target!r}"
    near = difflib.get_close_matches(name, TARGETS, 1)
    near += [target for target in TARGETS if name in target.split("_") and target not in near]
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; known are {', '.join(TARGETS)}"


def versions_with_target(name: str) -> tuple[str, ...]:
    """Return the published Paddle-Lite versions whose converter knows the target, the newest first."""
    return _EVERY if name in CPU_TARGETS else ACCELERATORS.get(name, ())


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime that the configuration names: published wheels, one wheel file, a folder, Paddle-Lite's C++ library (in a
    release archive, or the file alone), or the device's own.
    """

    kind: Literal["wheels", "wheel", "folder", "library", "system"] = "wheels"
    paddlelite: str = DEFAULT_PADDLELITE  # the version, for kind "wheels"
    numpy: str = "numpy<2"  # a requirement; "" for none
    path: Path = Path()  # for kinds "wheel", "folder" and "library"


Numbers = float | tuple["Numbers", ...]  # a number, or nested lists of them


@dataclass(frozen=True)
class InputSpec:
    """What litefleet.yaml states of one input: () and None where it states nothing.

    `plain` is a list without a key: dims where it fits the model's, else the value of one row (`im_shape: [320, 320]`).
    """

    plain: tuple[float, ...] = ()
    dims: tuple[float, ...] = ()
    value: Numbers | None = None  # the same in every case
    range: tuple[float, float] | None = None  # from which values are drawn
    lengths: tuple[int, ...] = ()  # of the sequences that the first dimension consists of (LoD level 1)


MetricName = Literal["top1", "map50", "iou", "exact", "cer"]


@dataclass(frozen=True)
class AccuracySpec:
    """How a model's accuracy is measured on labelled data, and what a device must reach; all scores are from 0 to 1."""

    dataset: Path  # a folder, or a CSV file with the columns path and label
    metric: MetricName
    least: float | None = None  # the score that a device must reach; None: any
    drop: float | None = 0.01  # how far its score may be below the reference engine's; None: any
    output: str = ""  # the output that is judged; "" = the first
    characters: Path | None = None  # for cer: one character per line, in the order of the model's classes
    reference: Path | None = None  # the source model whose score counts as the reference; None: the model's own
    samples: int = 10_000  # of a larger data set, this many are used, evenly spaced


@dataclass(frozen=True)
class GoldenSpec:
    """How a model's golden outputs are made; `inputs` states sizes and values, by input name."""

    engine: Literal["paddle", "paddlelite", "files"] = "paddle"
    files: tuple[Path, ...] = ()
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    own: tuple[Path, ...] = ()  # files that hold inputs: .npz, .npy, pictures; one case each
    preprocess: PreprocessConfig | None = None  # of pictures among them
    cases: int = 2
    seed: int = 0
    paddlelite: str = DEFAULT_PADDLELITE  # the version, for engine "paddlelite"
    refuse: bool = True  # a golden that cannot tell the model from constants
