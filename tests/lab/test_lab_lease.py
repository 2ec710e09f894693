"""Dropped packets, stops and a changed clock right after an activation: the device reverts within the lease, sessions end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import lacking

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).parents[2]
LEASE_S = 4.0
KINDS = [
    "to the device",
    "to the controller",
    "both",
    "controller stopped",
    "agent stopped",
    "clock forward",
    "clock back",
]
SILENCE_S = 30.0  # session/watch.py


@pytest.mark.parametrize("release", ["first", "later"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_device_reverts_within_the_lease_and_the_session_gives_way(kind: str, release: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"):
        lacking("needs root, nftables and unshare: it drops packets in a network namespace of its own")
    argv = [
        "unshare",
        "--net",
        sys.executable,
        "-m",
        "tests.lab.lease_device",
        str(tmp_path),
        kind,
        str(LEASE_S),
        release,
    ]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["reverted_s"] < LEASE_S + 2, measured
    assert measured["held"], "the session was to hang for longer than the lease"
    if measured["free_s"] is not None:
        assert measured["free_s"] < SILENCE_S + 10, measured
