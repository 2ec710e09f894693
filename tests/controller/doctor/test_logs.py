"""Logs in doctor: any encoding, bounded, from a file, a pipe or standard input; what cannot be read is a sentence."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.findings import CATALOGUE, Severity
from litefleet_controller.catalogue.details import DETAILS
from litefleet_controller.common.errors import UsageError
from litefleet_controller.doctor import logs
from litefleet_controller.doctor.diagnosis import Diagnosis, Kind
from litefleet_controller.doctor.logs import diagnose_log

LOGS = Path(__file__).parents[2] / "agent" / "fixtures" / "logs"
CHINESE = "./demo: 第 3 行:  2211 段错误               (核心已转储) python3 app.py\n"


def codes(diagnosis: Diagnosis) -> list[str]:
    return [found.code for found in diagnosis.ranked]


def lines(diagnosis: Diagnosis) -> Any:
    return diagnosis.data["lines"]


def facts(diagnosis: Diagnosis) -> dict[str, str]:
    return {fact.label: fact.text for fact in diagnosis.facts}


def test_a_log_with_its_facts_and_lines():
    found = diagnose_log(LOGS / "run-newer-file-lacks-kernel.log")
    assert (found.kind, found.subject, found.path) == (
        Kind.LOG, "run-newer-file-lacks-kernel.log", LOGS / "run-newer-file-lacks-kernel.log",
    )  # fmt: skip
    assert codes(found) == ["LF402", "LF108", "LF113"]
    assert facts(found)["operators"] == "matmul_v2"
    assert facts(found)["log"] == "8 lines, utf-8"
    assert {line["code"]: line["line"] for line in lines(found)}["LF108"] == 3
    assert found.to_dict()["kind"] == "log"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str):
    path = tmp_path / "crash.log"
    path.write_bytes((CHINESE * 3).encode(encoding))
    found = diagnose_log(str(path))
    assert codes(found)[0] == "LF401"
    assert "段错误" in found.ranked[0].observed


def test_damaged_bytes_and_colours(tmp_path: Path):
    path = tmp_path / "crash.log"
    path.write_bytes(b"\xff\xfa\x81\n\x1b[1;31mlibgomp.so.1: cannot open\x1b[0m shared object file\x1b[K\n")
    found = diagnose_log(path)
    assert codes(found) == ["LF306"]
    assert "\x1b" not in found.ranked[0].observed
    assert "x1b" not in found.ranked[0].observed


def test_nothing_recognised_says_what_to_send(tmp_path: Path):
    path = tmp_path / "app.log"
    path.write_text("all went well\n")
    found = diagnose_log(path)
    assert found.findings == ()
    assert "last 50 lines" in facts(found)["recognised"]
    assert "GLOG_v=4" in facts(found)["recognised"]
    path.write_text("")
    assert facts(diagnose_log(path))["recognised"] == "it is empty"


def test_standard_input(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CHINESE.encode())))
    found = diagnose_log("-")
    assert (found.subject, found.path, codes(found)) == ("standard input", None, ["LF401", "LF101"])


def test_a_pipe(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    keep = os.open(pipe, os.O_RDWR)  # there is a writer before the reader comes
    os.write(keep, b"Segmentation fault\n")
    closer = threading.Timer(0.2, os.close, [keep])
    closer.start()
    assert codes(diagnose_log(pipe)) == ["LF401", "LF101"]
    closer.join()


@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("piped", [False, True])
def test_of_a_long_one_beginning_and_end_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, piped: bool
):
    monkeypatch.setattr(logs, "MOST", 3000)
    monkeypatch.setattr(logs, "_HEAD", 1000)
    monkeypatch.setattr(logs, "_CHUNK", 700)
    filler = "all is well\n" * 2000
    text = f"Segmentation fault\n{filler}" if where == "first" else f"{filler}Segmentation fault\n"
    if piped:
        monkeypatch.setattr("sys.stdin", Piped(text.encode()))
        found = diagnose_log("-")
    else:
        (tmp_path / "crash.log").write_text(text)
        found = diagnose_log(tmp_path / "crash.log")
    assert found.data["cut"] is True
    assert "the first MiB and the last" in facts(found)["log"]
    assert codes(found) == ["LF401", "LF101"]


class Piped:
    """Standard input that cannot be sought in."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)
        self.buffer.seekable = lambda: False  # type: ignore[method-assign]


def test_a_hole_that_a_truncated_log_has_is_passed_over(tmp_path: Path):
    (tmp_path / "crash.log").write_bytes(bytes(100_000) + b"Segmentation fault\n")
    assert codes(diagnose_log(tmp_path / "crash.log")) == ["LF401", "LF101"]


def test_a_closed_standard_input_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="The log - cannot be read: standard input is closed"):
        diagnose_log("-")


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path):
    for path in (tmp_path / "none.log", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match=r"The log .* cannot be read: .*\. Check path and permissions\."):
            diagnose_log(path)
    (tmp_path / "model.nb").write_bytes(b"\x02\0" + bytes(500))
    with pytest.raises(UsageError, match="is not text"):
        diagnose_log(tmp_path / "model.nb")


def test_good_logs_find_nothing_above_a_note():
    good = sorted(LOGS.glob("*good*.log"))
    assert len(good) >= 10
    for path in good:
        assert diagnose_log(path).worst in (None, Severity.NOTE), path.name


def test_codes_of_logs_have_explanations():
    for path in LOGS.glob("*.log"):
        for code in codes(diagnose_log(path)):
            assert code in CATALOGUE
            assert code in DETAILS
