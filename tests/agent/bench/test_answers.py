"""Answers of a measured process: what it sends is checked, since the model in it may have taken it over."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from litefleet_agent.bench.worker_handle import block_of, cases_of, start_report_of

STARTED: dict[str, Any] = {
    "begun": 12.5,
    "import_ms": 80.0,
    "load_ms": 20,
    "first_run_ms": 3.5,
    "read_bytes": 4096,
    "rss": {"before_import": 1 << 20, "after_first_run": 2 << 20},
    "runtime_version": "v2.13-rc",
    "numpy_version": "1.26.4",
    "threads_set_by": "set_threads",
    "engine": "binding",
}
RAN: dict[str, Any] = {"begun": 1.0, "ended": 1.5, "cpu_s": 0.4, "runs": 1}


def outputs(*shape: object, dtype: object = "float32") -> dict[str, Any]:
    return {"cases": [[{"dtype": dtype, "shape": list(shape)}]]}


def test_whole_answers_become_values() -> None:
    report = start_report_of(STARTED)._replace(process_ms=10.0)
    assert (report.total_ms, report.rss["after_first_run"]) == (113.5, 2 << 20)
    assert report.to_dict() == {
        "total_ms": 113.5, "process_ms": 10.0, "import_ms": 80.0, "load_ms": 20, "first_run_ms": 3.5, "read_bytes": 4096,
    }  # fmt: skip
    block = block_of(RAN, struct.pack("=4d", 1, 2, 3, 4))
    assert (list(block.times), list(block.whole), block.seconds) == ([1.0, 2.0], [3.0, 4.0], 0.5)
    ((value,),) = cases_of(outputs(1, 2), bytes(8))
    assert (value.dtype, value.shape, value.data) == ("float32", (1, 2), bytes(8))


@pytest.mark.parametrize("name", list(STARTED))
@pytest.mark.parametrize("wrong", [None, [], float("nan"), 1e300, -1, "x" * 101, {"a": 10**400}])
def test_a_start_that_is_not_one_is_named(name: str, wrong: object) -> None:
    if name == "begun" and wrong == 1e300:
        wrong = "12"
    with pytest.raises(ValueError, match=name):
        start_report_of({**STARTED, name: wrong})


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ({**RAN, "ended": None}, b""),
        ({**RAN, "cpu_s": float("inf")}, b""),
        (RAN, b"no doubles"),
    ],
)
def test_a_block_that_is_not_one_is_refused(answer: dict[str, Any], body: bytes) -> None:
    with pytest.raises(ValueError):
        block_of(answer, body)


@pytest.mark.parametrize(
    ("answer", "body", "words"),
    [
        ({}, b"", "cases"),
        ({"cases": [[7]]}, b"", "an output"),
        ({"cases": [{}] * 65}, b"", "cases"),
        (outputs(1, 2), bytes(7), "7 bytes of data do not make"),
        (outputs(1, dtype="str"), bytes(4), "arrays of type str are not supported"),
        (outputs(1, 2), bytes(9), "8 bytes, and 9 were sent"),
        (outputs(-1), b"", "a size"),
        (outputs(1 << 40), b"", "a size"),
        (outputs(*[1] * 17), bytes(4), "the shape"),
        (outputs(1, dtype=["float32"]), bytes(4), "the dtype"),
    ],
)
def test_outputs_that_are_none_are_named(answer: dict[str, Any], body: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cases_of(answer, body)
