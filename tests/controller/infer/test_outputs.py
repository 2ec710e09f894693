"""What devices answer, read with care, and how answers are compared."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.findings import Finding, Verdict, finding
from litefleet_agent.protocol import ProtocolError
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.infer.compare import Limits, against_reference, among_devices
from litefleet_controller.infer.outputs import read_answers, reported_findings
from litefleet_controller.infer.report import CaseAnswer, DeviceAnswer, InferenceReport, judged, save
from litefleet_controller.reports.inference_text import inference_text

LIMITS = Limits({}, {})


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array([values], "float32")


def output(*values: float, name: str = "y") -> dict[str, Any]:
    return {"outputs": [{"name": name, "dtype": "float32", "dims": [1, len(values)]}], "ms": 1.5}


def test_answers_and_errors_in_their_order() -> None:
    reported = {
        "requests": [
            output(1, 2),
            {"error": {"code": "timed-out", "message": "too late"}},
            {"error": {"code": "crashed", "message": "gone", "finding": finding("LF401", "SIGSEGV").to_dict()}},
            output(3),
        ]
    }
    answers, found = read_answers(reported, floats(1, 2).tobytes() + floats(3).tobytes(), ["a", "b", "c", "d"])
    assert [a.case for a in answers] == ["a", "b", "c", "d"]
    assert [a.error for a in answers] == ["", "too late", "SIGSEGV", ""]
    assert (answers[0].ms, answers[3].outputs["y"].tolist()) == (1.5, [[3]])
    assert [f.code for f in found] == ["LF408", "LF401"]


def test_sequences_of_outputs_are_in_the_record_and_the_file(tmp_path: Path) -> None:
    one = output(1, 2)
    one["outputs"][0].update(dims=[2, 1], lod=[[0, 1], [0, 2]])
    (answer,), _ = read_answers({"requests": [one]}, floats(1, 2).tobytes(), ["a"])
    assert answer.lods == {"y": ((0, 1), (0, 2))}
    (record,) = answer.to_dict()["outputs"]  # type: ignore[misc]
    assert (record["lod"], record["values"]) == ([[0, 1], [0, 2]], [[1], [2]])
    outcome = DeviceOutcome("cam", "", "m", Verdict.VERIFIED, (), "")
    (path,) = save(tmp_path, "m", (DeviceAnswer(outcome, cases=(answer,)),))
    held = np.load(path)
    assert {name: held[name].tolist() for name in held.files} == {
        "y": [[1], [2]],
        "y@lod0": [0, 1],
        "y@lod1": [0, 2],
    }
    one["outputs"][0]["lod"] = [[0, 3]]
    with pytest.raises(ProtocolError, match="offsets that rise from 0 to 2"):
        read_answers({"requests": [one]}, floats(1, 2).tobytes(), ["a"])


@pytest.mark.parametrize(
    ("code", "expected"),
    [("busy", "LF620"), ("bad-output", "LF404"), ("bad-input", "LF422"), ("not-ready", "LF619"), ("gone", "LF900")],
)
def test_each_refusal_has_its_finding(code: str, expected: str) -> None:
    _, found = read_answers({"requests": [{"error": {"code": code, "message": "m"}}]}, b"", ["a"])
    assert [(f.code, f.observed) for f in found] == [(expected, "m")]


def test_a_device_that_sends_nan_is_wrong() -> None:
    _, found = read_answers({"requests": [output(1, 2)]}, floats(1, np.nan).tobytes(), ["a"])
    assert [(f.code, f.observed) for f in found] == [("LF404", "For a, the output y holds NaN or Inf.")]


@pytest.mark.parametrize(
    ("reported", "data"),
    [
        ({}, b""),
        ({"requests": []}, b""),
        ({"requests": [output(1), output(2)]}, bytes(8)),
        ({"requests": ["no"]}, b""),
        ({"requests": [{}]}, b""),
        ({"requests": [{"error": "no"}]}, b""),
        ({"requests": [{"outputs": [{}] * 65}]}, b""),
        ({"requests": [{"outputs": [7]}]}, b""),
        ({"requests": [output(1, 2)]}, bytes(4)),
        ({"requests": [output(1)]}, bytes(8)),
        ({"requests": [{"outputs": [{"name": "y", "dtype": "float32", "dims": [1 << 31]}]}]}, b""),
        ({"requests": [{"outputs": [{"name": "y", "dtype": "float32", "dims": [1 << 30] * 8}]}]}, b""),
        ({"requests": [{"outputs": [{"name": "y", "dtype": "float32", "dims": [True]}]}]}, bytes(4)),
        ({"requests": [{"outputs": [{"name": "y", "dtype": "object", "dims": [1]}]}]}, bytes(8)),
        ({"requests": [{"outputs": output(1)["outputs"] * 2}]}, bytes(8)),
        ({"requests": [{"outputs": [{"name": "y", "dtype": ["float32"], "dims": [1]}]}]}, bytes(4)),
        ({"requests": [{"outputs": [{"name": "y", "dtype": {}, "dims": [1]}]}]}, bytes(4)),
    ],
)
def test_what_does_not_hold_together_is_a_protocol_error(reported: dict[str, Any], data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_answers(reported, data, ["a"])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["requests", "outputs", "error", "name", "dtype", "dims", "ms", "code", "message", "finding", "findings"]
    ), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(["requests", "findings"]), _json), st.binary(max_size=32))
def test_any_json_of_a_device_gives_answers_or_a_protocol_error_and_nothing_else(
    reported: dict[str, Any], data: bytes
) -> None:
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(found, Finding) for found in reported_findings(reported))
    with contextlib.suppress(ProtocolError):
        answers, _ = read_answers(reported, data, ["a", "b"])
        assert [answer.case for answer in answers] == ["a", "b"]
        assert sum(array.nbytes for answer in answers for array in answer.outputs.values()) == len(data)


# --- comparisons


def test_close_answers_agree_and_others_do_not() -> None:
    expected = {"y": floats(0.5, 0.25)}
    answers = {"a": {"y": floats(0.5, 0.25)}, "b": {"y": floats(0.50001, 0.25)}, "c": {"y": floats(0.6, 0.25)}}
    found = {d.device: d.agrees for d in against_reference("in", answers, expected, LIMITS)}
    assert found == {"a": True, "b": True, "c": False}


def test_the_engine_may_name_outputs_otherwise() -> None:
    (only,) = against_reference("in", {"a": {"y": floats(1)}}, {"fetch_0": floats(1)}, LIMITS)
    assert (only.output, only.agrees) == ("y", True)
    (only,) = against_reference("in", {"a": {"y": floats(1)}}, {"u": floats(1), "v": floats(1)}, LIMITS)
    assert (only.agrees, only.found.reason) == (False, "it gave 1 outputs where reference gave 2")


def test_names_count_before_their_order() -> None:
    expected = {"u": floats(1), "v": floats(2)}
    found = against_reference("in", {"a": {"v": floats(2), "u": floats(1)}}, expected, LIMITS)
    assert [d.agrees for d in found] == [True, True]


def test_the_looser_precision_counts() -> None:
    answers = {"a": {"y": floats(0.5)}, "b": {"y": floats(0.502)}}
    assert not among_devices("in", answers, LIMITS)[1][0].agrees
    assert among_devices("in", answers, Limits({"a": "fp32", "b": "fp16"}, {}))[1][0].agrees
    strict = Limits({"a": "fp32", "b": "fp16"}, {"max_abs": 1e-6, "mean_abs": 1e-6})
    assert not among_devices("in", answers, strict)[1][0].agrees


def test_one_of_three_is_outvoted_and_two_of_two_are_not() -> None:
    right, wrong = {"y": floats(0.5)}, {"y": floats(0.9)}
    majority, found = among_devices("in", {"a": wrong, "b": right, "c": right}, LIMITS)
    assert majority == "b"
    assert {d.device: d.agrees for d in found} == {"a": False, "c": True}
    majority, found = among_devices("in", {"a": wrong, "b": right}, LIMITS)
    assert (majority, [d.agrees for d in found]) == ("", [False])


def test_close_but_unequal_answers_make_one_majority() -> None:
    answers = {f"d{n}": {"y": floats(0.5 + n * 1e-6)} for n in range(5)}
    answers["odd"] = {"y": floats(0.1)}
    majority, found = among_devices("in", answers, LIMITS)
    assert majority.startswith("d")
    assert [d.device for d in found if not d.agrees] == ["odd"]


# --- the report


def answer(device: str, *values: float, verdict: Verdict = Verdict.VERIFIED, **more: Any) -> DeviceAnswer:
    outcome = DeviceOutcome(device, "m", verdict, release="r" * 64, steps={"infer": 1.0}, **more)
    cases = (CaseAnswer("in", {"y": floats(*values)}, 1.25),) if values else ()
    return DeviceAnswer(outcome, "service", "fp32", cases)


def report(*answers: DeviceAnswer, expected: dict[str, Any] | None = None) -> InferenceReport:
    given = {a.device: a.cases[0].outputs for a in answers if a.cases}
    majority, found = among_devices("in", given, LIMITS) if len(given) > 1 else ("", ())
    differences = (*(against_reference("in", given, expected, LIMITS) if expected else ()), *found)
    votes = {"in": majority} if len(given) > 1 else {}
    final = tuple(judged(a, differences, votes) for a in answers)
    reference_engine = "PaddlePaddle 2.6.2" if expected else ""
    return InferenceReport("m", "2026-01-01T00:00:00Z", 1.0, ("in",), final, votes, differences, (), reference_engine)


def test_devices_that_agree() -> None:
    made = report(answer("a", 1, 2), answer("b", 1, 2), expected={"y": floats(1, 2)})
    assert (made.exit_code, made.undecided) == (0, ())
    printed = inference_text(made, 120)
    assert "a        in      service   1.25 ms   y [1 x 2]: 1, 2" in printed
    assert (
        "in: all outputs are within the tolerance of the reference, PaddlePaddle 2.6.2; the outputs are equal."
        in printed
    )
    assert "in: all devices agree with a; the outputs are equal." in printed
    assert "2 of 2 devices answered correctly" in printed


def test_a_device_that_differs_is_wrong_and_decides_the_exit_code() -> None:
    made = report(answer("a", 1), answer("b", 1), answer("odd", 2))
    assert {a.device: a.outcome.verdict.value for a in made.answers} == {
        "a": "verified",
        "b": "verified",
        "odd": "wrong",
    }
    assert made.exit_code == 1
    printed = inference_text(made, 120)
    assert "in: odd differ from a." in printed
    assert "LF403" in printed
    assert made.answers[2].sentence.startswith("For in, output y differs from a, as most devices answer:")


def test_two_that_differ_blame_nobody_and_are_not_well_either() -> None:
    made = report(answer("a", 1), answer("b", 2))
    assert [a.outcome.verdict for a in made.answers] == [Verdict.VERIFIED] * 2
    assert (made.exit_code, made.undecided) == (1, ("in",))
    assert "in: the devices differ, and no majority agrees." in inference_text(made, 120)


def test_a_failed_device_keeps_its_own_reason() -> None:
    gone = answer("gone", verdict=Verdict.UNREACHABLE, findings=(finding("LF501", "h:22 did not answer"),))
    made = report(answer("a", 1), gone)
    assert made.exit_code == 1
    printed = inference_text(made, 120)
    assert "unreachable: h:22 did not answer" in printed
    assert "1 of 2 devices answered correctly" in printed


def test_a_hostile_device_can_not_paint_the_terminal() -> None:
    bad = DeviceAnswer(
        answer("a", 1).outcome, "service", "fp32", (CaseAnswer("in", {"\x1b[31my": floats(1)}, None, ""),)
    )
    assert "\x1b" not in inference_text(report(bad), 120)


def test_the_json_document_holds_small_outputs_and_says_what_it_leaves_out() -> None:
    large = DeviceAnswer(
        answer("a").outcome, "service", "fp32", (CaseAnswer("in", {"y": np.zeros((40, 40), "float32")}),)
    )
    made = report(answer("b", 1, 2), large)
    reported = made.to_dict()
    assert reported["devices"][0]["inputs"][0]["outputs"] == [
        {"name": "y", "dtype": "float32", "dims": [1, 2], "values": [[1.0, 2.0]]}
    ]
    assert reported["devices"][1]["inputs"][0]["outputs"][0]["values"] is None
    nan = DeviceAnswer(answer("a").outcome, "service", "fp32", (CaseAnswer("in", {"y": floats(np.nan)}),))
    assert '"values": null' in report(nan).to_json()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -3e38, 0.0, 1e-45])
def test_no_value_makes_the_document_impossible(value: float) -> None:
    made = report(answer("a", value), answer("b", 1), answer("c", 0), expected={"y": floats(-3e38)})
    assert json.loads(made.to_json())["exit_code"] == 1
    assert inference_text(made, 120)


@pytest.mark.parametrize("name", ["o\ud800", "a\x1b[2J", "../../etc/x", "/etc/x", ""])
def test_names_that_could_do_harm_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="an output is described as"):
        read_answers({"requests": [output(1, 2, name=name)]}, floats(1, 2).tobytes(), ["a"])


def test_devices_of_a_precision_that_nobody_knows_are_compared_as_fp32() -> None:
    answers = {"a": {"y": floats(1)}, "b": {"y": floats(1.1)}}
    assert not among_devices("in", answers, Limits({"a": "fp7", "b": "fp7"}, {}))[1][0].agrees
