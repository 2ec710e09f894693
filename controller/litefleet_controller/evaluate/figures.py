"""The accuracy of one model on one device as a checked value, and the verdict on it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from litefleet_agent.findings import Finding, finding
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..build.golden.dataset import class_name
from ..config.choices import AccuracySpec, MetricName
from ..devices.outcome import DeviceOutcome
from .metrics import Score

_MOST_CLASSES = 1000  # that are reported, those that lost most
_NOISE = 1e-9  # scores are quotients: 0.95 - 0.94 is a little more than 0.01

Number = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class ClassAccuracy(BaseModel):
    """One class: its name, how often it is in the labels (iou: pixels), its score on the device and of the reference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(max_length=200)]
    count: Count
    value: Number
    reference: Number | None = None

    @property
    def lost(self) -> float:
        """How far the device's score is below the reference's; 0 without one."""
        return (self.reference or 0.0) - self.value if self.reference is not None else 0.0


class Accuracy(BaseModel):
    """A model's score on labelled data, on a device and with the reference engine; scores are from 0 (worst) to 1 (best).

    `metric` is top1, map50, iou (mean over classes), exact, or cer, whose score is 1 - CER. `least` and `drop` are what
    litefleet.yaml demands. `classes` begins with those that lost most.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: MetricName
    value: Number
    samples: Count
    engine: Annotated[str, Field(max_length=100)] = ""  # the reference engine, "" where none ran
    reference: Number | None = None
    least: Number | None = None
    drop: Number | None = None
    classes: Annotated[tuple[ClassAccuracy, ...], Field(max_length=_MOST_CLASSES)] = ()

    @property
    def problem(self) -> str:
        """Why the score is not accepted, "" when it is."""
        name, value, reference = label_of(self.metric), self.value, self.reference
        if self.least is not None and value < self.least - _NOISE:
            beside = "" if reference is None else f"; {self.engine} reaches {reference:.4f} on the same samples"
            return f"{name} is {value:.4f} on {self.samples:,} samples, and {self.least:g} is required{beside}"
        if self.drop is not None and reference is not None and reference - value > self.drop + _NOISE:
            return (
                f"{name} is {value:.4f} on {self.samples:,} samples, and {reference:.4f} with {self.engine}: "
                f"it drops by {reference - value:.4f}, and {self.drop:g} is allowed"
            )
        return ""

    @property
    def accepted(self) -> bool:
        """Whether the score reaches `least` and is no further below the reference's than `drop`."""
        return not self.problem

    def to_dict(self, classes: int = _MOST_CLASSES) -> dict[str, object]:
        """Return the JSON form with at most so many classes."""
        shown = self.model_copy(update={"classes": self.classes[:classes]})
        return {**shown.model_dump(mode="json"), "accepted": self.accepted}


def make_accuracy(
    spec: AccuracySpec, names: Sequence[str], score: Score, reference: Score | None, engine: str
) -> Accuracy:
    """Return a device's accuracy beside the reference's; `names` are the classes' names by number."""
    before = {c.number: c.value for c in reference.classes} if reference is not None else {}
    classes = [
        ClassAccuracy(
            name=class_name(names, c.number)[:200],
            count=c.count,
            value=c.value,
            reference=before.get(c.number),
        )
        for c in score.classes
    ]
    classes.sort(key=lambda one: -one.lost)  # stable: equal ones keep the order of their numbers
    return Accuracy(
        metric=spec.metric,
        value=score.value,
        samples=score.samples,
        engine=engine,
        reference=None if reference is None else reference.value,
        least=spec.least,
        drop=spec.drop if reference is not None else None,
        classes=tuple(classes[:_MOST_CLASSES]),
    )


def label_of(metric: str) -> str:
    """Return how a metric is written in reports."""
    return {"iou": "mIoU", "map50": "mAP50", "cer": "1 - CER"}.get(metric, metric)


def judge(accuracy: Accuracy) -> tuple[Finding, ...]:
    """Return the findings of an accuracy: LF430 where it is not accepted, LF431 where the data can say little."""
    found = []
    if accuracy.problem:
        worst = accuracy.classes[0] if accuracy.classes and accuracy.classes[0].lost > 0 else None
        most = f"; most in class {worst.name}, {worst.reference:.4f} to {worst.value:.4f}" if worst else ""
        found.append(finding("LF430", f"{accuracy.problem}{most}."))
    if weak := _weakness(accuracy):
        found.append(finding("LF431", f"{weak}."))
    return tuple(found)


def _weakness(accuracy: Accuracy) -> str:
    reference, engine, name = accuracy.reference, accuracy.engine, label_of(accuracy.metric)
    if reference is None:
        return ""
    if accuracy.least is not None and reference < accuracy.least - _NOISE:
        return f"{engine} itself reaches {name} {reference:.4f} on these samples, and {accuracy.least:g} is required"
    count = len(accuracy.classes)
    if accuracy.metric == "top1" and count > 1 and reference <= 1 / count + _NOISE:
        return f"{engine} reaches top1 {reference:.4f} with {count} classes, which guessing reaches too"
    if reference == 0:
        return f"{engine} reaches {name} 0 on these samples"
    return one_sample_decides(accuracy.metric, accuracy.drop, accuracy.samples)


def one_sample_decides(metric: str, drop: float | None, samples: int) -> str:
    """Return a clause where one sample is more than the score may drop, "" otherwise; a drop of 0 is meant as it is."""
    if metric not in ("top1", "exact") or not drop or drop * samples >= 1 - _NOISE:
        return ""
    return (
        f"one of {samples:,} samples is {1 / max(samples, 1):.3g} of {label_of(metric)}, "
        f"and a drop of {drop:g} is allowed: a single sample decides"
    )


def accuracy_of(outcome: DeviceOutcome) -> Accuracy | None:
    """Return the accuracy in an outcome; None where none was measured, or a saved report holds something else."""
    reported = outcome.measurements.get("accuracy")
    try:
        return None if reported is None else Accuracy.model_validate(reported)
    except ValidationError:
        return None
