"""Metrics of accuracy.  Pure: each reduces one sample to a small record, and all records to a score.

A score is from 0 (worst) to 1 (best).  Records are JSON values, so that a measurement that was cut can be continued.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..build.golden.files import Array
from ..build.golden.labels import IGNORED, Boxes, Label
from ..common.lazy import numpy as np
from ..config.choices import MetricName

_MOST_FOUND = 1000  # detections of one sample, the best ones; COCO counts 100
_SAME = 0.5  # IoU from which a detection is the labelled object, as in Pascal VOC
Record = list[Any]


@dataclass(frozen=True)
class ClassScore:
    """One class: its number, how often it is in the labels (iou: pixels), and its score."""

    number: int
    count: int
    value: float


@dataclass(frozen=True)
class Score:
    """The score of all samples, and of each class that occurs in the labels (none for exact and cer)."""

    value: float
    samples: int
    classes: tuple[ClassScore, ...] = ()


def observe(
    metric: MetricName,
    output: Array,
    label: Label,
    scale: tuple[float, float] = (1.0, 1.0),
    characters: Sequence[str] = (),
) -> Record:
    """Return one sample's record.

    `scale` is (x, y): the picture's pixels for one unit of the model's boxes.  Raises: ValueError, a part of a sentence, for
    an output that the metric cannot read.
    """
    if metric == "map50":
        assert isinstance(label, Boxes)
        return _detections(output, label, scale)
    if metric == "iou":
        return _areas(output, np.asarray(label))
    if metric == "cer":
        assert isinstance(label, str | tuple)
        assert not isinstance(label, Boxes)
        return _text(output, label, characters)
    wanted = np.asarray(label)
    return _classes(output, wanted) if metric == "top1" else _exact(output, wanted)


def score(metric: MetricName, records: Iterable[Record]) -> Score:
    """Return the score of all records, at least one."""
    return _SCORES[metric](list(records))


# --- top1: [[label, predicted], ...]


def _best(output: Array) -> Array:
    """Return the class of each row, [N]: integers as they are, of scores the position of the largest."""
    if output.size == 0:
        raise ValueError("is empty")
    if output.dtype.kind in "iub":
        return output.astype(np.int64).ravel()
    if output.ndim < 1:
        raise ValueError("is a single number, not a row of class scores")
    return np.asarray(np.argmax(output, -1)).ravel()


def _classes(output: Array, label: Array) -> Record:
    predicted = _best(output)
    if predicted.size != label.size:
        raise ValueError(
            f"has {predicted.size} rows of scores for {label.size} labels (its dims are {list(output.shape)})"
        )
    if output.dtype.kind == "f" and label.size and int(label.max()) >= output.shape[-1]:
        raise ValueError(f"has {output.shape[-1]} classes, numbered from 0, and the label is {int(label.max())}")
    return [[int(a), int(b)] for a, b in zip(label, predicted, strict=True)]


def _top1(records: Sequence[Record]) -> Score:
    count, right = Counter[int](), Counter[int]()
    for label, predicted in (pair for record in records for pair in record):
        count[label] += 1
        right[label] += label == predicted
    classes = tuple(ClassScore(n, count[n], right[n] / count[n]) for n in sorted(count))
    return Score(right.total() / max(count.total(), 1), len(records), classes)


# --- map50: [[[class, objects], ...], [[class, score, hit], ...]]


def _detections(output: Array, label: Boxes, scale: tuple[float, float]) -> Record:
    if output.ndim != 2 or output.shape[1] not in (6, 7):
        raise ValueError(f"has dims {list(output.shape)}; map50 takes [N, 6]: class, score, x1, y1, x2, y2")
    rows = output[:, -6:].astype(np.float64)
    rows = rows[rows[:, 0] >= 0]  # PaddleDetection's row for "nothing found" has class -1
    rows = rows[np.argsort(-rows[:, 1], kind="stable")][:_MOST_FOUND]
    rows[:, 2:] *= np.array([*scale, *scale])
    taken = np.zeros(len(label.classes), bool)
    found = []
    for row in rows:
        free = np.flatnonzero((label.classes == int(row[0])) & ~taken)
        overlaps = _overlaps(row[2:], label.corners[free])
        hit = bool(overlaps.size) and float(overlaps.max()) >= _SAME
        if hit:
            taken[free[int(overlaps.argmax())]] = True
        found.append([int(row[0]), float(row[1]), int(hit)])
    objects = Counter(label.classes.tolist())
    return [sorted(map(list, objects.items())), found]


def _overlaps(box: Array, others: Array) -> Array:
    """Return the IoU of one box [4] with others [N, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), 1)
    both = np.prod(np.clip(box[2:] - box[:2], 0, None)) + np.prod(others[:, 2:] - others[:, :2], 1)
    united = both - common
    shares: Array = np.divide(common, united, out=np.zeros_like(common), where=united > 0)
    return shares


def _map50(records: Sequence[Record]) -> Score:
    """Return the mean over classes of the area under the precision-recall curve, all points, as Pascal VOC 2010 and later."""
    objects = Counter[int]()
    found: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
    for counts, rows in records:
        for number, count in counts:
            objects[number] += count
        for number, certainty, hit in rows:
            found[number].append((certainty, hit))
    classes = tuple(ClassScore(n, objects[n], _average_precision(found[n], objects[n])) for n in sorted(objects))
    return Score(float(np.mean([c.value for c in classes])) if classes else 0.0, len(records), classes)


