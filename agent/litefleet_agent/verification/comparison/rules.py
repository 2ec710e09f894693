"""What each kind of output may differ by, and why: one rule per kind; `DEFAULTS` has them for each precision.

Each default lies between two figures: what a right model may differ by, and what a fault differs by.  The first come from
PaddlePaddle 2.6.2 against Paddle-Lite 2.13rc0 on x86_64, and from PaddlePaddle against itself with weights rounded to fp16
and to 8 bits; the second from weights that were damaged on purpose (one layer times 1.01, 1 % noise, two classes swapped).
Plain numbers keep the limits that they have always had.  At fp32, weights rounded to fp16 are accepted where only classes,
boxes or outlines are compared, and rejected where probabilities are: these must distinguish cases that differ by a percent.
Where a figure is reasoned and not measured, the docstring says so.
"""

from dataclasses import dataclass, replace
from typing import Dict, Tuple, Union

from ..compare import Tolerance

PRECISIONS = ("fp32", "int16", "fp16", "int8")
DETECTION_COLUMNS = ("class", "score", "x1", "y1", "x2", "y2")  # of PaddlePaddle's multiclass_nms* and matrix_nms


_PROBABILITIES = {
    "fp32": Tolerance(max_abs=2e-3, max_rel=2e-2, cosine_min=0.999, mean_abs=2e-4),
    "int16": Tolerance(max_abs=5e-3, max_rel=5e-2, cosine_min=0.999, mean_abs=5e-4),
    "fp16": Tolerance(max_abs=2e-2, max_rel=2e-1, cosine_min=0.99, mean_abs=2e-3),
    "int8": Tolerance(max_abs=1e-1, max_rel=2e-1, cosine_min=-1.0, mean_abs=2e-2),
}


def probability_tolerance(precision: str, peak: float) -> Tolerance:
    """Return the tolerance for outputs of a sigmoid or softmax whose largest probability is `peak`; KeyError as a dict.

    There p differs by p * (1 - p) * (the logit's difference), so rounding shrinks with p: the limits are relative to the
    peak, also below 1.  An absolute limit of 1e-4 would hide every difference between probabilities of 1e-4.  PP-OCR's
    detector where there is nothing (logits down to -20), in shares of p: engines differ by 3e-5 at fp32, its last layer
    times 1.0001 by 2e-3, weights rounded to fp16 by 0.04 to 0.14, its last layer times 1.01 by 0.15, 1 % noise on its
    weights by more than 1.  For int8 the limits stay absolute and the cosine is left out: logits differ by tenths, so
    that small probabilities differ by half of themselves, and only absolute differences still mean something.
    """
    base = _PROBABILITIES[precision]
    if precision == "int8" or not 0 < peak < 1:
        return base
    return replace(base, max_abs=base.max_abs * peak, mean_abs=base.mean_abs * peak)


@dataclass(frozen=True)
class TensorRule:
    """Plain numbers: the elementwise rule; its limits and their reasons are `compare.default_tolerance`'s.

    `scale` "peak" is for outputs of a sigmoid or softmax: then the limits are `probability_tolerance`'s.
    """

    scale: str = "unit"


@dataclass(frozen=True)
class LabelsRule:
    """Whole numbers that name something (class maps, token ids, truth values): equal or not, never near.

    `agree` is the least share of equal values; with few values it means all.  `iou` is the least intersection over
    union of each class that covers at least `least` items in the reference or the output: a share of 0.999 could
    still hide that a small class is gone.  `order` "free" compares each row (the last axis) as a set; `scores` names
    the output that holds the same rows' scores, and two labels whose reference scores differ by at most `tie` of the
    row's largest score may stand in for each other (the indices of a top_k).

    Measured on an untrained segmentation model (19 classes, 512 x 512): engines differ in 1 of 262,144 labels (two logits
    that differ by less than 1e-6), weights rounded to fp16 change up to 0.1 %, rounded to 8 bits 0.4 to 2 %, 1 % noise on
    them 0.7 to 7 %.  A trained model has fewer labels near a tie.  fp16 kernels and 8-bit activations are not measured.
    """

    agree: float
    iou: float
    tie: float
    least: int = 100
    order: str = "kept"
    scores: str = ""


