"""The verdict on a score, its forms in reports, and the records that let a cut measurement continue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_agent.findings import Verdict
from litefleet_controller.config.choices import AccuracySpec
from litefleet_controller.config.model import GoldenConfig
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport
from litefleet_controller.evaluate import Accuracy, accuracy_of
from litefleet_controller.evaluate.figures import judge, make_accuracy
from litefleet_controller.evaluate.journal import Journal, key_of
from litefleet_controller.evaluate.metrics import ClassScore, Score
from litefleet_controller.reports.accuracy_text import accuracy_text
from litefleet_controller.reports.charts.accuracy import accuracy_charts
from litefleet_controller.reports.html import to_html
from pydantic import ValidationError

SPEC = AccuracySpec(Path("set"), "top1", least=None, drop=0.01)
NAMES = ("cat", "dog", "<b>")


def scored(*values: float) -> Score:
    classes = tuple(ClassScore(number, 500, value) for number, value in enumerate(values))
    return Score(sum(values) / len(values), 500 * len(values), classes)


def accuracy(spec: AccuracySpec, device: Score, reference: Score | None) -> Accuracy:
    return make_accuracy(spec, NAMES, device, reference, "PaddlePaddle 2.6.2" if reference else "")


def told(found: Accuracy) -> list[tuple[str, str]]:
    return [(one.code, one.observed) for one in judge(found)]


def test_a_drop_that_is_allowed_and_one_that_is_not() -> None:
    assert told(accuracy(SPEC, scored(0.95, 0.93), scored(0.95, 0.95))) == []  # 0.95 - 0.94 is a little more than 0.01
    lost = accuracy(SPEC, scored(0.95, 0.9), scored(0.95, 0.95))
    assert told(lost) == [
        (
            "LF430",
            "top1 is 0.9250 on 1,000 samples, and 0.9500 with PaddlePaddle 2.6.2: it drops by 0.0250, and 0.01 is allowed; "
            "most in class dog, 0.9500 to 0.9000.",
        )
    ]
    assert [one.name for one in lost.classes] == ["dog", "cat"]
    assert told(accuracy(replace(SPEC, drop=None, least=0.9), scored(0.95, 0.9), scored(1.0, 1.0))) == []


def test_a_score_below_the_least_names_the_references() -> None:
    spec = replace(SPEC, least=0.96, drop=None)
    found = told(accuracy(spec, scored(0.95), scored(0.97)))
    assert found[0][1].startswith(
        "top1 is 0.9500 on 500 samples, and 0.96 is required; PaddlePaddle 2.6.2 reaches 0.9700 on the same samples"
    )
    assert told(accuracy(spec, scored(0.95), None)) == [
        ("LF430", "top1 is 0.9500 on 500 samples, and 0.96 is required.")
    ]


@pytest.mark.parametrize(
    ("spec", "reference", "said"),
    [
        (
            replace(SPEC, least=0.9),
            scored(0.5, 0.6),
            "itself reaches top1 0.5500 on these samples, and 0.9 is required",
        ),
        (SPEC, scored(0.2, 0.3, 0.4), "reaches top1 0.3000 with 3 classes, which guessing reaches too"),
        (replace(SPEC, metric="map50"), scored(0.0), "reaches mAP50 0 on these samples"),
        (
            replace(SPEC, drop=0.001),
            Score(0.9, 20),
            "one of 20 samples is 0.05 of top1, and a drop of 0.001 is allowed",
        ),
    ],
)
def test_data_that_can_say_little_is_a_warning(spec: AccuracySpec, reference: Score, said: str) -> None:
    found = judge(accuracy(spec, reference, reference))
    assert [one.code for one in found][-1] == "LF431"
    assert said in found[-1].observed


def report(found: Accuracy) -> RunReport:
    outcome = DeviceOutcome("cam-1", "m", Verdict.VERIFIED, measurements={"accuracy": found.to_dict()})
    return RunReport("evaluate", "2026-11-28T08:00:00Z", 1.0, (outcome,))


def test_reports_show_scores_and_classes_and_read_them_back() -> None:
    found = accuracy(replace(SPEC, least=0.5), scored(0.95, 0.9, 0.8), scored(0.95, 0.95, 0.9))
    made = report(found)
    assert accuracy_of(made.outcomes[0]) == found
    text = " ".join(accuracy_text(made, 120).split())
    assert "cam-1 m top1 1,500 0.8833 0.9333 -0.0500" in text
    assert "dog 500 0.9000 0.9500 -0.0500" in text
    page = to_html(made)
    assert "<h2>Accuracy</h2>" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert [chart.title for chart in accuracy_charts(made)] == ["m: top1 on 1,500 samples", "cam-1, m: classes"]


def test_what_is_no_accuracy_is_none() -> None:
    outcome = report(accuracy(SPEC, scored(1.0), None)).outcomes[0]
    for value in ({"metric": "top1"}, [], "x", {**accuracy(SPEC, scored(1.0), None).to_dict(), "value": 1e999}):
        assert accuracy_of(replace(outcome, measurements={"accuracy": value})) is None
    assert accuracy_of(replace(outcome, measurements={})) is None


def test_a_journal_keeps_intact_records_behind_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "kept", key_of("device", "a"))
    assert journal.read(10) == {}
    journal.add({0: [1], 3: [[2, 2]]})
    (path,) = (tmp_path / "kept").glob("*.log")
    path.write_bytes(path.read_bytes() + b'0badc0de {"n": 4, "r')  # a power cut
    journal.add({5: [7]})
    assert journal.read(10) == {0: [1], 3: [[2, 2]], 5: [7]}
    assert journal.read(4) == {0: [1], 3: [[2, 2]]}  # the data set has become smaller
    journal.clear()
    assert journal.read(10) == {}


def test_keys_differ_with_every_fact() -> None:
    keys = {key_of(*facts) for facts in (("device", "a"), ("device", "b"), ("reference", "a"), ("device", "a", None))}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metric": "top1"}, "`metric` goes with `dataset:`"),
        ({"dataset": "d"}, "`dataset` needs `metric:`, one of top1, map50, iou, exact, cer"),
        ({"dataset": "d", "metric": "top1", "characters": "c"}, "`characters` goes with `metric: cer`"),
        ({"dataset": "d", "metric": "f1"}, "metric"),
        ({"dataset": "d", "metric": "top1", "min": 71}, "less than or equal to 1"),
        ({"dataset": "d", "metric": "top1", "samples": 0}, "samples"),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GoldenConfig.model_validate(given)
    assert said in json.dumps(caught.value.errors(include_url=False), default=str)


def test_a_drop_is_allowed_where_nothing_is_said() -> None:
    def spec(**given: object) -> AccuracySpec:
        made = GoldenConfig.model_validate({"dataset": "d", "metric": "top1", **given}).accuracy_spec()
        assert made is not None
        return made

    assert (spec().least, spec().drop) == (None, 0.01)
    assert (spec(min=0.7).least, spec(min=0.7).drop) == (0.7, None)
    assert (spec(min=0.7, drop=0.02).least, spec(min=0.7, drop=0.02).drop) == (0.7, 0.02)
    assert GoldenConfig().accuracy_spec() is None
    assert GoldenConfig.model_validate({"files": ["a", "b"], "dataset": "d", "metric": "iou"}).files == (
        Path("a"),
        Path("b"),
    )
