"""What lies on a device's disk, and logs: journal, history, status, reports, manifests, crash logs of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.facts import Facts
from litefleet_agent.facts.values import FactsError
from litefleet_agent.findings import CATALOGUE, Finding
from litefleet_agent.findings.crashlog.decode import decode_log
from litefleet_agent.install.pending_reports import pending
from litefleet_agent.releases.crc_log import CrcLog
from litefleet_agent.releases.journal import Journal, Kind, Operation, State
from litefleet_agent.releases.lease import Clock, Lease
from litefleet_agent.releases.store import Manifest, StoreError, VerificationRecord
from litefleet_agent.releases.trust import describe
from litefleet_agent.service.history import newest, read_history
from litefleet_agent.service.settings import SettingsError, settings_of
from litefleet_agent.service.status_file import service_status
from litefleet_agent.verification.comparison.spec import ComparisonSpec
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.outcome import RunReport
from litefleet_controller.doctor.logs import diagnose_log
from litefleet_controller.project.run_fleet import read_report

from tests.agent.support.release_fixtures import opened
from tests.controller.support.bench_answers import report
from tests.fuzz.harness import Reader, Values, fuzz

A, B = "a" * 64, "b" * 64
LOGS = Path(__file__).parents[1] / "agent" / "fixtures" / "logs"
LEASE = Lease(60.0, "boot", 160.0, 1.8e9)
STEPS = [Operation(n, Kind.ACTIVATE, "cls", A, "", B, state, 1.8e9, LEASE) for n, state in enumerate(State, 1)]
ENTRIES = [{"n": n, "kind": "start", "at": 1.8e9, "model": "cls", "release": A, "times": 3} for n in (1, 2, 3)]
MANIFEST = {"schema": 1, "model": {"name": "cls", "nb": A}, "golden": [B], "runtime": "system", "verify": {"runs": 2}}
RECORD = {"fingerprint": A, "at": 1.8e9, "measurements": {"load_ms": 3}, "files": {A: [1, 2, 3, 4, 5]}}
STATUS = {
    "schema": 1, "at": 1.8e9, "health": "ok", "uptime_s": 9, "reasons": [{"text": "x"}], "drift": [], "pid": 9,
    "models": {"cls": {"release": A, "state": "serving", "requests": {"total": 1, "ok": 1}, "latency": {"p50_ms": 1}}},
}  # fmt: skip
ACCEPTED = {"fleet": "shop", "latest": 5, "models": {"cls": {"number": 3, "release": A, "expires": 9}}}


def journal(root: Path) -> Callable[[bytes], object]:
    def read(data: bytes) -> None:
        (root / "journal").write_bytes(data)
        contents = Journal(str(root)).read()
        for operation in contents.operations:
            operation.overdue(Clock())
            json.dumps(operation.to_dict())
        contents.open()

    return read


def test_the_journal_reads_anything(tmp_path: Path) -> None:
    lines = [CrcLog.encode(step.to_dict()) for step in STEPS]
    fuzz(Reader("journal", (b"".join(lines),), journal(tmp_path), ()))
    read = journal(tmp_path)
    entries = Values("journal's steps", ([step.to_dict() for step in STEPS],), lambda made: read(_lines(made)), ())
    fuzz(entries)


def _lines(entries: Any) -> bytes:
    """Return intact lines of any values."""
    values = entries if isinstance(entries, list) else [entries]
    return b"".join(CrcLog.encode(value) for value in values)


def test_the_history_reads_anything(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    folder.mkdir()
    (folder / "id").write_text("0" * 16)

    def read(data: bytes) -> None:
        (folder / "1.jsonl").write_bytes(data)
        page = read_history(str(tmp_path))
        assert len(page.entries) <= 500
        newest(str(tmp_path))

    fuzz(Reader("history", (_lines(ENTRIES),), read, ()))
    fuzz(Values("history's entries", (ENTRIES,), lambda made: read(_lines(made)), ()))


def test_status_and_reports_read_anything(tmp_path: Path) -> None:
    store = opened(tmp_path, Clock())
    (tmp_path / "reports").mkdir(exist_ok=True)
    waiting = {"id": "20260101T000000Z-0", "kind": "install", "outcomes": [{"model": "cls"}]}

    def status(value: Any) -> None:
        (tmp_path / "status.json").write_text(json.dumps(value))
        assert len(json.dumps(service_status(str(tmp_path)))) < 256 << 10

    def reports(value: Any) -> None:
        (tmp_path / "reports" / "20260101T000000Z-0.json").write_text(json.dumps(value))
        assert pending(store)[0]["id"] == "20260101T000000Z-0"

    def accepted(value: Any) -> None:
        (tmp_path / "trust").mkdir(exist_ok=True)
        (tmp_path / "trust" / "accepted.json").write_text(json.dumps(value))
        json.dumps(describe(store).to_dict())

    fuzz(Values("status", (STATUS,), status, ()))
    fuzz(Values("reports", (waiting,), reports, ()))
    fuzz(Values("accepted releases", (ACCEPTED,), accepted, ()))


VALUES = (
    Values("manifest", (MANIFEST,), Manifest.parse, (StoreError,)),
    Values("verification record", ([RECORD],), lambda made: [VerificationRecord.parse(r) for r in _dicts(made)], ()),
    Values("facts", (Facts(machine="x86_64", arch="x86_64", bits=64).to_dict(),), Facts.from_dict, (FactsError,)),
    Values("finding", (Finding("LF302", "x").to_dict(),), lambda made: [Finding.from_dict(made).entry], ()),
    Values("settings", ({"socket": "/run/x", "models": ["cls"], "health_window_s": 5},), settings_of, (SettingsError,)),
)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


@pytest.mark.parametrize("reader", VALUES, ids=lambda reader: reader.name)
def test_values(reader: Values, record_property: Callable[[str, object], None]) -> None:
    fuzz(reader, record_property)


def test_crash_logs(tmp_path: Path) -> None:
    samples = [path.read_bytes()[:20_000] for path in sorted(LOGS.glob("*.log"))[::3]]
    words = (b"[F ", b"SIGSEGV", b"version of opt: v2.13", b"\n", b"1" * 300, b"GLIBC_2.", b"\x1b[31m", b"\xff\xfe")

    def decode(data: bytes) -> None:
        for found in decode_log(data.decode("utf-8", "replace")).findings:
            assert found.code in CATALOGUE

    def diagnose(data: bytes) -> None:
        path = tmp_path / "a.log"
        path.write_bytes(data)
        diagnose_log(path)

    fuzz(Reader("decode_log", samples, decode, (), words, limit_s=5))
    fuzz(Reader("doctor --log", samples, diagnose, (UsageError,), words, limit_s=5))


def test_reports_and_specifications(tmp_path: Path) -> None:
    def read(value: Any) -> RunReport:
        path = tmp_path / "report.json"
        path.write_text(json.dumps(value))
        return read_report(path)

    fuzz(Values("report", (report().to_dict(),), read, (UsageError,)))
    spec = {"compare": "topk", "k": 5, "tie": 0.1}
    fuzz(Values("comparison", (spec,), ComparisonSpec.from_dict, (AgentError,)))
