"""One input of a run: the arrays of a model's inputs, read from files and checked against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.findings import Finding, finding
from litefleet_agent.formats.npz import MAX_LOD_OFFSETS
from litefleet_agent.session.infer import MAX_BODY, MAX_REQUESTS

from ..build.golden.files import LOD, Array, Tensor
from ..build.golden.own_inputs import check_inputs, read_inputs
from ..common.checked import number_or
from ..common.errors import UsageError
from ..config.choices import InputSpec
from ..config.preprocess import PreprocessConfig


@dataclass(frozen=True)
class Case:
    """One named input: `arrays` holds an array for each of the model's inputs, by the input's name.

    Beside an input of sequences (LoD), NAME@lod0 holds the offsets at which they begin, and the end, as int64.
    """

    name: str
    arrays: Mapping[str, Array]


def check_cases(cases: Sequence[Case], inputs: Sequence[Tensor], model: str) -> None:
    """Raise UsageError, in one sentence, for the first case that does not fit the model, and for too many or too large cases."""
    if not 0 < len(cases) <= MAX_REQUESTS:
        raise UsageError(f"{len(cases)} inputs were given; a run takes 1 to {MAX_REQUESTS}")
    for case in cases:
        check_inputs(case.name, case.arrays, inputs, model)
        offsets = sum(array.size for name, array in case.arrays.items() if name.endswith(LOD))
        if offsets > MAX_LOD_OFFSETS:
            raise UsageError(
                f"{case.name} has {offsets - 1} sequences (LoD); one input takes {MAX_LOD_OFFSETS - 1}: split it into several"
            )
    size = sum(array.nbytes for case in cases for array in case.arrays.values())
    if size > MAX_BODY:
        raise UsageError(f"the inputs have {size} bytes together; a run takes {MAX_BODY} bytes: give fewer at once")


def agent_too_old(hello: Mapping[str, object], cases: Sequence[Case]) -> tuple[Finding, ...]:
    """Return why the agent that gave this `hello` must not get the cases; empty for those it takes.

    An agent that announces no sequences would run their rows without them, and answer wrongly.
    """
    if number_or(hello.get("lod_levels"), 0, 100, 0) >= 1:
        return ()
    first = next((name for case in cases for name in case.arrays if name.endswith(LOD)), "")
    if not first:
        return ()
    observed = f"{first.removesuffix(LOD)} is an input of sequences (LoD), and the device's agent is older than those: update it."
    return (finding("LF422", observed),)


def header_of(case: Case, inputs: Sequence[Tensor]) -> dict[str, object]:
    """Return the header of the request on the wire: {inputs: [{name, dtype, dims, lod?}]}."""
    return {"inputs": [_described(tensor.name, case) for tensor in inputs]}


def _described(name: str, case: Case) -> dict[str, object]:
    value, offsets = case.arrays[name], case.arrays.get(name + LOD)
    described: dict[str, object] = {"name": name, "dtype": value.dtype.name, "dims": list(value.shape)}
    return described if offsets is None else {**described, "lod": [offsets.tolist()]}


def parts_of(case: Case, inputs: Sequence[Tensor]) -> list[bytes]:
    """Return a case's data, little-endian, in the order of the model's inputs."""
    values = [case.arrays[t.name] for t in inputs]
    return [value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes() for value in values]


def read_cases(
    files: Sequence[Path],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    how: PreprocessConfig | None,
    model: str,
    given: Mapping[str, InputSpec] | None = None,
) -> tuple[Case, ...]:
    """Return one case per file; UsageError, in one sentence, for files that do not fit the model.

    `given` is what litefleet.yaml states of inputs that a file does not hold.
    """
    cases = tuple(Case(*one) for one in read_inputs(files, inputs, outputs, how, model, given))
    check_cases(cases, inputs, model)
    return cases
