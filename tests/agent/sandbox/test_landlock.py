"""Landlock by ABI: what older ones still hold on a real kernel, which folders are readable, and kernels that answer oddly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from litefleet_agent.sandbox import Policy, describe_kernel, landlock

from tests.agent.sandbox.site import AGENT
from tests.conftest import lacking

# A kernel that says it has ABI `most`: what follows is done by the real one.
_APPLY = """
import json, os, sys
sys.path.insert(0, {agent!r})
from litefleet_agent.sandbox import Policy, landlock
from litefleet_agent.sandbox.kernel import Kernel

class Told(Kernel):
    def call(self, number, *arguments):
        return {most} if number == 444 and arguments[2] == 1 else super().call(number, *arguments)

kernel = Told()
kernel.prctl(38, 1, 0, 0, 0)
applied = landlock.apply(kernel, Policy(**{policy!r}))
got = {{}}
def attempt(name, work):
    try:
        work()
        got[name] = True
    except OSError:
        got[name] = False
work, out = {work!r}, {out!r}
attempt("write inside", lambda: open(work + "/a", "w").close())
attempt("folder inside", lambda: os.mkdir(work + "/f"))
attempt("rename inside", lambda: os.rename(work + "/a", work + "/b"))
attempt("move inside", lambda: os.rename(work + "/b", work + "/f/b"))
attempt("delete inside", lambda: os.unlink(work + ("/f/b" if got["move inside"] else "/b")))
attempt("truncate inside", lambda: os.truncate(work + "/kept", 1))
attempt("link inside", lambda: os.symlink("x", work + "/l"))
attempt("pipe inside", lambda: os.mkfifo(work + "/p"))
attempt("write outside", lambda: open(out + "/x", "w").close())
attempt("append outside", lambda: open(out + "/secret", "a").close())
attempt("read outside", lambda: open(out + "/secret").read())
attempt("list outside", lambda: os.listdir(out))
attempt("delete outside", lambda: os.unlink(out + "/secret"))
attempt("move in", lambda: os.rename(out + "/secret", work + "/secret"))
attempt("read listed", lambda: open(out + "/listed").read())
attempt("write listed", lambda: open(out + "/listed", "a").close())
attempt("truncate listed", lambda: os.truncate(out + "/listed", 0))
attempt("read system", lambda: open("/etc/ld.so.cache", "rb").read(1))
attempt("shadow", lambda: open("/etc/shadow", "rb").read(1))
attempt("sink", lambda: open("/dev/null", "w").write("x"))
print(json.dumps([applied.abi, applied.detail, got]))
"""


def applied(most: int, tmp_path: Path, **policy: Any) -> tuple[int, str, dict[str, bool]]:
    work, out = tmp_path / "work", tmp_path / "out"
    for folder in (work, out):
        folder.mkdir()
    for path in (work / "kept", out / "secret", out / "listed"):
        path.write_text("original")
    given = dict({"work": str(work), "reads": (str(out / "listed"), str(out / "missing"))}, **policy)
    code = _APPLY.format(agent=str(AGENT), most=most, policy=given, work=str(work), out=str(out))
    told = json.loads(subprocess.check_output([sys.executable, "-I", "-c", code], timeout=60))
    return told[0], told[1], told[2]


def here() -> int:
    abi = describe_kernel().landlock_abi
    if not abi:
        lacking("this kernel has no Landlock")
    return abi


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, 7])
def test_each_abi_keeps_files(abi: int, tmp_path: Path) -> None:
    if abi > here():
        lacking(f"this kernel has no Landlock of ABI {abi}")
    in_force, detail, got = applied(abi, tmp_path)
    assert (in_force, detail) == (abi, f"ABI {abi}")
    inside = ("write inside", "folder inside", "rename inside", "delete inside", "truncate inside")
    assert all(got[name] for name in (*inside, "read listed", "sink"))
    assert got["move inside"] is (abi >= 2)  # from one folder to another: REFER
    assert got["truncate listed"] is (abi < 3)  # why the filter refuses it too
    refused = (
        "link inside",
        "pipe inside",
        "write outside",
        "append outside",
        "read outside",
        "list outside",
        "delete outside",
    )
    assert not any(got[name] for name in (*refused, "move in", "write listed", "shadow"))
    assert (tmp_path / "out" / "secret").read_text() == "original"


def test_without_a_work_folder_nothing_is_written(tmp_path: Path) -> None:
    abi, _, got = applied(here(), tmp_path, work="")
    assert abi == here()
    assert {name for name, done in got.items() if done} == {"read listed", "read system", "sink"}


def test_reading_everything_still_writes_nowhere_else(tmp_path: Path) -> None:
    _, _, got = applied(here(), tmp_path, read_everything=True)
    assert got["read outside"]
    assert got["list outside"]
    assert not got["write outside"]
    assert not got["write listed"]


@pytest.mark.parametrize("abi", [8, 9, 10, 99])
def test_a_kernel_that_promises_more_than_it_has_is_told(abi: int, tmp_path: Path) -> None:
    """What this kernel makes of rights it does not know; on one that knows them, they hold."""
    in_force, detail, got = applied(abi, tmp_path)
    if here() >= abi:
        assert in_force == abi
    elif in_force == 0:
        assert detail in ("refused (EINVAL)", "cannot create a ruleset (EINVAL)")
        assert got["write outside"]


@pytest.mark.parametrize("error", [-1, -38, -95, -12])
def test_a_kernel_without_it_is_told(error: int, tmp_path: Path) -> None:
    in_force, detail, got = applied(error, tmp_path)
    assert in_force == 0
    assert {-1: "EPERM", -38: "ENOSYS", -95: "EOPNOTSUPP", -12: "ENOMEM"}[error] in detail
    assert got["write outside"]


def test_rights_are_those_of_each_abi() -> None:
    """By linux/landlock.h of Linux 6.18; 9 and 10 by that of 7.2."""
    assert [landlock.handled_rights(abi)[0] for abi in (1, 2, 3, 4, 5, 6, 7, 8, 9)] == [
        0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0x1FFFF,
    ]  # fmt: skip
    assert [landlock.handled_rights(abi)[1] for abi in (3, 4, 9, 10)] == [0, 3, 3, 15]
    assert [landlock.handled_rights(abi)[2] for abi in (5, 6)] == [0, 3]


def test_neither_the_root_nor_a_relative_path_is_granted() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(AGENT)!r})
sys.path += ["", "relative", "/", "//", "/usr/lib/inside", "/elsewhere", "/elsewhere/inside"]
sys.base_prefix = sys.base_exec_prefix = sys.prefix = sys.exec_prefix = "/"
from litefleet_agent.sandbox import Policy, landlock
paths = [path for path, _ in landlock._rules(Policy())]
assert "/" not in paths and "//" not in paths and all(path[0] == "/" for path in paths)
assert "/elsewhere" in paths and "/elsewhere/inside" not in paths and "/usr/lib/inside" in paths
assert "/from/the/environment" in paths
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, env={"LD_LIBRARY_PATH": "/from/the/environment:rel"}
    )
    assert Policy().writes_nothing
