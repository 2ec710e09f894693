"""Reads a device's answer to `infer`: names, types, sizes and bytes must be consistent.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from litefleet_agent.errors import AgentError
from litefleet_agent.findings import Finding, finding, finding_of_error
from litefleet_agent.formats.checked import shortened
from litefleet_agent.formats.npz import DTYPES, Lod, read_lod
from litefleet_agent.protocol import ProtocolError

from ..build.golden.files import Array
from ..common.checked import number_or
from ..common.lazy import numpy as np
from .report import CaseAnswer

_MOST_OUTPUTS = 64
# error code of the service -> finding; other codes have no finding of their own
_ERRORS = {"timed-out": "LF408", "bad-output": "LF404", "busy": "LF620", "not-ready": "LF619", "bad-request": "LF422"}


def reported_findings(result: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return the findings that kept the device from running, empty if it ran.  ProtocolError for no list of findings."""
    try:
        reported = result.get("findings") or []
        if not isinstance(reported, list):
            raise TypeError("not a list")
        return tuple(Finding.from_dict(item) for item in reported)
    except (AgentError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError("the device's findings are none") from error


def read_answers(
    result: Mapping[str, object], data: bytes, cases: Sequence[str]
) -> tuple[tuple[CaseAnswer, ...], tuple[Finding, ...]]:
    """Return an answer for each case, and the findings of those that failed.

    Raises ProtocolError when the answer is inconsistent.
    """
    reported = result.get("requests")
    if (
        not isinstance(reported, list)
        or len(reported) != len(cases)
        or not all(isinstance(one, dict) for one in reported)
    ):
        raise ProtocolError(f"the answer does not have {len(cases)} requests")
    answers: list[CaseAnswer] = []
    found: list[Finding] = []
    at = 0
    for case, one in zip(cases, reported, strict=True):
        if "error" in one:
            failed = _failure(one["error"])
            found.append(failed)
            answers.append(CaseAnswer(case, {}, error=failed.observed))
            continue
        outputs, lods, at = _outputs(one, data, at)
        found += [finding("LF404", f"For {case}, the output {name} holds NaN or Inf.") for name in _not_finite(outputs)]
        answers.append(CaseAnswer(case, outputs, _figure(one.get("ms")), lods=lods))
    if at != len(data):
        raise ProtocolError(f"the outputs take {at} bytes, and {len(data)} bytes arrived")
    return tuple(answers), tuple(dict.fromkeys(found))


def split_not_kept(result: Mapping[str, object], cases: int) -> tuple[Mapping[str, object], frozenset[int]]:
    """Return the answer without the requests whose named data the device does not keep, and the places of those.

    Raises ProtocolError when the answer does not have as many requests as cases.
    """
    reported = result.get("requests")
    if not isinstance(reported, list) or len(reported) != cases:
        raise ProtocolError(f"the answer does not have {cases} requests")
    lacking = frozenset(place for place, one in enumerate(reported) if _code(one) == "inputs-not-kept")
    return {**result, "requests": [one for place, one in enumerate(reported) if place not in lacking]}, lacking


def _code(entry: object) -> object:
    error = entry.get("error") if isinstance(entry, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def _not_finite(outputs: Mapping[str, Array]) -> list[str]:
    """Return the names of outputs with NaN or Inf, which an intact agent rejects itself."""
    return [name for name, array in outputs.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def _failure(error: object) -> Finding:
    if not isinstance(error, dict):
        raise ProtocolError("the device's error is not a JSON object")
    code, message = str(error.get("code")), shortened(str(error.get("message")), 2000)
    given = error.get("finding")
    if isinstance(given, dict):
        return reported_findings({"findings": [given]})[0]
    return finding(_ERRORS[code], message) if code in _ERRORS else finding_of_error(code, message)


def _outputs(one: Mapping[str, object], data: bytes, at: int) -> tuple[dict[str, Array], dict[str, Lod], int]:
    """Return one request's outputs, the sequences of those that have some, and where the next one's data begins."""
    reported = one.get("outputs")
    if not isinstance(reported, list) or len(reported) > _MOST_OUTPUTS:
        raise ProtocolError("an answer has neither outputs nor an error")
    outputs: dict[str, Array] = {}
    lods: dict[str, Lod] = {}
    for item in reported:
        name, dtype, dims = _tensor(item)
        size = DTYPES[dtype] * prod(dims)
        if at + size > len(data) or name in outputs:
            raise ProtocolError(f"the output {name!r} does not fit its data")
        outputs[name] = np.frombuffer(data[at : at + size], np.dtype(dtype).newbyteorder("<")).reshape(dims)
        at += size
        if lod := _sequences(item, tuple(dims)):
            lods[name] = lod
    return outputs, lods, at


def _sequences(item: Mapping[str, object], dims: tuple[int, ...]) -> Lod:
    try:
        return read_lod(item.get("lod"), dims)
    except AgentError as error:
        raise ProtocolError(f"an output is described with {str(item.get('lod'))[:100]}: {error}") from error


def _tensor(item: object) -> tuple[str, str, list[int]]:
    reported = item if isinstance(item, dict) else {}
    name, dtype, dims = reported.get("name"), reported.get("dtype"), reported.get("dims")
    # A name ends up in terminals, JSON, and as a file's in a zip.
    named = isinstance(name, str) and 0 < len(name) <= 256 and name.isprintable()
    named = named and isinstance(dtype, str) and dtype in DTYPES
    named = named and not str(name).startswith("/") and ".." not in str(name).split("/")
    if named and isinstance(dims, list) and len(dims) <= 8 and all(type(d) is int and 0 <= d < 1 << 31 for d in dims):
        return str(name), str(dtype), dims
    raise ProtocolError(f"an output is described as {str(item)[:100]}")


def _figure(value: object) -> float | None:
    """Return a run time in milliseconds; None for anything but a number from 0 to 1e9 (11 days)."""
    found = number_or(value, 0, 1e9, -1.0)
    return found if found >= 0 else None
