"""Goldens by their power: refused, weak or strong; more cases while they help; kept beside the golden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.verification.comparison import TENSOR, ComparisonSpec
from litefleet_controller.build.golden.files import canonical_npz
from litefleet_controller.build.golden.judged import JudgedGolden, judged_golden
from litefleet_controller.build.golden.meaning import by_position, data_set_decides, meanings_of
from litefleet_controller.common.errors import ConfigError, FindingError

from .programs import op, program

Answer = Callable[[int], np.ndarray]


class Cases:
    """A store whose reference answers `answer(case)`; `made` lists how many cases were asked for."""

    def __init__(self, store: Path, answer: Answer) -> None:
        self.store, self.answer, self.made = store, answer, list[int]()

    async def make(self, cases: int) -> tuple[Path, ...]:
        self.made.append(cases)
        paths = [self.store / f"key{cases}-{case}.npz" for case in range(cases)]
        for case, path in enumerate(paths):
            path.write_bytes(canonical_npz({"x": np.full(1, case, "f4"), "y": self.answer(case)}))
        return tuple(paths)

    async def judged(self, **more: bool) -> JudgedGolden:
        return await judged_golden(self.make, 2, {"y": TENSOR}, ["x"], None, self.store, **more)


def scores(case: int) -> np.ndarray:
    return np.random.RandomState(case).rand(1, 8).astype("f4")


async def test_a_strong_golden_needs_no_more_cases_and_is_judged_once(tmp_path: Path) -> None:
    cases = Cases(tmp_path, scores)
    first = await cases.judged()
    assert (first.verdict, len(first.paths), first.findings) == ("strong", 2, ())
    again = await cases.judged()
    assert (again.paths, again.verdict, again.sentence) == (first.paths, first.verdict, first.sentence)
    assert cases.made == [2, 2]
    (record,) = tmp_path.glob("*.power.json")
    record.write_text("{}")  # a damaged record is made again
    assert (await cases.judged()).sentence == first.sentence


async def test_constants_are_refused_with_what_to_do_unless_asked_for(tmp_path: Path) -> None:
    cases = Cases(tmp_path, lambda case: np.ones((1, 8), "f4"))
    with pytest.raises(FindingError) as caught:
        await cases.judged()
    (found,) = caught.value.findings
    assert found.code == "LF412"
    assert "cannot tell this model from constants" in found.observed
    assert "golden: {files: [a.npz, b.npz]}" in found.observed
    assert cases.made == [2, 4, 8]
    accepted = await cases.judged(refuse=False)
    assert ([f.code for f in accepted.findings], len(accepted.paths)) == (["LF425"], 2)


async def test_cases_are_doubled_until_they_tell(tmp_path: Path) -> None:
    cases = Cases(tmp_path, lambda case: scores(0 if case < 3 else case))
    made = await cases.judged()
    assert (made.verdict, len(made.paths), cases.made) == ("strong", 4, [2, 4])
    again = await cases.judged()
    assert (again.paths, cases.made) == (made.paths, [2, 4, 2, 4])


async def test_what_a_user_gave_is_never_doubled(tmp_path: Path) -> None:
    cases = Cases(tmp_path, lambda case: np.ones((1, 8), "f4"))
    assert (await cases.judged(more=False, refuse=False)).verdict == "refused"
    assert cases.made == [2]


SOFTMAX = program([op("softmax", {"X": "a"}, {"Out": "y"})], {"y": ("float32", (-1, 8))})


def test_configuration_goes_before_what_is_recognised_and_a_tolerance_keeps_tensors() -> None:
    def kind(configured: dict[str, dict[str, object]], tolerance: dict[str, float]) -> tuple[str, str]:
        (one,) = meanings_of("m", SOFTMAX.outputs, SOFTMAX, configured, tolerance)
        return one.spec.kind, one.why

    assert kind({}, {}) == ("topk", "probabilities of classes (softmax)")
    assert kind({}, {"max_abs": 0.1}) == ("tensor", "item by item, with `tolerance:` of litefleet.yaml")
    assert kind({"y": {"compare": "embedding"}}, {}) == ("embedding", "as litefleet.yaml says")


def test_names_that_the_model_lacks_are_errors_of_the_configuration() -> None:
    wrong = {"z": {"compare": "labels"}, "y": {"compare": "labels", "scores": "p"}}
    with pytest.raises(ConfigError) as caught:
        meanings_of("m", SOFTMAX.outputs, SOFTMAX, wrong, {})
    assert caught.value.problems == (
        "models.m.outputs: the model has no output 'z'; it has y.",
        "models.m.outputs.y.scores: the model has no output 'p'; it has y.",
    )


def test_a_file_s_other_names_get_the_meanings_in_order() -> None:
    meanings = meanings_of("m", SOFTMAX.outputs, SOFTMAX, {}, {})
    (one,) = by_position(meanings, ["renamed"])
    assert (one.name, one.spec) == ("renamed", ComparisonSpec("topk"))
    assert [one.spec for one in data_set_decides(meanings)] == [TENSOR]
