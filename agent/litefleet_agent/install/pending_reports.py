"""Reports of installations that wait on the device until a controller collects them: `reports/<utc>-<n>.json`."""

import json
import os
import re
import time
from typing import Dict, List, Mapping, NamedTuple, Sequence

from ..findings import Finding
from ..releases.store import Store, read_small, write_small

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]{1,4}\Z")
_KEPT = 50
_AT_ONCE = 20
_MAX_TOGETHER = 256 << 10  # bytes of JSON
_MAX_ONE = 64 << 10


class ReleaseOutcome(NamedTuple):
    """Result of installing one release."""

    model: str
    release: str
    artifact: str  # SHA-256 of its .nb file
    verdict: str
    findings: List[Finding]
    measurements: Dict[str, object]
    activated: bool = False

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        return dict(self._asdict(), findings=[f.to_dict() for f in self.findings])


class InstallReport(NamedTuple):
    """Result of installing a bundle."""

    at: int  # seconds since the epoch
    bundle: str  # file name
    outcomes: List[ReleaseOutcome]
    id: str = ""  # "" until it is stored
    shortened: bool = False  # findings, measurements or outcomes were left out

    def to_dict(self) -> Dict[str, object]:
        """Return the JSON form."""
        data = dict(self._asdict(), kind="install", outcomes=[outcome.to_dict() for outcome in self.outcomes])
        if not self.shortened:
            del data["shortened"]
        return data


def add_report(store: Store, report: InstallReport) -> InstallReport:
    """Store a report and return it with its `id`; only the latest 50 are kept.

    The caller holds the store's lock.  Raises StoreError when it cannot be written.
    """
    existing = _ids(store)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = max([int(i.rpartition("-")[2]) for i in existing if i.startswith(stamp)] or [-1]) + 1
    report = _shorten(report._replace(id="%s-%d" % (stamp, number)))
    write_small(store, ("reports", report.id + ".json"), _encode(report.to_dict()))
    remove_collected(store, (existing + [report.id])[:-_KEPT])
    return report


def _shorten(report: InstallReport) -> InstallReport:
    """Return a report of at most 64 KiB: from a longer one, findings, measurements, then outcomes are left out."""
    if len(_encode(report.to_dict())) <= _MAX_ONE:
        return report
    short = [outcome._replace(findings=outcome.findings[:1], measurements={}) for outcome in report.outcomes]
    report = report._replace(outcomes=short, shortened=True)
    while len(_encode(report.to_dict())) > _MAX_ONE and report.outcomes:
        report = report._replace(outcomes=report.outcomes[: len(report.outcomes) // 2])
    return report


def pending(store: Store) -> List[Dict[str, object]]:
    """Return the waiting reports in their JSON form, the oldest first: at most 20, and 256 KiB together.

    Of a report that cannot be read, only its id is returned, so that it can be collected and removed.
    """
    reports: List[Dict[str, object]] = []
    left = _MAX_TOGETHER
    for identity in _ids(store):
        report = dict(read_small(store, "reports", identity + ".json", 2 * _MAX_ONE) or {}, id=identity)
        left -= len(_encode(report))
        if left < 0 or len(reports) == _AT_ONCE:
            break
        reports.append(report)
    return reports


def remove_collected(store: Store, ids: Sequence[object]) -> int:
    """Remove the reports that a controller has stored and return how many there were; unknown ids are ignored."""
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


def _encode(report: Mapping[str, object]) -> bytes:
    return json.dumps(report, sort_keys=True, separators=(",", ":")).encode("utf-8")
