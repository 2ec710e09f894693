"""The operator's timers: units that systemd itself accepts, and crontab lines that a shell runs as they stand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from litefleet_controller.common.errors import UsageError
from litefleet_controller.project.schedule import Schedule, make_schedule, unit_folder


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Schedule:
    monkeypatch.setenv("LITEFLEET_OPERATOR", 'Ann "100%" O\'Hara $x')
    monkeypatch.delenv("SUDO_USER", raising=False)
    folder = tmp_path / "my 5% fleet"
    folder.mkdir()
    (folder / "model.nb").touch()
    (folder / "litefleet.yaml").write_text(
        "fleet: hall.2\nmodels: {cls: {nb: {x86_64: model.nb}, golden: {engine: paddlelite}}}\n"
    )
    return make_schedule(folder / "litefleet.yaml", "5min", "23:05", ":9808", repair=True)


@pytest.mark.parametrize("system", [True, False])
def test_systemd_accepts_the_units(made: Schedule, tmp_path: Path, system: bool) -> None:
    units = made.units(system)
    names = ("reconcile-hall.2.service", "reconcile-hall.2.timer", "verify-hall.2.service", "verify-hall.2.timer")
    assert list(units) == [f"litefleet-{name}" for name in (*names, "metrics-hall.2.service")]
    assert "OnCalendar=*-*-* 23:05" in units["litefleet-verify-hall.2.timer"]
    service = units["litefleet-reconcile-hall.2.service"]
    assert ("User=" in service) is system
    assert "reconcile --repair -c" in service
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing")
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in units]
    done = subprocess.run([analyze, "verify", "--man=no", *paths], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "hall.2" in line]
    assert not said, said


def test_a_shell_runs_the_crontab_lines_as_they_stand(made: Schedule) -> None:
    lines = made.crontab()
    assert [" ".join(line.split()[:5]) for line in lines] == ["*/5 * * * *", "5 23 * * *"]
    command = lines[0].split(None, 5)[5].replace("\\%", "%")  # what cron passes to sh
    script = made.config.parent / "show"
    script.write_text("#!/bin/sh\nprintenv LITEFLEET_OPERATOR; pwd; echo $*\n")
    script.chmod(0o755)
    shown = command.replace(made.argv(made.jobs[0])[0], "./show").partition(" >>")[0]
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:2] == ['Ann "100%" O\'Hara $x (timer)', str(made.config.parent)]
    assert done.stdout.splitlines()[2] == f"reconcile --repair -c {made.config}"


@pytest.mark.parametrize(
    ("every", "verify"), [("0", ""), ("60", ""), ("often", ""), ("15", "25:00"), ("15", "nightly")]
)
def test_times_that_are_none(made: Schedule, every: str, verify: str) -> None:
    with pytest.raises(UsageError, match=r"--(every|verify) "):
        make_schedule(made.config, every, verify, "", repair=False)


def test_a_users_own_units_lie_where_systemd_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert unit_folder(system=False) == tmp_path / "systemd" / "user"
    assert unit_folder(system=True) == Path("/etc/systemd/system")