def _average_precision(found: Sequence[tuple[float, int]], objects: int) -> float:
    hits = np.array([hit for _, hit in sorted(found, key=lambda one: -one[0])], np.float64)
    if not hits.size:
        return 0.0
    right = np.cumsum(hits)
    precision = right / np.arange(1, hits.size + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_from_here * hits).sum() / objects)


# --- iou: [[class, common, predicted, labelled], ...], in pixels


def _areas(output: Array, label: Array) -> Record:
    predicted = _mask_of(output)
    if predicted.shape != label.shape:
        label = _resized(label, predicted.shape)
    counted = label != IGNORED
    label, predicted = label[counted], predicted[counted]
    common, guessed, truth = (
        Counter(dict(zip(*map(np.ndarray.tolist, np.unique(values, return_counts=True)), strict=True)))
        for values in (label[label == predicted], predicted, label)
    )
    return [[n, common[n], guessed[n], truth[n]] for n in sorted({*guessed, *truth})]


def _mask_of(output: Array) -> Array:
    """Return class numbers [H, W]: integers as they are, of scores [1, C, H, W] the best class, of one channel above 0.5."""
    dims = [d for d in output.shape if d != 1] if output.ndim > 2 and output.shape[0] == 1 else list(output.shape)
    if output.dtype.kind in "iub" and output.ndim >= 2 and output.size == output.shape[-1] * output.shape[-2]:
        return np.asarray(output.reshape(output.shape[-2:])).astype(np.int64)
    if output.dtype.kind == "f" and output.ndim == 4 and output.shape[0] == 1:
        if output.shape[1] == 1:
            return np.asarray(output[0, 0] > 0.5).astype(np.int64)
        return np.asarray(np.argmax(output[0], 0))
    raise ValueError(f"is {output.dtype.name} {dims}; iou takes whole numbers [1, H, W] or scores [1, C, H, W]")


def _resized(mask: Array, shape: tuple[int, ...]) -> Array:
    """Return a mask in another size, by the nearest pixel."""
    if not mask.size:
        raise ValueError("cannot be compared with an empty mask")
    down, across = ((np.arange(n) + 0.5) * (old / n) for n, old in zip(shape, mask.shape, strict=True))
    chosen: Array = mask[down.astype(np.int64)][:, across.astype(np.int64)]
    return chosen


def _iou(records: Sequence[Record]) -> Score:
    """Return the mean IoU over the classes that are in the labels, each over the pixels of all samples."""
    sums: defaultdict[int, Array] = defaultdict(lambda: np.zeros(3, np.int64))
    for number, *areas in (row for record in records for row in record):
        sums[number] += np.array(areas)
    classes = tuple(
        ClassScore(n, int(truth), float(common / (guessed + truth - common)))
        for n, (common, guessed, truth) in sorted(sums.items())
        if truth
    )
    return Score(float(np.mean([c.value for c in classes])) if classes else 0.0, len(records), classes)


# --- exact: [equal]


def _exact(output: Array, label: Array) -> Record:
    whole = output.dtype.kind in "iub"
    got = output.astype(np.int64).ravel() if whole else _best(output)
    return [int(got.size == label.size and bool((got == label).all()))]


def _share(records: Sequence[Record]) -> Score:
    return Score(sum(record[0] for record in records) / max(len(records), 1), len(records))


# --- cer: [edits, length]


def _text(output: Array, label: str | tuple[int, ...], characters: Sequence[str]) -> Record:
    numbers = _decoded(output)
    if isinstance(label, tuple):
        return [_edits(numbers, label), len(label)]
    # PP-OCR's convention: class 0 is the blank, the lines follow, and one class after them is the space
    known = [*characters, " "]
    if numbers and max(numbers) > len(known):
        raise ValueError(f"has class {max(numbers)}, and golden.characters has {len(characters)} lines")
    return [_edits([known[n - 1] for n in numbers], label), len(label)]


def _decoded(output: Array) -> list[int]:
    """Return the classes of the best path without repeats and blanks (class 0); integers are taken as decoded."""
    if output.dtype.kind in "iu":
        return [int(n) for n in output.ravel()]
    if output.ndim != 3 or output.shape[0] != 1:
        raise ValueError(f"has dims {list(output.shape)}; cer takes scores [1, T, C] or whole numbers")
    path = np.argmax(output[0], -1)
    changed = np.append(True, path[1:] != path[:-1]) if path.size else np.zeros(0, bool)
    return [int(n) for n in path[changed] if n]


def _edits(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, item in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (item != wanted))
    return row[-1]


def _characters(records: Sequence[Record]) -> Score:
    """Return 1 - CER, at least 0: the share of characters that are right."""
    edits, length = sum(r[0] for r in records), sum(r[1] for r in records)
    return Score(max(0.0, 1.0 - edits / max(length, 1)), len(records))


_SCORES: Mapping[str, Callable[[Sequence[Record]], Score]] = {
    "top1": _top1,
    "map50": _map50,
    "iou": _iou,
    "exact": _share,
    "cer": _characters,
}
