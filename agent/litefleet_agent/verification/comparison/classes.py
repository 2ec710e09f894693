"""Compares outputs about classes: labels, counts, and the scores of classes (top-k)."""

import heapq
import operator
from collections import Counter
from dataclasses import replace
from itertools import compress
from typing import Dict, List, NamedTuple, Optional, Sequence

from .dense import elementwise
from .result import FARTHEST, OutputComparison, OutputPair, ratio, rows_of, values, worst_but
from .rules import CountsRule, LabelsRule, TopkRule
from .spec import ComparisonSpec

_MAX_TIES = 1 << 20  # items of labels whose ties are looked up one by one
_SHORT_ROW = 16  # classes


class _ClassOverlap(NamedTuple):
    """A class whose IoU is the smallest of those that cover enough items."""

    label: float
    iou: float


def compare_labels(
    pair: OutputPair, spec: ComparisonSpec, rule: LabelsRule, scores: Optional[OutputPair]
) -> OutputComparison:
    """Compare by the share of equal values and by the IoU of each class; `scores` decides ties (see `LabelsRule`)."""
    want, got = values(pair.expected), values(pair.actual)
    width = pair.expected.shape[-1] if pair.expected.shape else 1
    if rule.order == "free" and scores is None:
        same = sum(map(_in_common, rows_of(want, width), rows_of(got, width)))
    else:
        same = sum(map(operator.eq, want, got))
        if scores is not None and same < len(want) <= _MAX_TIES:
            same += _excused_by_ties(want, got, width, scores, rule.tie)
    share = same / len(want)
    smallest = None if rule.order == "free" or rule.scores else _smallest_overlap(want, got, rule.least)
    distance = ratio(1.0 - share, 1.0 - rule.agree)
    measures = {"agree": share, "differ": float(len(want) - same)}
    if smallest is not None:
        measures["iou"] = smallest.iou
        distance = max(distance, ratio(1.0 - smallest.iou, 1.0 - rule.iou))
    if distance <= 1.0:
        note = "%d of %d labels differ" % (len(want) - same, len(want)) if same < len(want) else ""
        return OutputComparison(spec.kind, True, distance, note=note, measures=measures)
    reason = "%d of %d labels differ (%.4g %% may)" % (len(want) - same, len(want), 100 * (1.0 - rule.agree))
    if smallest is not None and smallest.iou < rule.iou:
        reason += ", class %g has IoU %.3f (%.3g or more is required)" % (smallest.label, smallest.iou, rule.iou)
    return OutputComparison(spec.kind, False, distance, reason, problem="differs", measures=measures)


def _in_common(want: Sequence[float], got: Sequence[float]) -> int:
    return sum((Counter(want) & Counter(got)).values())


def _smallest_overlap(want: Sequence[float], got: Sequence[float], least: int) -> Optional[_ClassOverlap]:
    """Return the class with the smallest IoU among those that cover `least` items in either; None when none does."""
    wanted, seen = Counter(want), Counter(got)
    common = Counter(compress(want, map(operator.eq, want, got)))
    overlaps = []
    for label in set(wanted) | set(seen):
        if max(wanted[label], seen[label]) >= least:
            both = common[label]
            overlaps.append(_ClassOverlap(label, both / (wanted[label] + seen[label] - both)))
    return min(overlaps, key=lambda one: (one.iou, one.label)) if overlaps else None


def _excused_by_ties(want: Sequence[float], got: Sequence[float], width: int, scores: OutputPair, tie: float) -> int:
    """Return how many unequal labels stand where the reference's scores tie.

    A label that the reference has in the same row may stand at another rank whose score is equal within the tie; one
    that it does not have may stand where the score ties with the row's last, behind which the reference saw no further.
    """
    by_rank = values(scores.expected)
    if len(by_rank) != len(want):
        return 0
    excused = 0
    for expected, actual, score in zip(*(rows_of(flat, width) for flat in (want, got, by_rank))):  # noqa: B905 - 3.7
        if expected == actual:
            continue
        allowed = tie * max(map(abs, score))
        rank_of = {label: rank for rank, label in enumerate(expected)}
        for rank, label in enumerate(expected):
            other = actual[rank]
            stands_for = score[rank_of.get(other, len(score) - 1)]
            excused += label != other and abs(score[rank] - stands_for) <= allowed
    return excused


def compare_counts(
    pair: OutputPair, spec: ComparisonSpec, rule: CountsRule, rows: Optional[OutputPair]
) -> OutputComparison:
    """Compare the numbers of rows per picture: with the rows of this run where they are at hand, else with the reference."""
    want, got = values(pair.expected), values(pair.actual)
    differ = float(sum(map(abs, map(operator.sub, got, want)))) if len(want) == len(got) else FARTHEST
    measures = {"differ": differ, "total": float(sum(got))}
    if len(want) != len(got):
        reason = "it counts for %d pictures where the reference counts for %d" % (len(got), len(want))
        return OutputComparison(spec.kind, False, FARTHEST, reason, problem="shape", measures=measures)
    if rows is not None:
        there = rows.actual.shape[0] if rows.actual.shape and rows.actual.count > 1 else 0
        if sum(got) == there and min(got, default=0) >= 0:
            note = "counts differ by %d from the reference, as the rows do" % differ if differ else ""
            return OutputComparison(spec.kind, True, 0.0, note=note, measures=measures)
        reason = "the counts add up to %d, and %s has %d rows" % (sum(got), rule.rows, there)
        return OutputComparison(spec.kind, False, FARTHEST, reason, problem="differs", measures=measures)
    allowed = max(1.0, rule.differ * sum(want))
    distance = ratio(differ, allowed)
    if distance <= 1.0:
        return OutputComparison(spec.kind, True, distance, measures=measures)
    reason = "the counts differ by %d from the reference's %d (%d may)" % (differ, sum(want), allowed)
    return OutputComparison(spec.kind, False, distance, reason, problem="differs", measures=measures)


