"""Dropped packets, stops and a changed clock right after an activation: the device reverts within the lease, sessions end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
AT_ONCE = 3  # each has a network namespace and a device of its own, and waits for most of its time

Done = subprocess.CompletedProcess[str]


def _run(kind: str, release: str, folder: Path) -> Done:
    argv = [
        "unshare",
        "--net",
        sys.executable,
        "-m",
        "tests.lab.lease_device",
        str(folder),
        kind,
        str(LEASE_S),
        release,
    ]
    return subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[Done]]]:
    """Start what the chosen tests of this file look at, a few at once, in the order of the tests."""
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"):
        lacking("needs root, nftables and unshare: it drops packets in a network namespace of its own")
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    chosen = [(item.callspec.params["kind"], item.callspec.params["release"]) for item in items]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {case: pool.submit(_run, *case, tmp_path_factory.mktemp("lease")) for case in chosen}
    finally:
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("release", ["first", "later"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_device_reverts_within_the_lease_and_the_session_gives_way(
    kind: str, release: str, running: dict[tuple[str, str], Future[Done]]
) -> None:
    done = running[kind, release].result()
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["reverted_s"] < LEASE_S + 2, measured
    assert measured["held"], "the session was to hang for longer than the lease"
    if measured["free_s"] is not None:
        assert measured["free_s"] < SILENCE_S + 10, measured
