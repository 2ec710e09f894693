"""The service as its unit confines it: folders that it must not write are mounted read-only, and it works all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from litefleet_agent.service.history import read_history

from tests.agent.support.service_process import AGENT, PROGRAM, Service
from tests.conftest import lacking

UNIT = Path(__file__).parents[3] / "systemd" / "litefleet-agent.service"
ROOT = "/var/lib/litefleet"
PROTECTED = [".ssh", "agent", "trust", "seals", "releases", "blobs", "runtimes", "verified"]
# As systemd does: a mount namespace of its own, and each path bound to itself, read-only.
NAMESPACE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, flags):
    if libc.mount(source, target, None, flags, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)
if libc.unshare(0x20000):
    raise OSError(ctypes.get_errno(), "no mount namespace")
mount(b"none", b"/", 0x4000 | 0x40000)  # MS_REC, MS_PRIVATE
for path in %r:
    mount(path, path, 0x1000)  # MS_BIND
    mount(b"none", path, 0x20 | 0x1000 | 1)  # MS_REMOUNT, MS_BIND, MS_RDONLY
"""
# What an exploited worker would try, one after the other; prints what came of each.
ATTEMPTS = """
import os, sys
root = sys.argv[1]
def attempt(work):
    try:
        work()
        print("done")
    except OSError as error:
        print(os.strerror(error.errno))
for name in sys.argv[2:]:
    folder = os.path.join(root, name)
    attempt(lambda: open(os.path.join(folder, "authorized_keys"), "w"))
    attempt(lambda: os.rename(folder, folder + ".old"))
    attempt(lambda: os.chmod(folder, 0o777))
"""

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount namespace"),
]


def read_only_paths() -> list[str]:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    paths = [path for line in lines if line.startswith("ReadOnlyPaths=") for path in line.partition("=")[2].split()]
    assert all(path.startswith(f"-{ROOT}/") for path in paths)
    return [path[len(ROOT) + 2 :] for path in paths]


def test_the_unit_creates_what_it_protects() -> None:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    made = [path for line in lines if line.startswith("ExecStartPre=/usr/bin/env mkdir") for path in line.split()[4:]]
    assert sorted(read_only_paths()) == sorted(PROTECTED)
    assert sorted(path for path in made if path.startswith("/")) == sorted(f"{ROOT}/{name}" for name in PROTECTED)


def test_it_serves_and_reverts_and_an_exploited_worker_changes_nothing(device, nb_files, goldens) -> None:
    good = device.release(nb_files("cls", "x86"), goldens["cls"])
    bad = device.release(nb_files("cls", "arm"), goldens["cls"])
    device.activate(good)
    device.activate(bad)
    for name in PROTECTED:
        (device.root / name).mkdir(exist_ok=True)
    (device.root / "blobs" / ".tmp-of-a-dead-session").write_bytes(b"x")
    paths = [os.fsencode(device.root / name) for name in read_only_paths()]
    if subprocess.run([sys.executable, "-c", NAMESPACE % []], stderr=subprocess.DEVNULL, check=False).returncode:
        lacking("a mount namespace")
    with Service(device, ["-c", NAMESPACE % paths + PROGRAM % str(AGENT)]) as service:
        service.told(f"cls went-back {bad[:12]}")
        service.until(lambda status: status["models"]["cls"]["wanted"] == good)
        assert device.current() == good  # the service wrote links and journal
        assert service.status()["problems"] == []
        assert "went-back" in {entry["kind"] for entry in read_history(str(device.root)).entries}
        argv = ["nsenter", f"--mount=/proc/{service.process.pid}/ns/mnt", sys.executable, "-c", ATTEMPTS]
        told = subprocess.run(
            [*argv, str(device.root), *PROTECTED], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        read_only, busy = os.strerror(30), os.strerror(16)
        assert told.splitlines() == [read_only, busy, read_only] * len(PROTECTED)
        assert service.stop() == 0
        assert b"the service was stopped" in (device.root / "status.json").read_bytes()
