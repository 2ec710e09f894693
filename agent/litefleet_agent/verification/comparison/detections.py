"""Compares the rows of a detector: a class, a score and a box each, in whatever order."""

import bisect
import operator
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from .result import FARTHEST, Array, OutputComparison, OutputPair, ratio, values
from .rules import DetectionsRule
from .spec import ComparisonSpec

_MAX_ROWS = 50000  # more than any suppression leaves; a raw head of a network is compared as plain numbers
_MAX_TRIED = 200  # candidates looked at for one row, the nearest ones: bounds the work on rows that all overlap
# A row may be suppressed in one engine only where its overlap is this many (1 - iou) below the threshold or less: two
# boxes that each move by (1 - iou) change their overlap by up to about four of them.  Never below half the threshold.
_NEAR_OVERLAP = 4.0
_LEAST_OVERLAP = 0.5
_OVERLAP_ROUNDING = 0.02  # engines count a box's last pixel in or out
_NO_SCORE = 1e-3  # of the reference's best score: when no score reaches it, the scores were lost


class _Box(NamedTuple):
    """One row: `group` (picture, class) must be equal; the corners are the enclosing rectangle's."""

    group: Tuple[int, int]
    score: float
    left: float
    top: float
    right: float
    bottom: float
    coordinates: Tuple[float, ...]


class _Rows(NamedTuple):
    """What a tensor holds, best score first; `problem` says why it holds no detections."""

    boxes: List[_Box]
    problem: str = ""


class _Match(NamedTuple):
    """Two matched rows and how far they are apart, in tolerances."""

    expected: int
    actual: int
    distance: float
    iou: float
    score: float


def _positions(columns: Sequence[str]) -> Dict[str, int]:
    return {name: index for index, name in enumerate(columns) if name != "-"}


def _rows(tensor: Array, columns: Sequence[str]) -> _Rows:
    """Read a tensor's rows; padding (a class below 0, as PaddlePaddle writes for "nothing found") is left out."""
    items = values(tensor)
    if len(items) <= 1:  # [0, 6], or [1, 1] that holds -1: nothing was found
        return _Rows([])
    width = tensor.shape[-1] if tensor.shape else 0
    if len(tensor.shape) < 2 or width != len(columns):
        return _Rows([], "it has shape %s, and its columns are %s" % (list(tensor.shape), " ".join(columns)))
    count = len(items) // width
    if count > _MAX_ROWS:
        return _Rows([], "it has %d rows, and at most %d are matched; compare it as a tensor" % (count, _MAX_ROWS))
    per_picture = tensor.shape[-2] if len(tensor.shape) > 2 else count
    at = _positions(columns)
    boxes = []
    for index in range(count):
        row = items[index * width : (index + 1) * width]
        if row[at["class"]] >= 0:
            picture = row[at["image"]] if "image" in at else index // per_picture
            boxes.append(_box(row, at, (round(picture), round(row[at["class"]]))))
    boxes.sort(key=lambda box: -box.score)
    return _Rows(boxes)


def _box(row: Sequence[float], at: Dict[str, int], group: Tuple[int, int]) -> _Box:
    if "w" in at:
        width, height = row[at["w"]], row[at["h"]]
        left = row[at["x"]] if "x" in at else row[at["cx"]] - width / 2
        top = row[at["y"]] if "y" in at else row[at["cy"]] - height / 2
        return _Box(group, row[at["score"]], left, top, left + width, top + height, (left, top, width, height))
    corners = [(row[place], name[0]) for name, place in at.items() if name[0] in "xy" and name[1:].isdigit()]
    across, down = [value for value, axis in corners if axis == "x"], [value for value, axis in corners if axis == "y"]
    points = tuple(value for value, _ in corners)
    return _Box(group, row[at["score"]], min(across), min(down), max(across), max(down), points)


def _iou(one: _Box, other: _Box) -> float:
    """Return the intersection over union of two enclosing rectangles, 0.0 where both are points or lines."""
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    union = (
        (one.right - one.left) * (one.bottom - one.top) + (other.right - other.left) * (other.bottom - other.top) - both
    )
    return both / union if union > 0 else 0.0


