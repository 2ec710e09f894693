"""`engine:` of a model in litefleet.yaml: threads, power mode, OpenCL and NNAdapter, for all architectures and for one.

Where a cache lies is not a setting: it is a folder of the release under the agent's root, and goes with the release.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Literal, Self

from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.formats.engine_settings import (
    MOST_DEVICES,
    MOST_PROPERTIES,
    MOST_THREADS,
    PROPERTIES,
    EngineSettings,
    NNAdapterSettings,
    OpenCLSettings,
)
from pydantic import Field, field_validator, model_validator

from .base import Strict
from .choices import ACCELERATORS

# Accelerators of the converter that are no NNAdapter devices: backends of their own.
_OWN_BACKENDS = frozenset(("opencl", "metal", "xpu", "intel_fpga"))
NNADAPTER_DEVICES = tuple(name for name in ACCELERATORS if name not in _OWN_BACKENDS)
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^;]*")


class OpenCLConfig(Strict):
    """Settings of Paddle-Lite's OpenCL backend; None and False leave them to it."""

    tune: Literal["none", "rapid", "normal", "exhaustive"] | None = None
    precision: Literal["auto", "fp32", "fp16"] | None = None
    binary_cache: bool = False  # compiled kernels and tuning results stay on the device


class NNAdapterConfig(Strict):
    """Settings of NNAdapter, through which Paddle-Lite uses NPUs."""

    devices: Annotated[tuple[str, ...], Field(max_length=MOST_DEVICES)] = ()
    context_properties: Annotated[str, Field(max_length=MOST_PROPERTIES)] = ""  # "KEY=VALUE;KEY=VALUE;"
    model_cache: bool = False  # compiled models stay on the device

    @field_validator("devices")
    @classmethod
    def _known(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        for name in devices:
            if name not in NNADAPTER_DEVICES:
                near = difflib.get_close_matches(name, NNADAPTER_DEVICES, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(NNADAPTER_DEVICES)}"
                own = f"{name} is a backend of its own: " if name in _OWN_BACKENDS else ""
                raise ValueError(f"{own}{name[:60]!r} is not a device of Paddle-Lite's NNAdapter; {hint}")
        if len(set(devices)) < len(devices):
            raise ValueError("a device is named twice")
        return devices

    @field_validator("context_properties")
    @classmethod
    def _pairs(cls, properties: str) -> str:
        pairs = [part for part in properties.split(";") if part.strip()]
        wrong = [part for part in pairs if not _PROPERTY.fullmatch(part.strip())]
        if wrong or not PROPERTIES.match(properties):
            shown = (wrong or [properties])[0][:60]
            raise ValueError(f"{shown!r} is no KEY=VALUE: write pairs with `;` between them, in ASCII on one line")
        return properties

    @model_validator(mode="after")
    def _for_a_device(self) -> Self:
        if not self.devices and (self.context_properties or self.model_cache):
            raise ValueError(f"give `devices:` too, some of {', '.join(NNADAPTER_DEVICES)}")
        return self


class EngineOptions(Strict):
    """What is asked of Paddle-Lite; None leaves it to Paddle-Lite."""

    threads: Annotated[int, Field(ge=1, le=MOST_THREADS, strict=True)] | None = None
    power_mode: Literal["high", "low", "full", "no_bind", "rand_high", "rand_low"] | None = None
    opencl: OpenCLConfig | None = None
    nnadapter: NNAdapterConfig | None = None

    def settings(self) -> EngineSettings:
        """Return them as manifests and the agent have them, by Paddle-Lite's own names."""
        opencl, nnadapter = self.opencl or OpenCLConfig(), self.nnadapter or NNAdapterConfig()
        return EngineSettings(
            self.threads or 0,
            _name("LITE_POWER_", self.power_mode),
            OpenCLSettings(
                _name("CL_TUNE_", opencl.tune), _name("CL_PRECISION_", opencl.precision), opencl.binary_cache
            ),
            NNAdapterSettings(nnadapter.devices, nnadapter.context_properties, nnadapter.model_cache),
        )


class EngineConfig(EngineOptions):
    """Settings for every architecture, and under an architecture's name the ones that differ for it."""

    x86_64: EngineOptions | None = None
    i686: EngineOptions | None = None
    aarch64: EngineOptions | None = None
    armv7l: EngineOptions | None = None

    def for_arch(self, arch: str) -> EngineSettings:
        """Return what is asked on one architecture: each key of its own block replaces the general one, `null` removes it."""
        own: EngineOptions | None = getattr(self, arch, None) if arch in ARCHES else None
        merged = {name: getattr(self, name) for name in EngineOptions.model_fields}
        if own is not None:
            merged.update((name, getattr(own, name)) for name in own.model_fields_set)
        return EngineOptions.model_construct(**merged).settings()

    @property
    def asks(self) -> bool:
        """Whether anything is asked for anywhere."""
        return any(self.for_arch(arch) != EngineSettings() for arch in ARCHES)


def _name(prefix: str, word: str | None) -> str:
    return prefix + word.upper() if word else ""
