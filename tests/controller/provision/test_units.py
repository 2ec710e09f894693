"""The systemd units: systemd itself reads them without a complaint and finds the service well confined."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import lacking

UNITS = Path(__file__).parents[3] / "systemd"
SERVICE, TIMER = UNITS / "litefleet-fleet-verify.service", UNITS / "litefleet-fleet-verify.timer"
RECOVER = UNITS / "litefleet-recover.service"
RECONCILE = UNITS / "litefleet-reconcile.service"
AGENT, AGENT_VERIFY = UNITS / "litefleet-agent.service", UNITS / "litefleet-verify.service"
METRICS = UNITS / "litefleet-metrics.service"
SERVE = UNITS / "litefleet-serve.service"
CONFINED = [SERVICE, RECOVER, RECONCILE, AGENT, AGENT_VERIFY, METRICS, SERVE]


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        lacking("systemd-analyze is missing: install systemd")
    return found


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, check=False)


def test_units_are_valid(analyze: str) -> None:
    others = [TIMER, RECONCILE.with_suffix(".timer"), AGENT.with_suffix(".socket"), AGENT_VERIFY.with_suffix(".timer")]
    done = run(analyze, "verify", "--man=no", *CONFINED, *others)
    ours = [line for line in done.stderr.splitlines() if "litefleet" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("service", CONFINED, ids=lambda path: path.stem)
def test_the_services_are_confined(analyze: str, service: Path) -> None:
    done = run(analyze, "security", "--offline=true", "--no-pager", service)
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= 2.0


def settings(unit: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in unit.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {key: value for key, equals, value in lines if equals}


def test_the_service_outlives_what_happens_to_it() -> None:
    """Its socket stays while it restarts, a worker's end by memory is not its own, and what runs may be finished."""
    service, socket = settings(AGENT), settings(AGENT.with_suffix(".socket"))
    assert (service["Restart"], service["OOMPolicy"], service["KillMode"]) == ("always", "continue", "mixed")
    assert service["RuntimeDirectoryPreserve"] == "yes"  # the socket lies in that folder
    assert (socket["RemoveOnStop"], socket["SocketMode"], socket["SocketGroup"]) == ("no", "0660", "litefleet")
    assert int(service["TimeoutStopSec"]) > 20 + 3  # what daemon.py takes to drain and to end its workers
    assert "PrivateUsers" not in service  # with it, SO_PEERCRED names every caller nobody


@pytest.mark.parametrize("unit", [AGENT, AGENT_VERIFY, SERVICE, RECONCILE, SERVE], ids=lambda path: path.stem)
def test_the_units_that_run_models_let_them_confine_themselves(unit: Path) -> None:
    filters = [line for line in unit.read_text(encoding="utf-8").splitlines() if line.startswith("SystemCallFilter=")]
    assert filters[0] == "SystemCallFilter=@system-service"  # an allow list: what follows without "~" is added to it
    assert {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} <= {
        name for line in filters if "=~" not in line for name in line.partition("=")[2].split()
    }


def test_the_unit_and_the_program_agree_on_exit_codes() -> None:
    from litefleet_agent.verification.release import BUSY

    assert settings(AGENT_VERIFY)["SuccessExitStatus"] == str(BUSY)
