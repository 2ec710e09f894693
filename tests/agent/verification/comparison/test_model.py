"""How a release says what its outputs mean: the JSON form, what it rejects, and the findings that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.formats.nb import read_nb
from litefleet_agent.releases.store import Manifest
from litefleet_agent.verification.comparison import ModelComparison
from litefleet_agent.verification.golden_cases import Golden, check_outputs
from litefleet_agent.verification.verify import VerifySpec

from tests.agent.support.nb_builder import small

from .tensors import PICODET, PICODET_SPEC, tensor

MODEL = read_nb(small())  # one output, y
NOTHING = np.zeros((0, 6), "f4")


def codes(references: list[Any], answers: list[Any], spec: dict[str, Any], later: Any = None) -> list[str]:
    """Return the findings' codes where the model answers `answers` to cases with these references."""
    goldens = [Golden({}, (tensor(value),)) for value in references]
    runs = [([tensor(value)], [(0, tensor(later))] if later is not None else []) for value in answers]
    comparison = ModelComparison.parse({"y": spec})
    return [found.code for found in check_outputs(MODEL, goldens, runs, comparison).findings]


def test_each_way_of_not_fitting_has_its_code() -> None:
    topk = {"compare": "topk"}
    one, two = np.array([[0.7, 0.2, 0.1]], "f4"), np.array([[0.1, 0.2, 0.7]], "f4")
    assert codes([one, two], [one, two], topk) == []
    assert codes([one, two], [two, one], topk) == ["LF403"]
    assert codes([one, two], [one[:, :2], two], topk) == ["LF407"]
    assert codes([one, two], [one * np.nan, two], topk) == ["LF404"]
    assert codes([one, two], [one, one], topk) == ["LF405", "LF403"]
    assert codes([one, two], [one, two], topk, later=two) == ["LF406"]


def test_one_answer_is_no_fault_where_the_references_are_within_the_tolerance() -> None:
    near = [np.array([[0.7, 0.2, 0.1]], "f4"), np.array([[0.70001, 0.19999, 0.1]], "f4")]
    assert codes(near, [near[0], near[0]], {"compare": "topk"}) == []


def test_detections_without_rows_are_equal_with_a_note() -> None:
    assert codes([NOTHING, NOTHING], [NOTHING, NOTHING], PICODET_SPEC) == ["LF426"]
    assert codes([PICODET, NOTHING], [PICODET[::-1].copy(), NOTHING], PICODET_SPEC) == ["LF426"]
    assert codes([PICODET], [NOTHING], PICODET_SPEC) == ["LF403"]


def test_a_tolerance_is_for_tensors_and_an_output_s_own_goes_before_it() -> None:
    given = {"y": {"compare": "tensor", "max_abs": 0.5}, "z": {"compare": "labels"}}
    made = ModelComparison.parse(given, {"max_abs": 0.1, "mean_abs": 0.2})
    assert made.of("y").to_dict() == {"compare": "tensor", "max_abs": 0.5, "mean_abs": 0.2}
    assert made.of("z").to_dict() == {"compare": "labels"}
    assert made.of("other").to_dict() == {"compare": "tensor", "max_abs": 0.1, "mean_abs": 0.2}
    assert made.outputs() == given


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([], "outputs must be an object of at most 1000 entries"),
        ({"y": "topk"}, "outputs.y is 'topk'; it must be an object such as"),
        ({"y": {"compare": "best"}}, "outputs.y.compare is 'best'; it must be one of tensor, labels, topk"),
        ({"y": {"compare": "topk", "iou": 1}}, "outputs.y has no 'iou' with compare: topk; known are score"),
        ({"": {"compare": "topk"}}, "outputs has a name that is not 1 to 256 characters"),
        ({str(n): {"compare": "topk"} for n in range(1001)}, "outputs must be an object of at most 1000 entries"),
    ],
)
def test_what_is_not_well_formed_is_a_sentence(outputs: Any, said: str) -> None:
    with pytest.raises(AgentError) as caught:
        VerifySpec.from_dict({"nb": "a.nb", "golden": ["a.npz"], "outputs": outputs})
    assert str(caught.value).startswith(said)
    assert caught.value.code == "bad-request"


def test_a_release_names_outputs_beside_verify_where_older_agents_do_not_look() -> None:
    sha = "0" * 64
    document = {"model": {"name": "m", "nb": sha}, "golden": [sha], "runtime": "system", "verify": {}}
    assert Manifest.parse(document).outputs is None
    outputs = {"y": {"compare": "labels"}}
    assert Manifest.parse({**document, "outputs": outputs}).outputs == outputs
