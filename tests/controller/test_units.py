"""The systemd units: systemd itself reads them without a complaint and finds the service well confined."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import lacking

UNITS = Path(__file__).parents[2] / "systemd"
SERVICE, TIMER = UNITS / "litefleet-fleet-verify.service", UNITS / "litefleet-fleet-verify.timer"
RECOVER = UNITS / "litefleet-recover.service"
RECONCILE = UNITS / "litefleet-reconcile.service"


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        lacking("systemd-analyze is missing: install systemd")
    return found


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, check=False)


def test_units_are_valid(analyze: str) -> None:
    done = run(analyze, "verify", "--man=no", SERVICE, TIMER, RECOVER, RECONCILE, RECONCILE.with_suffix(".timer"))
    ours = [line for line in done.stderr.splitlines() if "litefleet" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("service", [SERVICE, RECOVER, RECONCILE], ids=lambda path: path.stem)
def test_the_services_are_confined(analyze: str, service: Path) -> None:
    done = run(analyze, "security", "--offline=true", "--no-pager", service)
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= 2.0
