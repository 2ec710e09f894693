"""One input of a run: the arrays of a model's inputs, checked against the model.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from litefleet_agent.session.infer import MAX_BODY, MAX_REQUESTS

from ..build.golden.files import LOD, Array, Tensor
from ..build.golden.own_inputs import check_inputs
from ..common.errors import UsageError


@dataclass(frozen=True)
class Case:
    """One named input: `arrays` holds an array for each of the model's inputs, by the input's name."""

    name: str
    arrays: Mapping[str, Array]


def check_cases(cases: Sequence[Case], inputs: Sequence[Tensor], model: str) -> None:
    """Raise UsageError, in one sentence, for the first case that does not fit the model, and for too many or too large cases."""
    if not 0 < len(cases) <= MAX_REQUESTS:
        raise UsageError(f"{len(cases)} inputs were given; a run takes 1 to {MAX_REQUESTS}")
    for case in cases:
        check_inputs(case.name, case.arrays, inputs, model)
        if any(name.endswith(LOD) for name in case.arrays):
            raise UsageError(
                f"{case.name}: {model} takes sequences (LoD), which `infer` and the service do not carry; golden cases do: "
                "`litefleet verify` runs them on the devices"
            )
    size = sum(array.nbytes for case in cases for array in case.arrays.values())
    if size > MAX_BODY:
        raise UsageError(f"the inputs have {size} bytes together; a run takes {MAX_BODY} bytes: give fewer at once")


def header_of(case: Case, inputs: Sequence[Tensor]) -> dict[str, object]:
    """Return the header of the request on the wire: {inputs: [{name, dtype, dims}]}."""
    tensors = [(t.name, case.arrays[t.name]) for t in inputs]
    return {"inputs": [{"name": n, "dtype": a.dtype.name, "dims": list(a.shape)} for n, a in tensors]}


def parts_of(case: Case, inputs: Sequence[Tensor]) -> list[bytes]:
    """Return a case's data, little-endian, in the order of the model's inputs."""
    values = [case.arrays[t.name] for t in inputs]
    return [value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes() for value in values]