class _RankLoss(NamedTuple):
    """Where a row's leading classes differ: `gap` is the reference's score that the output's order loses, at `rank`."""

    gap: float  # in shares of the row's largest magnitude
    rank: int  # the first one where the loss is more than a tie, from 0; -1: none
    expected: int  # the two classes there
    actual: int


_NO_LOSS = _RankLoss(0.0, -1, 0, 0)


def compare_topk(pair: OutputPair, spec: ComparisonSpec, precision: str, rule: TopkRule) -> OutputComparison:
    """Compare the scores of classes along the last axis, row by row."""
    found, _ = elementwise(pair, spec.tolerance(precision, pair.expected))
    width = pair.expected.shape[-1] if pair.expected.shape else 1
    want, got = values(pair.expected), values(pair.actual)
    largest = [one or 1.0 for one in _row_peaks(list(map(abs, want)), width)]
    offs = list(map(operator.truediv, _row_peaks(list(map(abs, map(operator.sub, got, want))), width), largest))
    losses = _rank_losses(want, got, width, offs, rule)
    distances = [off / rule.score if rule.score else ratio(off, 0.0) for off in offs]
    for index, loss in losses.items():
        distances[index] = max(distances[index], ratio(loss.gap, rule.tie))
    distance = min(worst_but(distances, int((1.0 - rule.agree) * len(offs) + 1e-9)), FARTHEST)
    bad = sum(map((1.0).__lt__, distances))
    measures: Dict[str, float] = {
        "agree": 1.0 - bad / len(offs),
        "rows": float(len(offs)),
        "score": max(offs),
        "top1": 1.0 - sum(loss.rank == 0 for loss in losses.values()) / len(offs),
    }
    figures = replace(found, ok=distance <= 1.0, reason="")
    if distance <= 1.0:
        note = "%d of %d rows differ by more than the tolerance" % (bad, len(offs)) if bad else ""
        return OutputComparison(spec.kind, True, distance, "", note, "", measures, figures)
    words = (
        "" if len(offs) == 1 else "%d of %d rows differ (%.4g %% may): " % (bad, len(offs), 100 * (1.0 - rule.agree))
    )
    at = max(range(len(offs)), key=distances.__getitem__)
    words += _row_reason(losses.get(at, _NO_LOSS), offs[at], "" if len(offs) == 1 else ", row %d" % (at + 1), rule)
    return OutputComparison(spec.kind, False, distance, words, "", "differs", measures, figures)


def _row_peaks(items: List[float], width: int) -> List[float]:
    """Return the largest item of each row; whole columns at once where rows are short and many."""
    if width == 1:
        return list(map(float, items))
    if width <= _SHORT_ROW:
        return list(map(float, map(max, *(items[column::width] for column in range(width)))))
    return list(map(float, map(max, rows_of(items, width))))


def _rank_losses(
    want: Sequence[float], got: Sequence[float], width: int, offs: Sequence[float], rule: TopkRule
) -> Dict[int, _RankLoss]:
    """Return the rows, by index, in which a leading class may have changed places with one that does not tie with it."""
    losses = {}
    for index, off in enumerate(offs):
        if 2 * off > rule.tie:  # else no two classes that are farther apart than a tie can have changed places
            row = slice(index * width, (index + 1) * width)
            losses[index] = _rank_loss(want[row], got[row], rule)
    return losses


def _rank_loss(want: Sequence[float], got: Sequence[float], rule: TopkRule) -> _RankLoss:
    k = min(rule.k, max(1, len(want) - 1))
    largest = float(max(map(abs, want))) or 1.0
    wanted = heapq.nlargest(k, range(len(want)), key=want.__getitem__)
    seen = heapq.nlargest(k, range(len(got)), key=got.__getitem__)
    gaps = [float(want[label] - want[seen[rank]]) / largest for rank, label in enumerate(wanted)]
    first = next((rank for rank, gap in enumerate(gaps) if gap > rule.tie), -1)
    return _RankLoss(max(0.0, max(gaps)), first, *((wanted[first], seen[first]) if first >= 0 else (0, 0)))


def _row_reason(loss: _RankLoss, off: float, where: str, rule: TopkRule) -> str:
    """Return what differs in the row that is farthest off."""
    if loss.rank >= 0:
        return "at rank %d%s class %d stands where the reference has class %d (scores %.3g apart)" % (
            loss.rank + 1, where, loss.actual, loss.expected, loss.gap,
        )  # fmt: skip
    return "a score%s differs by %.3g of the row's largest (%.3g is allowed)" % (where, off, rule.score)
