"""What is said of a confinement, by kernel; what it costs; and that nothing about an odd system makes it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.sandbox import Confinement, Part, Policy, SandboxSupport, describe_kernel

from tests.agent.sandbox.site import AGENT, HERE

_CONFINE = """
import json, sys
sys.path.insert(0, {agent!r})
{before}
from litefleet_agent.sandbox import Policy, confine
confined = confine(Policy(**{policy!r}))
told = dict(confined.to_dict(), parts={{part.name: [part.on, part.detail] for part in confined.parts}}, seconds=confined.seconds)
{after}
print(json.dumps(told))
"""


def confined(
    policy: dict[str, Any], without: str = "", before: str = "", after: str = "", flags: str = "-I"
) -> dict[str, Any]:
    """Confine a process of its own and return what it told."""
    code = _CONFINE.format(agent=str(AGENT), policy=policy, before=before, after=after)
    argv = [sys.executable, str(HERE / "older_kernel.py"), without, sys.executable, flags, "-c", code]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def described(without: str) -> dict[str, Any]:
    code = (
        f"import sys, json; sys.path.insert(0, {str(AGENT)!r}); from litefleet_agent.sandbox import describe_kernel; "
        "print(json.dumps(describe_kernel().to_dict()))"
    )
    argv = [sys.executable, str(HERE / "older_kernel.py"), without, sys.executable, "-I", "-c", code]
    told: dict[str, Any] = json.loads(subprocess.check_output(argv, timeout=60))
    return told


def test_kernels_are_described_as_they_are() -> None:
    here = describe_kernel()
    assert here.machine in ("x86_64", "aarch64", "armv7")
    assert described("") == here.to_dict()
    assert (
        "Seccomp:" not in Path("/proc/self/status").read_text()
        or "Seccomp:\t0" in Path("/proc/self/status").read_text()
    )
    neither = described("landlock,seccomp")
    assert (neither["landlock"], neither["seccomp"]) == (0, False)
    assert neither["missing"] == [
        "landlock: this kernel does not support it (ENOSYS); Linux does from 5.13 on, if built with CONFIG_SECURITY_LANDLOCK",
        "seccomp: this kernel does not support seccomp filters (EINVAL)",
    ]
    unit = described("systemd")
    assert (unit["landlock"], unit["seccomp"]) == (0, True)  # prctl is enough for seccomp
    assert unit["missing"] == [
        "landlock: refused (EPERM) by a filter around this process; in a systemd unit, add "
        "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self"
    ]


def test_describing_confines_nothing() -> None:
    code = f"import sys; sys.path.insert(0, {str(AGENT)!r}); from litefleet_agent.sandbox import describe_kernel\n"
    code += "describe_kernel(); import subprocess, socket; socket.socket(); subprocess.check_call(['true'])"
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def test_what_is_in_force_is_what_the_kernel_says(tmp_path: Path) -> None:
    """/proc's own account of the process, where it has one; read from inside."""
    after = "told['status'] = open('/proc/self/status').read(); told['limits'] = open('/proc/self/limits').read()"
    policy = {"work": str(tmp_path), "data_bytes": 1 << 30, "address_space_bytes": 8 << 30, "oom_score_adj": 700}
    told = confined(policy, after=after + "; told['oom'] = open('/proc/self/oom_score_adj').read()")
    status = dict(line.split(":\t", 1) for line in told["status"].splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == ("2" if told["seccomp"] else "0")
    assert int(status["CapEff"], 16) & ~0b110 == 0
    assert int(told["oom"]) == 700
    rows = {line[:25].strip(): line[25:].split()[:2] for line in told["limits"].splitlines()}
    assert rows["Max data size"] == [str(1 << 30)] * 2
    assert rows["Max address space"] == [str(8 << 30)] * 2
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max open files"] == ["512", "512"]
    assert told["parts"]["seccomp"][0] is told["seccomp"]


def test_it_takes_less_than_two_milliseconds(tmp_path: Path) -> None:
    """Without the imports of ctypes and resource, which every child of the agent has by then.  One try in twenty is enough:
    others use this machine too.  It took 0.5 to 1.1 ms on two machines."""
    took: list[float] = []
    while len(took) < 20 and min(took, default=1.0) >= 2e-3:
        told = confined(
            {"work": str(tmp_path), "reads": [str(AGENT)], "data_bytes": 1 << 30}, before="import ctypes, resource"
        )
        assert told["ms"] == round(told["seconds"] * 1e3, 3)
        took.append(told["seconds"])
    assert min(took) < 2e-3, took


@pytest.mark.parametrize("without", ["", "landlock", "seccomp", "landlock,seccomp", "systemd"])
def test_a_second_confinement_in_it_is_told_and_no_error(without: str) -> None:
    again = "again = confine(Policy()); told['again'] = again.to_dict()"
    told = confined({}, without, after=again)
    assert bool(told["again"]["missing"]) is bool(told["seccomp"] or told["missing"])
    if told["seccomp"]:
        assert told["again"]["seccomp"] is False
        assert any("EPERM" in text for text in told["again"]["missing"])


def test_a_python_without_ctypes_or_resource_keeps_what_is_left() -> None:
    told = confined({}, before="sys.modules['ctypes'] = None")
    assert {name for name, (on, _) in told["parts"].items() if on} == {"limits", "oom_score_adj"}
    assert "this Python cannot call the C library" in told["parts"]["landlock"][1]
    assert set(told["guarantees"].values()) == {"as its user may"}
    told = confined({}, before="sys.modules['resource'] = None")
    assert told["parts"]["limits"] == [False, "this Python has no module `resource`"]
    assert told["seccomp"] is True


def test_an_unknown_machine_is_told() -> None:
    before = "import os; real = os.uname(); os.uname = lambda: type(real)(('Linux', 'n', 'r', 'v', 'riscv64'))"
    told = confined({}, before=before)
    assert told["parts"]["seccomp"] == [False, "the system call numbers of riscv64 are unknown"]
    assert told["parts"]["limits"][0] is True


def test_threads_that_ran_before_are_told() -> None:
    before = "import threading, time; threading.Thread(target=time.sleep, args=(3,), daemon=True).start()"
    told = confined(
        {}, before=before, after="import socket\ntry:\n    socket.socket()\nexcept OSError: told['refused'] = True"
    )
    assert told["refused"]
    if 0 < told["landlock"] < 8:
        assert told["parts"]["threads"] == [False, "Landlock does not cover 1 that were already running"]
        assert told["missing"] == ["threads: Landlock does not cover 1 that were already running"]


def test_seccomp_holds_for_threads_that_ran_before() -> None:
    before = """
import socket, threading, time
got, go = [], threading.Event()
def late():
    go.wait(10)
    try:
        socket.socket()
        got.append("a socket")
    except OSError as error:
        got.append(error.strerror)
thread = threading.Thread(target=late)
thread.start()
"""
    assert confined({}, before=before, after="go.set(); thread.join(); told['got'] = got")["got"] == [
        "Operation not permitted"
    ]


@pytest.mark.parametrize("where", ["os.abort()", "import ctypes; ctypes.string_at(0)", "thread"])
def test_a_crash_looks_as_it_does_without(where: str) -> None:
    """What the parent makes of a death hangs on its signal: abort sends one to this very process, from any thread."""
    if where == "thread":
        where = "import threading; thread = threading.Thread(target=os.abort); thread.start(); thread.join()"
    code = f"import os, sys; sys.path.insert(0, {str(AGENT)!r}); from litefleet_agent.sandbox import Policy, confine\n"
    ends = [
        subprocess.run(
            [sys.executable, "-I", "-c", code + first + where], capture_output=True, timeout=60, check=False
        ).returncode
        for first in ("", "confine(Policy())\n")
    ]
    assert ends[0] == ends[1] < 0


def test_tighter_limits_stay() -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    before += "resource.setrlimit(resource.RLIMIT_DATA, (9 << 28, 9 << 28))\nopen('/proc/self/oom_score_adj', 'w').write('900')"
    after = "told['now'] = [resource.getrlimit(which) for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA)]"
    told = confined({"data_bytes": 1 << 40, "open_files": 1024}, before=before, after=after)
    assert told["now"] == [[64, 64], [9 << 28, 9 << 28]]
    assert told["parts"]["oom_score_adj"] == [True, "900"]


def test_guarantees_follow_from_what_is_in_force() -> None:
    def guarantees(policy: Policy, landlock: int, seccomp: bool) -> dict[str, str]:
        return Confinement(policy, (), landlock, seccomp).guarantees

    free = "as its user may"
    work, nothing, device = Policy(work="/w"), Policy(), Policy(devices=("/dev/mali0",))
    assert [guarantees(p, 0, False)["writes"] for p in (work, nothing, device)] == [free] * 3
    assert [guarantees(p, 0, True)["writes"] for p in (work, nothing, device)] == [free, "nothing", free]
    assert [guarantees(p, 7, True)["writes"] for p in (work, nothing, device)] == [
        "its work folder",
        "nothing",
        "nothing",
    ]
    assert [guarantees(work, abi, False)["network"] for abi in (0, 3, 4)] == [free, free, "no TCP"]
    assert [guarantees(work, abi, False)["signals"] for abi in (0, 5, 6)] == [free, free, "itself only"]
    assert guarantees(Policy(read_everything=True), 7, True)["reads"] == free
    assert guarantees(work, 0, True)["network"] == "none"


def test_forms_are_plain_json() -> None:
    parts = (Part("landlock", False, "why"), Part("seccomp", True, "x86_64"))
    told = Confinement(Policy(), parts, 0, True, 0.0004321).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert (told["missing"], told["ms"], told["seccomp"]) == (["landlock: why"], 0.432, True)
    support = SandboxSupport("aarch64", 0, "not built in", True)
    assert support.to_dict() == {
        "machine": "aarch64",
        "landlock": 0,
        "seccomp": True,
        "missing": ["landlock: not built in"],
    }


def test_a_daemon_that_stays_unconfined_is_as_before() -> None:
    """Importing the package, as the daemon and the controller do, loads no ctypes and changes nothing."""
    code = f"import sys; sys.path.insert(0, {str(AGENT)!r}); import litefleet_agent.sandbox, litefleet_agent.sandbox.launch\n"
    code += "assert 'ctypes' not in sys.modules; import os; print(open('/proc/self/status').read())"
    told = subprocess.check_output([sys.executable, "-I", "-c", code], universal_newlines=True, timeout=60)
    own = Path("/proc/self/status").read_text()
    assert [line for line in told.splitlines() if line.startswith(("NoNewPrivs", "Seccomp:"))] == [
        line for line in own.splitlines() if line.startswith(("NoNewPrivs", "Seccomp:"))
    ]
    assert os.getpid()