@dataclass(frozen=True)
class TopkRule:
    """Scores or probabilities of classes along the last axis: the same leading classes, and scores that agree.

    Every score may differ by `score` of its row's largest magnitude in the reference.  At each of the `k` first ranks
    the output's class must have a reference score within `tie` (of the same magnitude) of the reference's own class
    there: classes that are equally likely may change places.  The share of rows that keep both is at least `agree`.

    Measured on a trained classifier of 1000 classes (PP-LCNetV2) with pictures and noise, in shares of the largest score:
    engines differ by 1e-5 at fp32, and one layer times 1.01 by 1.6e-3 to 0.03: 1e-3.  Weights rounded to fp16 move scores
    by 0.012, 1 % noise on them by 0.11 to 0.32: 0.05 for fp16, whose kernels round the activations too (not measured).
    Weights rounded to 8 bits move scores by 0.05 to 0.21 and let classes change places that are up to 0.22 apart; 8-bit
    activations, not measured, add to that.
    Sequences (a row per character) may lose one row in 100 at fp16, one in 20 at int8; a single row may not be lost.
    """

    score: float
    tie: float
    agree: float
    k: int = 5


@dataclass(frozen=True)
class DetectionsRule:
    """Rows of a detector, a box each: matched by class and IoU in any order, every column with its own limit.

    A row has a counterpart when the class is equal, the scores differ by at most `score`, and the boxes have at least
    `iou`, or all coordinates within `box` of the reference's largest (small boxes: IoU is coarse there).  `missing` is the
    share of all scores that rows without a counterpart may have, in either list.  Not counted among them: rows
    whose score is within `score` of `floor` (the threshold below which the detector drops rows) or, in a list of
    `keep` rows (as many as the detector returns), of the last row's score, and rows that overlap another row of
    their class by nearly `overlap` (the threshold of the suppression) or more; 0 means that there is no such threshold.
    `columns` names the row's numbers: class, score, image (the index of a picture), boxes as x1 y1 x2 y2 (more points:
    x3 y3 ...; their enclosing rectangle counts), as x y w h, or as cx cy w h; "-" is not compared.

    `score` is multiplied by the reference's largest score where that is below 1 (not for int8, as in `TensorRule`).
    Measured on PicoDet (80 classes, 416 pixels, pictures and noise): engines differ by 1e-6 in scores, 3e-5 in another
    release, and 2e-3 of 1010 pixels; weights rounded to fp16 move scores by up to 0.011 of the largest and boxes to an IoU
    of 0.978, weights rounded to 8 bits scores by up to 0.1 and boxes to 0.75.  A layer times 1.01 moves boxes to 0.963, 1 %
    noise on all weights scores by 0.14 of the largest.  fp16 kernels, which also round activations, are not measured.
    """

    iou: float
    score: float
    box: float
    missing: float
    floor: float = 0.0
    keep: int = 0
    overlap: float = 0.0
    columns: Tuple[str, ...] = DETECTION_COLUMNS


@dataclass(frozen=True)
class CountsRule:
    """How many rows of another output belong to each picture of the batch (a detector's second output).

    `rows` names that output; the counts must add up to its rows in the same run.  Compared with the reference, counts
    follow the rows, which `DetectionsRule` judges: a row at the threshold may be there or not.  `differ` is the share of
    all rows by which the counts may differ when `rows` is not at hand.
    """

    differ: float
    rows: str = ""


