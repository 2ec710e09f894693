"""Real and quoted logs are decoded to their causes, good ones to nothing; no text breaks or slows the decoder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.findings import CATALOGUE, Certainty, Severity
from litefleet_agent.findings.crashlog.decode import Context, LogReading, decode_log, signal_of
from litefleet_agent.findings.crashlog.rules import RULES
from litefleet_agent.findings.crashlog.text import MOST, sanitize_line
from litefleet_agent.verification.child_process import ChildResult, decode

from tests.agent.support.log_corpus import LOGS

FOLDER = Path(__file__).parents[1] / "fixtures" / "logs"
GOOD = [name for name, codes, _ in LOGS if not codes or codes == ("LF108",)]


def read(name: str) -> LogReading:
    return decode_log((FOLDER / (name + ".log")).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "codes", "source"), LOGS, ids=[row[0] for row in LOGS])
def test_each_log_gives_its_causes_in_order(name, codes, source):
    assert source.split(": ")[0] in ("real", "quoted") or source.startswith("written after ")
    assert tuple(found.code for found in read(name).findings) == codes


def test_the_corpus_is_whole():
    assert sorted(path.stem for path in FOLDER.glob("*.log")) == sorted(row[0] for row in LOGS)
    assert len(LOGS) >= 45
    assert len(GOOD) >= 8


@pytest.mark.parametrize("name", GOOD)
def test_good_runs_give_nothing_above_a_note(name):
    assert {found.severity for found in read(name).findings} <= {Severity.NOTE}


def test_every_rule_has_a_row_and_finds_its_own_word():
    for rule in RULES:
        assert rule.code in CATALOGUE, rule
        assert rule.source, rule


def test_a_cause_is_told_once_with_its_line():
    reading = read("mixed-causes")
    assert [(cause.code, cause.place.number) for cause in reading.lines] == [("LF105", 2), ("LF306", 1)]
    assert reading.findings[0].observed.startswith("Line 2 says: [F 11/24 ")


def test_a_log_tells_what_it_is():
    facts = dict(read("run-newer-file-lacks-kernel").facts)
    assert facts["Paddle-Lite"] == "v2.10"
    assert facts["file from"] == "opt v2.13-rc"
    assert facts["operators"] == "matmul_v2"
    assert dict(read("opt-attribute").facts)["program"] == "Paddle-Lite's converter (opt)"
    assert dict(read("opt-attribute").facts)["stopped in"] == "op_desc.h:118"
    assert dict(read("tombstone").facts)["architecture"] == "armv8"


def test_what_else_is_known_of_the_end():
    assert [f.code for f in decode_log("", exit_code=0).findings] == []
    assert [f.code for f in decode_log("", exit_code=139).findings] == ["LF401", "LF101"]
    assert [f.code for f in decode_log("", signal_name="SIGILL").findings] == ["LF310", "LF104"]
    assert [f.code for f in decode_log("", timed_out=True).findings] == ["LF408"]
    assert [f.code for f in decode_log("", over_memory=True).findings] == ["LF411"]
    threads = decode_log("", "SIGSEGV", context=Context(4, "armv7hf")).findings
    assert [f.code for f in threads] == ["LF401", "LF101", "LF415", "LF114"]


@pytest.mark.parametrize(
    ("code", "name"), [(-11, "SIGSEGV"), (139, "SIGSEGV"), (134, "SIGABRT"), (130, ""), (1, ""), (0, "")]
)
def test_signals_behind_exit_codes(code, name):
    assert signal_of(code) == name


def test_numbers_stay_true_in_a_long_log():
    lines = [f"filler {n:06} {'x' * 40}" for n in range(60000)]
    lines[100] = "libgomp.so.1: cannot open shared object file"
    lines[59990] = "Check failed: (fread): Failed to read 12 bytes."
    text = "\n".join(lines)
    assert len(text) > 2 * MOST
    reading = decode_log(text)
    assert sorted((c.code, c.place.number) for c in reading.lines) == [("LF105", 59991), ("LF306", 101)]
    assert "read" in dict(reading.facts)


def test_lines_are_shown_without_what_steers_a_terminal():
    seen = decode_log("\x1b[31mCheck failed: a\x07b\x1b[0m").findings[0].observed
    assert seen == "Line 1 says: \\x1b[31mCheck failed: a\\x07b\\x1b[0m"
    assert len(sanitize_line("x" * 5000, 2500)) <= 302


@pytest.mark.parametrize(
    "text",
    ["a" * MOST, "[F 1/ 1 " * (MOST // 8), "undefined symbol: " * (MOST // 18), "'" * MOST, "\n" * MOST,
     "exit exit code " * (MOST // 15), "UnsatisfiedLinkError: " * (MOST // 22), "unsupported ops are:" * (MOST // 20),
     "nan, " * (MOST // 5), "version of opt:v2" * (MOST // 17)],
)  # fmt: skip
def test_no_text_makes_it_slow(text):
    begun = time.process_time()
    decode_log(text)
    assert time.process_time() - begun < 10


@settings(max_examples=150, deadline=5000)
@given(st.binary(max_size=3000), st.lists(st.sampled_from([rule.word for rule in RULES]), max_size=6))
def test_no_bytes_break_it(data, words):
    reading = decode_log(data.decode("utf-8", "replace") + "\n".join(words))
    for found in reading.findings:
        assert found.observed.isprintable()
        assert len(found.observed) < 3200  # escaped, ten characters for one at most


def test_a_child_tells_only_what_is_more_than_possible():
    def died(words):
        return decode(ChildResult(-6, "SIGABRT", b"", words, 1.0), "The model")

    assert [f.code for f in died("[F 1/ 1 x] Check failed: op_->CheckShape(): ")] == ["LF402"]
    (found,) = died("Error: This model is not supported, because kernel for 'calib' is not supported by Paddle-Lite.")
    assert (found.code, found.certainty) == ("LF104", Certainty.LIKELY)
    assert found.observed.startswith("The model died with SIGABRT: Error: This model")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("LF401", "    Last State:  Terminated\n      Reason:    Error\n      Exit Code:    139\n"),
        ("LF411", "      Exit Code:    137\n"),
        ("LF401", "*** SIGSEGV (@0x0) received by PID 3427 (TID 0x7f00) from PID 0; stack trace: ***"),
        ("LF401", "#  SIGSEGV (0xb) at pc=0x00007f1a, pid=1, tid=2"),
        ("LF401", "Thread 1: EXC_BAD_ACCESS (code=1, address=0x0)"),
        ("LF401", "make: *** [Makefile:3: run] Error 139"),
        ("LF402", "make[1]: *** [run] Error 134"),
        ("LF401", "Command terminated by signal 11"),
        ("LF401", "[ERROR] Worker (pid:12) was terminated due to signal 11"),
        ("LF401", "DAMN ! worker 1 (pid: 7) died, killed by signal 11 :( trying respawn ..."),
        ("LF401", "2024-05-01 10:00:00,000 INFO exited: app (terminated by SIGSEGV; not expected)"),
        ("LF401", "fish: Job 1, 'python3 run.py' terminated by signal SIGSEGV (Address boundary error)"),
        ("LF401", "zsh: bus error  python3 run.py"),
        ("LF402", "zsh: abort      python3 run.py"),
        ("LF411", "zsh: killed     python3 run.py"),
        ("LF401", "traps: python3[7] general protection fault ip:7f00 sp:7f01 error:0 in lite.so[7f00+100]"),
        ("LF401", "$ python3 run.py\n$ echo $?\n139\n"),
        ("LF401", "Process finished with exit code 3221225477"),
        ("LF401", "进程已结束，退出码 139"),
        ("LF401", "退出代码：139"),
        ("LF401", "返回码为 -11。"),
    ],
)
def test_the_words_of_many_for_an_end(code, text):
    """As Kubernetes, glog, Java, iOS, make, time, gunicorn, uwsgi, supervisord, shells, the kernel and Windows write."""
    severe = [f.code for f in decode_log(text).findings if f.severity is Severity.ERROR]
    assert code in severe or (code == "LF401" and severe == ["LF101"]), severe  # a SIGSEGV makes one think of LF101


@pytest.mark.parametrize(
    "text",
    [
        "[INFO] check failed login attempts: 0",
        "check failed: 0 passed: 12",
        "INFO all tests for segmentation fault handling passed",
        "2024-05-01 10:00:00 DEBUG handlers for Segmentation fault and Bus error are installed",
        "INFO retry handler installed for MemoryError",
        "2024 W tensorflow/dso_loader.cc:64] Could not load library; dlerror: libcudart.so.11.0: cannot open shared object file",
        "exited with code 0\nkilled by signal 15",
        "echo $?\n0",
        "make: *** [clean] Error 1",
    ],
)
def test_words_that_only_sound_like_an_end(text):
    assert [f for f in decode_log(text).findings if f.severity is Severity.ERROR] == []


def test_what_docker_stopped_itself_is_only_possibly_out_of_memory():
    for text, certainty in (
        ('"OOMKilled": false, "ExitCode": 137', Certainty.POSSIBLE),
        ('"OOMKilled": true, "ExitCode": 137', Certainty.CERTAIN),
    ):
        (found,) = decode_log(text).findings
        assert (found.code, found.certainty) == ("LF411", certainty)
