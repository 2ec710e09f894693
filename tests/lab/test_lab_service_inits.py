"""The service without systemd: the same daemon, started by OpenRC's supervise-daemon and by BusyBox's init, each a real PID 1."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.provision.provision import Choice

from tests.conftest import lacking
from tests.lab.containers import why_not_booted
from tests.lab.init_systems import BUSYBOX, OPENRC, System
from tests.lab.run_provision import newer_agent
from tests.lab.service_load import asking
from tests.lab.service_machine import AGENT, HOME, PYTHON, SOCKET, Resident, resident, within

pytestmark = pytest.mark.lab

SCRIPTS = {"openrc": "/etc/init.d/litefleet-agent", "busybox": "/etc/init.d/S90litefleet-agent"}
# So that a test need not wait for minutes.
QUICK = "s/^healthcheck_\\(delay\\|timer\\)=60/healthcheck_\\1=3/; s/--timeout-s 30/--timeout-s 3/; s,TERM/45,TERM/2,"


@pytest.fixture(scope="module", params=[OPENRC, BUSYBOX], ids=lambda system: system.name)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resident]:
    if reason := why_not_booted():
        lacking(reason)
    system: System = request.param
    with resident(tmp_path_factory.mktemp("lab"), system) as lab:
        yield lab


def daemon(lab: Resident) -> int:
    """Return the service's process, 0 while there is none."""
    told = lab.machine.ssh(f"{PYTHON} -Es {AGENT} status --socket {SOCKET}")
    return int(json.loads(told.stdout)["pid"]) if told.returncode == 0 else 0


def test_it_runs_as_its_user_in_the_interpreter_of_the_inventory(lab: Resident) -> None:
    pid = daemon(lab)
    assert lab.ssh(f"tr '\\0' '\\n' < /proc/{pid}/cmdline").splitlines()[:3] == [PYTHON, "-Es", AGENT]
    assert lab.ssh(f"stat -c %U /proc/{pid}").strip() == "litefleet"
    assert lab.ssh(f"grep Umask /proc/{pid}/status").split() == ["Umask:", "0077"]
    assert "NOTIFY_SOCKET" not in lab.ssh(f"cat /proc/{pid}/environ")
    status = lab.status()
    assert (status["health"], status["drift"], status["models"]["cls"]["state"]) == ("ok", [], "serving")


def test_a_second_provision_changes_nothing(lab: Resident) -> None:
    pid = daemon(lab)
    done, said = lab.provision()
    assert done, "\n".join(said)
    assert not [line for line in said if line.startswith(("  changed", "  failed"))], said
    assert daemon(lab) == pid


def test_an_upgrade_under_load_loses_nothing(lab: Resident) -> None:
    old = lab.link()
    with asking(lab) as app:
        new = lab.rollout(3)
        app.go_on(100, new)
    total = app.total
    assert (total.asked, total.lost, total.wrong, total.errors) == (total.answered, 0, 0, {}), total
    assert set(total.releases) == {old, new} != {old}


def test_a_newer_agent_takes_over_under_load_and_loses_nothing(lab: Resident) -> None:
    pid = daemon(lab)
    with asking(lab) as app:
        for archive in (newer_agent(), agent_archive()):
            done, said = lab.provision(archive=archive)
            assert done, "\n".join(said)
            within(60, lambda sha=archive.sha256: lab.status()["version"] == sha, "the newer agent answers")
            app.go_on(100)
    total = app.total
    assert (total.asked, total.lost, total.wrong, total.errors) == (total.answered, 0, 0, {}), total
    assert daemon(lab) == pid


def test_one_that_dies_is_started_again_and_callers_are_told_meanwhile(lab: Resident) -> None:
    pid = daemon(lab)
    with asking(lab, pause_s=0.2) as app:
        lab.ssh(f"kill -9 {pid}")
        within(60, lambda: daemon(lab) not in (0, pid), "it is started again")
        app.go_on()
    assert (app.total.lost, app.total.wrong) == (0, 0), app.total
    assert set(app.total.errors) == {"gone", "not-running"} or set(app.total.errors) == {"not-running"}, app.total


def test_what_happened_is_kept_and_where_there_is_a_system_log_told(lab: Resident) -> None:
    assert '"kind": "switched"' in lab.ssh(f"cat {HOME}/history/*.jsonl").replace('":"', '": "')
    if lab.system is BUSYBOX:  # the supervise-daemon of OpenRC 0.45 has no place for what a service says
        assert "cls switched" in lab.ssh("grep 'daemon.notice litefleet-agent: ' /var/log/messages")


def test_what_hangs_is_replaced(lab: Resident) -> None:
    """A worker by the service, everywhere; the service itself where OpenRC looks after it."""
    stuck = within(30, lab.workers, "a worker")[0]
    lab.ssh(f"kill -STOP {stuck}")
    within(60, lambda: lab.workers() and stuck not in lab.workers(), "another worker takes its place")
    if lab.system is OPENRC:
        lab.ssh(f"sed -i '{QUICK}' {SCRIPTS['openrc']} && {SCRIPTS['openrc']} restart")
        pid = within(60, lambda: daemon(lab), "it runs")
        lab.ssh(f"kill -STOP {pid}")
        within(60, lambda: daemon(lab) not in (0, pid), "it is started again")
    done, said = lab.provision()
    assert done, "\n".join(said)
    within(60, lambda: lab.status()["health"] == "ok", "it serves")


def test_it_comes_back_from_a_restart_without_what_nobody_confirmed(lab: Resident) -> None:
    old = lab.link()
    new = lab.leave_unconfirmed(4)
    within(30, lambda: lab.model()["release"] == new != old, "the leased release serves")
    lab.machine.restart(120)
    within(60, lambda: daemon(lab), "it runs")
    within(60, lambda: lab.model()["release"] == old, "it serves what it served before")
    assert lab.link() == old
    with asking(lab) as app:
        app.go_on()
    assert set(app.total.releases) == {old}


def test_removal_leaves_nothing(lab: Resident) -> None:
    done, said = lab.provision(Choice(remove=True, purge=True))
    assert done, "\n".join(said)
    left = "ls -d /etc/init.d/*litefleet* /etc/runlevels/*/litefleet* /run/litefleet* " + HOME
    assert lab.ssh(f"{left} 2>/dev/null; grep ^litefleet: /etc/passwd /etc/group", code=None) == ""
    assert "agent.pyz" not in lab.ssh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