class _Candidates:
    """The rows of one output by group, ordered by their left side, for finding a counterpart without trying all."""

    def __init__(self, boxes: Sequence[_Box]) -> None:
        self._groups: Dict[Tuple[int, int], List[Tuple[float, int]]] = {}
        for index, box in enumerate(boxes):
            self._groups.setdefault(box.group, []).append((box.left, index))
        for members in self._groups.values():
            members.sort()

    def near(self, box: _Box, reach: float) -> List[int]:
        """Return the rows of the box's group whose left side is within `reach` of its own, at most `_MAX_TRIED`."""
        members = self._groups.get(box.group, [])
        middle = bisect.bisect_left(members, (box.left, -1))
        first = bisect.bisect_left(members, (box.left - reach, -1))
        last = bisect.bisect_right(members, (box.left + reach, _MAX_ROWS))
        half = _MAX_TRIED // 2
        return [index for _, index in members[max(first, middle - half) : min(last, middle + half)]]

    def take(self, box: _Box, index: int) -> None:
        """Exclude a matched row from further matches."""
        members = self._groups[box.group]
        del members[bisect.bisect_left(members, (box.left, index))]


class _Limits(NamedTuple):
    """The rule's limits in the output's own units."""

    iou: float
    score: float
    coordinate: float  # pixels, or whatever the boxes are in


def compare_detections(
    pair: OutputPair, spec: ComparisonSpec, precision: str, rule: DetectionsRule
) -> OutputComparison:
    """Match the rows of both, in any order, and judge what is left over; all items are finite."""
    expected, actual = _rows(pair.expected, rule.columns), _rows(pair.actual, rule.columns)
    for rows, whose in ((expected, "the reference"), (actual, "the output")):
        if rows.problem:
            return _failed(spec, "%s does not fit its columns: %s" % (whose, rows.problem), "shape")
    if not expected.boxes and not actual.boxes:
        return OutputComparison(spec.kind, True, 0.0, note="neither finds anything, so this case proves little")
    if expected.boxes and not any(box.score for box in expected.boxes):
        return _failed(spec, "every score of the reference itself is 0 (%d rows)" % len(expected.boxes), "differs")
    best = max(map(abs, (expected.boxes[0].score, expected.boxes[-1].score))) if expected.boxes else 0.0
    if actual.boxes and all(abs(box.score) <= _NO_SCORE * best for box in actual.boxes):
        return _failed(spec, "every score is 0, or nearly (%d rows)" % len(actual.boxes), "differs")
    return _judge(expected.boxes, actual.boxes, spec, rule, _limits(expected.boxes, spec, precision, rule))


def _failed(spec: ComparisonSpec, reason: str, problem: str) -> OutputComparison:
    return OutputComparison(spec.kind, False, FARTHEST, reason, problem=problem)


def _limits(expected: Sequence[_Box], spec: ComparisonSpec, precision: str, rule: DetectionsRule) -> _Limits:
    largest = max((abs(value) for box in expected for value in box.coordinates), default=0.0)
    score = rule.score
    if not spec.gives("score") and expected and expected[0].score > 0:
        best = expected[0].score
        score *= best if precision != "int8" else max(1.0, best)
    return _Limits(rule.iou, score, rule.box * largest)


def _matched(expected: Sequence[_Box], actual: Sequence[_Box], limits: _Limits) -> List[_Match]:
    """Pair rows, the best score of the reference first, each with the nearest row that is left."""
    candidates = _Candidates(actual)
    found = []
    for index, box in enumerate(expected):
        # An IoU of t needs left sides within (1 - t) / t of the width; points and lines have the coordinates' limit.
        reach = (1.0 - limits.iou) / limits.iou * abs(box.right - box.left) + limits.coordinate
        tried = (_pairing(index, box, other, actual[other], limits) for other in candidates.near(box, reach))
        best = min((match for match in tried if match.distance <= 1.0), key=lambda match: match.distance, default=None)
        if best is not None:
            candidates.take(actual[best.actual], best.actual)
            found.append(best)
    return found


def _pairing(index: int, box: _Box, other_index: int, other: _Box, limits: _Limits) -> _Match:
    iou, off = _iou(box, other), abs(box.score - other.score)
    apart = max(map(abs, map(operator.sub, box.coordinates, other.coordinates)))
    place = min(ratio(1.0 - iou, 1.0 - limits.iou), ratio(apart, limits.coordinate))
    return _Match(index, other_index, max(place, ratio(off, limits.score)), iou, off)


