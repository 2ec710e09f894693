"""Reports that wait on the device until a controller collects them: `reports/<utc>-<n>.json`, one per installation."""

import json
import os
import re
import time
from typing import Any, Dict, List

from ..releases.store import Store, write_small

__all__ = ["add", "pending", "remove_collected"]

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]{1,4}\Z")
_KEPT = 50
_AT_ONCE = 20
_MAX_TOGETHER = 256 << 10  # bytes of JSON
_MAX_ONE = 64 << 10


def add(store: Store, report: Dict[str, Any]) -> Dict[str, Any]:
    """Leave a report and return it with its `id`; the oldest ones go when there are more than 50.

    Call it under the store's lock.  Raises StoreError when it can't be written.
    """
    existing = _ids(store)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = max([int(i.rpartition("-")[2]) for i in existing if i.startswith(stamp)] or [-1]) + 1
    report = _shorten(dict(report, id="%s-%d" % (stamp, number)))
    write_small(store, ("reports", report["id"] + ".json"), _encode(report))
    remove_collected(store, (existing + [report["id"]])[:-_KEPT])
    return report


def _shorten(report: Dict[str, Any]) -> Dict[str, Any]:
    """Return a report that can be sent: of a long one, findings and measurements are left out."""
    if len(_encode(report)) <= _MAX_ONE:
        return report
    short = [dict(o, findings=o["findings"][:1], measurements={}) for o in report["outcomes"]]
    report = dict(report, outcomes=short, shortened=True)
    while len(_encode(report)) > _MAX_ONE and report["outcomes"]:
        report = dict(report, outcomes=report["outcomes"][: len(report["outcomes"]) // 2])
    return report


def pending(store: Store) -> List[Dict[str, Any]]:
    """Return the reports that wait, the oldest first: at most 20, and 256 KiB together."""
    reports: List[Dict[str, Any]] = []
    left = _MAX_TOGETHER
    for identity in _ids(store):
        report = _read(store, identity)
        left -= len(_encode(report))
        if left < 0 or len(reports) == _AT_ONCE:
            break
        reports.append(report)
    return reports


def _read(store: Store, identity: str) -> Dict[str, Any]:
    """Return a report; of one that can't be read only its id, so that it can be collected and goes."""
    try:
        with open(store.path("reports", identity + ".json"), "rb") as file:
            value = json.loads(file.read(2 * _MAX_ONE).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        value = None
    return dict(value if isinstance(value, dict) else {}, id=identity)


def remove_collected(store: Store, ids: List[Any]) -> int:
    """Remove the reports that a controller has stored and return how many there were; others are passed over."""
    removed = 0
    for identity in ids:
        if not isinstance(identity, str) or not _ID.match(identity):
            continue
        try:
            os.unlink(store.path("reports", identity + ".json"))
            removed += 1
        except FileNotFoundError:
            pass
    return removed


def _ids(store: Store) -> List[str]:
    try:
        names = os.listdir(store.path("reports"))
    except OSError:
        return []
    ids = [n[: -len(".json")] for n in names if n.endswith(".json")]
    return sorted((i for i in ids if _ID.match(i)), key=lambda i: (i[:16], int(i[17:])))


def _encode(report: Dict[str, Any]) -> bytes:
    return json.dumps(report, sort_keys=True, separators=(",", ":")).encode("utf-8")
