"""Children that behave, hang, flood, crash, grow and outlive: each ends within its limits and is decoded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from litefleet_agent.errors import AgentError
from litefleet_agent.verification.child_process import ChildResult, decode, last_line, run_child, without_info

AGENT = Path(__file__).parents[3] / "agent"


def python(code: str, stdin: bytes = b"", limit: float = 20.0, **more) -> ChildResult:
    return run_child([sys.executable, "-I", "-c", code], stdin, limit, **more)


def ended(code: int, stderr: str = "", **more) -> ChildResult:
    name = signal.Signals(-code).name if code < 0 else ""
    return ChildResult(code, name, b"", stderr, 1.0, **more)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end and not gone(pid):
        time.sleep(0.02)
    return gone(pid)


def test_both_pipes_are_served_while_megabytes_go_in_and_out() -> None:
    code = "import sys; d=sys.stdin.buffer.read(); sys.stderr.write('e'*3000000); sys.stdout.buffer.write(d)"
    result = python(code, bytes(3 << 20))
    assert (result.exit_code, len(result.stdout), len(result.stderr)) == (0, 1 << 20, 4096)
    assert not result.timed_out
    assert decode(result) == []


def test_a_child_that_does_not_read_its_input_is_no_error() -> None:
    assert python("pass", bytes(3 << 20)).exit_code == 0


def test_time_limit_ends_the_whole_group() -> None:
    code = "import subprocess,time; p=subprocess.Popen(['sleep','60']); print(p.pid,flush=True); time.sleep(60)"
    result = python(code, limit=1.0)
    assert result.timed_out
    assert result.seconds < 5
    assert wait_gone(int(result.stdout))
    assert [f.code for f in decode(result)] == ["LF408"]


def test_a_grandchild_that_keeps_the_pipes_open_delays_nothing() -> None:
    result = python("import subprocess; print(subprocess.Popen(['sleep','60']).pid)")
    assert (result.exit_code, result.timed_out) == (0, False)
    assert result.seconds < 5
    assert wait_gone(int(result.stdout))


@pytest.mark.parametrize(
    ("name", "code"), [("SIGSEGV", "LF401"), ("SIGILL", "LF401"), ("SIGABRT", "LF402"), ("SIGKILL", "LF411")]
)
def test_signals_are_named_and_decoded(name: str, code: str) -> None:
    result = python(f"import os,signal; os.kill(os.getpid(), signal.{name})")
    assert result.signal_name == name
    (found,) = decode(result, "The model")
    assert found.code == code
    assert found.observed == f"The model died with {name} without a message"


def test_exit_codes_of_a_shell_in_between_are_signals_too() -> None:
    for status, name in ((139, "SIGSEGV"), (134, "SIGABRT"), (132, "SIGILL")):
        assert run_child(["sh", "-c", f"exit {status}"], b"", 10).signal_name == name
    assert run_child(["sh", "-c", "exit 130"], b"", 10).signal_name == ""


def test_memory_limit() -> None:
    result = python("x=bytearray(300<<20)\nimport time; time.sleep(20)", memory_limit_bytes=100 << 20)
    assert result.over_memory
    assert result.max_rss_bytes > 100 << 20
    assert [f.code for f in decode(result)] == ["LF411"]
    refused = python("bytearray(3<<30)", memory_limit_bytes=100 << 20)  # never resident: the kernel says no
    assert [f.code for f in decode(refused)] == ["LF411"]
    assert "MemoryError" in decode(refused)[0].observed
    assert "ran out of memory (its limit is 64 MiB): " in decode(refused, memory_limit_bytes=64 << 20)[0].observed


def test_ticks_come_and_may_abort() -> None:
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(time.monotonic())
        if len(ticks) == 2:
            raise ConnectionError("the controller is gone")

    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        python("import time; time.sleep(60)", on_tick=tick, limit=60)
    assert 1.5 < time.monotonic() - begun < 10


def test_a_program_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(AgentError, match="/nonexistent cannot be started: No such file or directory"):
        run_child(["/nonexistent"], b"", 1)


def test_the_child_dies_with_its_parent() -> None:
    child = (
        f"import os,sys,time; sys.path.insert(0,{str(AGENT)!r}); from litefleet_agent.verification.child_process "
        "import die_with_parent\n"
        "assert die_with_parent(os.getppid()); print(os.getpid(),flush=True); time.sleep(60)"
    )
    parent = f"import subprocess,sys; subprocess.Popen([sys.executable,'-c',{child!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid)
        os.kill(process.pid, signal.SIGKILL)
        assert wait_gone(pid)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("[F x.cc:1] Check failed: no kernel for 'calib' ", "LF104"),
        ("Check failed: kernels.size() 'io_copy'", "LF103"),
        ("naive-buffer model must be upgraded", "LF107"),
        ("the format cannot be recognized", "LF106"),
        ("Failed to read 12 bytes", "LF105"),
        ("terminate called after throwing 'std::bad_alloc'", "LF411"),
        ("Check failed: CheckShape", "LF402"),
    ],
)
def test_paddle_lites_own_words_decide(words: str, code: str) -> None:
    (found,) = decode(ended(-6, f"warning\n{words}\n"))
    assert found.code == code
    assert words.strip() in found.observed


def test_the_fatal_line_is_told_rather_than_the_last() -> None:
    assert last_line("[F a.cc] Check failed: x == y\n*** stack ***\n\n") == "[F a.cc] Check failed: x == y"
    assert last_line("") == ""
    assert decode(ended(3, "what\n"))[0].observed == "the model ended with exit code 3: what"


def test_what_a_runtime_prints_at_each_load_is_no_detail() -> None:
    told = "[I  1/ 1  0: 0: 0.123 ...lite/core/device_info.cc:238 get_cpu_arch] Unknow cpu arch: 3079\n" * 17
    said = "[W 11/28 11:33:42.435 ...x.cc:89 Get] Can not find library\n"
    assert without_info(told + said + told[:90]) == said
    kept = "[IMPORTANT] kept\nImportError: [I am no log line]\n"
    assert without_info(kept) == kept