def _judge(
    expected: List[_Box], actual: List[_Box], spec: ComparisonSpec, rule: DetectionsRule, limits: _Limits
) -> OutputComparison:
    matches = _matched(expected, actual, limits)
    edges = [_edge(boxes, rule, limits) for boxes in (expected, actual)]
    missing = _left_over(expected, {match.expected for match in matches}, edges[0], rule, limits)
    extra = _left_over(actual, {match.actual for match in matches}, edges[1], rule, limits)
    share = max(_share(missing, expected, edges[0]), _share(extra, actual, edges[1]))
    distance = max([ratio(share, rule.missing)] + [match.distance for match in matches])
    measures = {
        "rows": float(len(expected)), "matched": float(len(matches)), "missing": float(len(missing)),
        "extra": float(len(extra)), "unmatched": share,
        "score": max((match.score for match in matches), default=0.0),
        "iou": min((match.iou for match in matches), default=0.0),
    }  # fmt: skip
    if distance <= 1.0:
        left = len(expected) + len(actual) - 2 * len(matches)
        note = "%d rows at a threshold have no counterpart" % left if left else ""
        if not matches:
            note = "only rows at a threshold, so this case proves little"
        return OutputComparison(spec.kind, True, distance, note=note, measures=measures)
    reason = _reason(expected, actual, missing, extra, limits)
    return OutputComparison(spec.kind, False, distance, reason, problem="differs", measures=measures)


def _edge(boxes: List[_Box], rule: DetectionsRule, limits: _Limits) -> float:
    """Return the score up to which a row may be in one list only, because a threshold decides about it."""
    last = rule.floor
    if rule.keep and len(boxes) >= rule.keep:
        last = max(last, boxes[-1].score)
    return last + limits.score if last > 0 else float("-inf")


def _share(part: Sequence[_Box], boxes: Sequence[_Box], edge: float) -> float:
    """Return how much of all scores some rows hold; rows at a threshold, often many, must not water down the sure ones."""
    total = sum(abs(box.score) for box in boxes if box.score > edge)
    return sum(abs(box.score) for box in part) / total if total > 0 else 0.0


def _left_over(boxes: List[_Box], matched: Set[int], edge: float, rule: DetectionsRule, limits: _Limits) -> List[_Box]:
    """Return the rows without a counterpart that no threshold excuses."""
    left = [box for index, box in enumerate(boxes) if index not in matched and box.score > edge]
    if not left or not rule.overlap:
        return left
    kept = [boxes[index] for index in sorted(matched)]
    near = max(rule.overlap - _NEAR_OVERLAP * (1.0 - limits.iou), _LEAST_OVERLAP * rule.overlap)
    far = rule.overlap + _OVERLAP_ROUNDING  # above it the other row should have suppressed this one in its own list
    return [
        box for box in left if not any(near <= _iou(box, other) <= far for other in kept if other.group == box.group)
    ]


def _reason(expected: List[_Box], actual: List[_Box], missing: List[_Box], extra: List[_Box], limits: _Limits) -> str:
    required = "the same class, IoU %.3g and a score within %.3g are required" % (limits.iou, limits.score)
    words = "%d of %d rows of the reference have no counterpart" % (len(missing), len(expected))
    words += ", %d of %d rows are extra" % (len(extra), len(actual))
    lost = missing[0] if missing else None
    if lost is None:
        return "%s; %s" % (words, required)
    words += "; class %d with score %.3g " % (lost.group[1], lost.score)
    # The counterpart that a person would point at: it overlaps, is nearly as sure, and has the same class if one does.
    nearest = max(
        actual,
        default=None,
        key=lambda box: _iou(lost, box) - abs(lost.score - box.score) + 0.25 * (lost.group == box.group),
    )
    return "%s%s; %s" % (words, _fate(lost, nearest), required)


def _fate(lost: _Box, nearest: Optional[_Box]) -> str:
    """Describe the result of a row."""
    if nearest is None:
        return "is missing, as every other row is"
    overlap = _iou(lost, nearest)
    if overlap == 0:
        return "is missing: no row overlaps it"
    return "is nearest to class %d with score %.3g, IoU %.3f" % (nearest.group[1], nearest.score, overlap)
