"""The results of an inference on the fleet: each device's outputs and their differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from litefleet_agent.findings import Verdict, finding
from litefleet_agent.formats.npz import Lod

from ..build.golden.files import Array, canonical_npz, lod_arrays
from ..common.errors import LitefleetError, UsageError
from ..common.files import write_atomically
from ..common.lazy import numpy as np
from ..devices.outcome import DeviceOutcome
from .compare import Difference

_SHOWN = 1000  # numbers of one output in the JSON document


@dataclass(frozen=True)
class CaseAnswer:
    """One device's answer to one input: outputs by name, or an error; `ms` (run time) is None where it was not reported.

    `lods` holds, by name, the sequences of the outputs that have some: for each level the offsets at which they begin, and
    the end.
    """

    case: str
    outputs: Mapping[str, Array]
    ms: float | None = None
    error: str = ""
    lods: Mapping[str, Lod] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form; of large outputs without the numbers themselves."""
        record = [_output(name, array, self.lods.get(name, ())) for name, array in self.outputs.items()]
        return {"input": self.case, "ms": self.ms, "error": self.error, "outputs": record}


def _output(name: str, array: Array, lod: Lod) -> dict[str, object]:
    """Return {name, dtype, dims, values, lod?}: nested lists, None for what is too large or holds NaN."""
    shown = array.size <= _SHOWN and np.isfinite(array).all()
    values = array.tolist() if shown else None
    record = {"name": name, "dtype": array.dtype.name, "dims": list(array.shape), "values": values}
    return {**record, "lod": [list(level) for level in lod]} if lod else record


@dataclass(frozen=True)
class DeviceAnswer:
    """One device's result; `by` is "service" or "one-shot", "" where nothing ran; `precision` is the file's, as "fp32"."""

    outcome: DeviceOutcome
    by: str = ""
    precision: str = ""
    cases: tuple[CaseAnswer, ...] = ()

    @property
    def device(self) -> str:
        """The device's name."""
        return self.outcome.device

    @property
    def sentence(self) -> str:
        """The one line that says why, or that all is well."""
        return self.outcome.sentence if self.outcome.findings else f"answered {len(self.cases)} of {len(self.cases)}"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        record = self.outcome
        return {
            "device": record.device,
            "verdict": record.verdict.value,
            "sentence": self.sentence,
            "findings": [f.to_dict() for f in record.findings],
            "release": record.release,
            "by": self.by,
            "precision": self.precision,
            "inputs": [case.to_dict() for case in self.cases],
            "steps": dict(record.steps),
        }


@dataclass(frozen=True)
class InferenceReport:
    """One inference over the fleet; `majority` names, by input, the device whose answer most agree on ("": no majority)."""

    model: str
    started_at: str  # ISO 8601, UTC
    seconds: float
    cases: tuple[str, ...]
    answers: tuple[DeviceAnswer, ...]
    majority: Mapping[str, str]
    differences: tuple[Difference, ...] = ()
    files: tuple[str, ...] = ()  # where the outputs were written
    reference_engine: str = ""  # the reference's name, "PaddlePaddle 2.6.2"; "" where none was asked
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 when every device answered, and all agree within the tolerance; 4 after Ctrl-C."""
        if self.interrupted:
            return 4
        return 0 if all(a.outcome.verdict is Verdict.VERIFIED for a in self.answers) and not self.undecided else 1

    @property
    def undecided(self) -> tuple[str, ...]:
        """The inputs on whose answer no majority of the devices agrees."""
        differing = {d.case for d in self.differences if not d.agrees}
        return tuple(case for case, device in self.majority.items() if not device and case in differing)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": 1,
            "command": "infer",
            "model": self.model,
            "started_at": self.started_at,
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
            "inputs": list(self.cases),
            "reference": self.reference_engine,
            "devices": [answer.to_dict() for answer in self.answers],
            "majority": dict(self.majority),
            "differences": [difference.to_dict() for difference in self.differences],
            "files": list(self.files),
        }

    def to_json(self) -> str:
        """Return the JSON document."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def judged(answer: DeviceAnswer, differences: tuple[Difference, ...], majority: Mapping[str, str]) -> DeviceAnswer:
    """Return the answer, with the verdict `wrong` where it differs from the reference or from a majority."""
    own = [d for d in differences if d.device == answer.device and not d.agrees]
    counted = [d for d in own if d.against == "reference" or majority.get(d.case)]
    if not counted or answer.outcome.verdict is not Verdict.VERIFIED:
        return answer
    first = counted[0]
    whose = "the reference" if first.against == "reference" else f"{first.against}, as most devices answer"
    observed = f"For {first.case}, output {first.output} differs from {whose}: {first.found.reason}."
    code = "LF404" if first.found.problem == "non-finite" else "LF403"
    return replace(answer, outcome=replace(answer.outcome, verdict=Verdict.WRONG, findings=(finding(code, observed),)))


def usable_folder(folder: Path) -> Path:
    """Create the folder for outputs if it is missing and return it.  UsageError when it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: cannot create {folder}: {error.strerror}") from error
    return folder


def save(folder: Path, model: str, answers: tuple[DeviceAnswer, ...]) -> tuple[str, ...]:
    """Write each answer's outputs as DEVICE-MODEL-INPUT.npz and return the paths.  LitefleetError when one cannot be written."""
    paths = []
    for answer in answers:
        for case in answer.cases:
            if case.outputs:
                path = folder / f"{answer.device}-{model}-{case.case}.npz".replace("/", "_")
                try:
                    write_atomically(path, canonical_npz({**case.outputs, **lod_arrays(case.lods)}))
                except OSError as error:
                    raise LitefleetError(f"cannot write {path}: {error.strerror}") from error
                paths.append(str(path))
    return tuple(paths)
