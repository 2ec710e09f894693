"""Goldens by their power: refused, weak or strong; more cases while they help; kept beside the golden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from litefleet_agent.verification.comparison import TENSOR, ComparisonSpec
from litefleet_controller.build.golden.files import canonical_npz
from litefleet_controller.build.golden.judged import JudgedGolden, findings_at, judged_golden
from litefleet_controller.build.golden.meaning import (
    OutputMeaning,
    by_position,
    data_set_decides,
    meanings_of,
    with_fp16_weights,
)
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


async def test_a_golden_of_noise_is_noticed_at_the_limits_of_a_file_of_lower_precision(tmp_path: Path) -> None:
    """Answers of a classifier to noise are alike: they differ by percents, which fp32 tells apart and int8 does not."""
    (tmp_path / "noise").mkdir()
    noise = Cases(tmp_path / "noise", lambda case: np.float32(0.5) + np.float32(0.05) * scores(case))
    golden = await noise.judged()
    assert (golden.verdict, findings_at("fp32", golden.paths, {"y": TENSOR}, ["x"])) == ("strong", ())
    (found,) = findings_at("int8", golden.paths, {"y": TENSOR}, ["x"])
    assert found.code == "LF425"
    assert "At the limits of int8 the golden cannot tell this model from constants (y: " in found.observed
    assert "`golden: {inputs: [a.png, b.npz]}`" in found.observed
    real = await Cases(tmp_path, lambda case: np.eye(8, dtype="f4")[case : case + 1]).judged()
    assert findings_at("int8", real.paths, {"y": TENSOR}, ["x"]) == ()


def test_meanings_of_weights_that_were_rounded_after_the_golden(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    path.write_bytes(canonical_npz({"y": np.array([3.0, -20.0], "f4"), "z": np.array([0.5], "f4")}))
    meanings = (
        OutputMeaning("y", TENSOR, ""),
        OutputMeaning("z", ComparisonSpec.from_dict({"compare": "topk", "k": 3}), "softmax"),
        OutputMeaning("w", ComparisonSpec.from_dict({"compare": "topk", "score": 1e-4}), "as litefleet.yaml says"),
    )
    plain, scored, own = with_fp16_weights(meanings, [path])
    assert plain.spec.rule("fp32") == TENSOR.rule("fp16")
    assert dict(plain.spec.given) == {"max_abs": pytest.approx(0.4), "max_rel": 0.05}
    assert scored.spec.rule("fp32") == ComparisonSpec.from_dict({"compare": "topk", "k": 3}).rule("fp16")
    assert own == meanings[2]
