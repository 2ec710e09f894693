"""The advice as one value, and its JSON form.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .kinds import Kind
from .options import Option, Proof
from .variants import NeededFile, Placement, PlacementStatus


@dataclass(frozen=True)
class KindAdvice:
    """The advice for one kind of device."""

    kind: Kind
    devices: tuple[str, ...]
    options: tuple[Option, ...]  # the most useful first
    proofs: tuple[Proof, ...] = ()  # empty: no variant is confirmed on this CPU part yet

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        kind = self.kind
        return {
            "kind": kind.name,
            "arch": kind.arch,
            "parts": list(kind.parts),
            "features": list(kind.features),
            "libc": kind.libc,
            "python": kind.python,
            "runtime": kind.runtime,
            "devices": list(self.devices),
            "proofs": [proof.to_dict() for proof in self.proofs],
            "options": [option.to_dict() for option in self.options],
        }


@dataclass(frozen=True)
class OptionBenchmark:
    """One option of one model, converted and verified on this machine."""

    model: str
    version: str  # of converter and runtime
    option: str  # "plain", "int8", "int16"
    verdict: str  # a Verdict's word
    sentence: str = ""  # why it is not verified
    code: str = ""
    max_abs: float | None = None  # None: nothing was compared, or it was not finite
    size: int = 0  # bytes of the file; 0 = none was made
    load_ms: float | None = None
    run_ms: float | None = None  # median
    accuracy: float | None = None  # the score on the model's data set, 0 to 1; None without one
    reference: float | None = None  # the reference engine's score on the same data

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Advice:
    """The files that a fleet needs, the file of each device, and the options of each kind."""

    models: tuple[str, ...]
    files: tuple[NeededFile, ...]
    placements: tuple[Placement, ...]
    kinds: tuple[KindAdvice, ...]
    benchmarks: tuple[OptionBenchmark, ...] = ()
    notes: tuple[str, ...] = ()  # what is not part of the advice, and why
    now: float = 0.0  # seconds since the epoch, for the age of facts

    def status(self, status: PlacementStatus) -> tuple[Placement, ...]:
        """Return the placements with this status."""
        return tuple(p for p in self.placements if p.status is status)

    @property
    def exit_code(self) -> int:
        """0 when every device has its file and a runtime, else 1."""
        return 0 if all(p.status is PlacementStatus.READY for p in self.placements) else 1

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "advise",
            "exit_code": self.exit_code,
            "models": list(self.models),
            "files": [file.to_dict() for file in self.files],
            "devices": [placement.to_dict() for placement in self.placements],
            "kinds": [kind.to_dict() for kind in self.kinds],
            "trials": [benchmark.to_dict() for benchmark in self.benchmarks],
            "notes": list(self.notes),
        }