@dataclass(frozen=True)
class MaskRule:
    """A map of probabilities (a sigmoid's): right when the elementwise rule holds, or when the cut-out is the same.

    The second way needs a reference with items on both sides of `threshold`, else it would prove nothing: then the
    items above it and those below must each have at least `iou` between reference and output, and at most the share
    `outliers` of all items may differ by more than `off`.

    The elementwise limits are `probability_tolerance`'s.  A sigmoid is steep at outlines: a logit that differs by
    0.1 moves p by 0.025 there.  Measured on PP-OCR's detector with a page of text: weights rounded to fp16 leave an IoU of
    0.9996 and differ by at most 0.043; 1 % noise leaves 0.977, weights rounded to 8 bits 0.976 with 0.2 % of the items off
    by more than 0.25.  fp16 kernels and 8-bit activations are not measured.
    """

    iou: float
    off: float
    outliers: float
    threshold: float = 0.5


@dataclass(frozen=True)
class EmbeddingRule:
    """Vectors along the last axis that are compared by their angle: the cosine, and the lengths' ratio.

    Every vector's cosine with its reference is at least `cosine`, and its length differs by at most the share `length`.
    A relative error e at a right angle to the vector gives a cosine of 1 - e*e/2: 0.9998 is e = 0.02, 0.9995 is 0.03, and
    0.98 is 0.2, as plain numbers have it for int8.  A layer times 1.01 gives a length that differs by 0.01.  Reasoned from
    the classifier's figures (`TopkRule`), not measured.
    """

    cosine: float
    length: float


Rule = Union[TensorRule, LabelsRule, TopkRule, DetectionsRule, CountsRule, MaskRule, EmbeddingRule]
# The default of each kind for each precision, whose reasons are in the class.
DEFAULTS: Dict[str, Dict[str, Rule]] = {
    "tensor": dict.fromkeys(PRECISIONS, TensorRule()),
    "labels": {
        "fp32": LabelsRule(agree=0.999, iou=0.95, tie=1e-3),
        "int16": LabelsRule(agree=0.998, iou=0.93, tie=2e-3),
        "fp16": LabelsRule(agree=0.99, iou=0.9, tie=2e-2),
        "int8": LabelsRule(agree=0.95, iou=0.7, tie=1e-1),
    },
    "topk": {
        "fp32": TopkRule(score=1e-3, tie=2e-3, agree=1.0),
        "int16": TopkRule(score=1e-2, tie=1e-2, agree=0.995),
        "fp16": TopkRule(score=5e-2, tie=5e-2, agree=0.99),
        "int8": TopkRule(score=4e-1, tie=3e-1, agree=0.95),
    },
    "detections": {
        "fp32": DetectionsRule(iou=0.97, score=2e-2, box=5e-4, missing=0.02),
        "int16": DetectionsRule(iou=0.96, score=2e-2, box=1e-3, missing=0.03),
        "fp16": DetectionsRule(iou=0.93, score=4e-2, box=2e-3, missing=0.05),
        "int8": DetectionsRule(iou=0.75, score=1.5e-1, box=1e-2, missing=0.2),
    },
    "counts": {
        "fp32": CountsRule(0.1),
        "int16": CountsRule(0.2),
        "fp16": CountsRule(0.2),
        "int8": CountsRule(0.5),
    },
    "mask": {
        "fp32": MaskRule(iou=0.99, off=0.05, outliers=1e-3),
        "int16": MaskRule(iou=0.99, off=0.05, outliers=1e-3),
        "fp16": MaskRule(iou=0.98, off=0.1, outliers=5e-3),
        "int8": MaskRule(iou=0.85, off=0.25, outliers=3e-2),
    },
    "embedding": {
        "fp32": EmbeddingRule(cosine=0.9998, length=8e-3),
        "int16": EmbeddingRule(cosine=0.9998, length=1e-2),
        "fp16": EmbeddingRule(cosine=0.9995, length=2e-2),
        "int8": EmbeddingRule(cosine=0.98, length=0.15),
    },
}
