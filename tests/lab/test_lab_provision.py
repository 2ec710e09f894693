"""`litefleet provision` against a Debian machine with a real systemd, sshd and sudo; the tests build upon each other."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_controller.devices.agent_archive import agent_archive
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.provision.carry_out import State, carry_out
from litefleet_controller.provision.login import Admin, Login
from litefleet_controller.provision.provision import Choice, Provision
from litefleet_controller.provision.services import Init
from litefleet_controller.provision.steps import removal
from litefleet_controller.provision.sudo import SudoRemote
from litefleet_inventory.model import Device

from tests.fakes.ssh_keys import keygen
from tests.lab.containers import Machine, wait_until_up
from tests.lab.init_systems import ADMIN, PASSWORD
from tests.lab.run_provision import newer_agent
from tests.lab.run_provision import provision as provision_device

pytestmark = pytest.mark.lab

Provisioner = Callable[..., tuple[bool, list[str]]]
# What a provision may change, without what the running service writes.
LOOK = (
    "find /etc/systemd /var/lib/litefleet/ /etc/passwd /etc/group /etc/shadow ! -path /var/lib/litefleet/"
    " -printf '%p %m %u %s %l %T@\\n' 2>/dev/null"
    " | grep -v -e history -e status.json | sort"
)
UNITS = ("litefleet-agent.socket", "litefleet-agent.service", "litefleet-verify.timer")


@pytest.fixture(scope="module")
def machine(systemd_machine: Machine) -> Machine:
    assert wait_until_up(systemd_machine) == "running"
    return systemd_machine


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keygen(tmp_path_factory.mktemp("keys") / "fleet")


@pytest.fixture
def provision(machine: Machine, key: Path) -> Provisioner:
    """Run a provision as the admin, whose sudo wants a password; return whether it went well, and what was said."""

    def run(choice: Choice | None = None, login: str = ADMIN, password: str = PASSWORD) -> tuple[bool, list[str]]:
        done, said = provision_device(machine, key, choice or Choice(), login=login, password=password)
        assert PASSWORD not in "\n".join(said)
        return done, said

    return run


def count(said: list[str], state: str) -> int:
    return sum(line.startswith(f"  {state} ") for line in said)


def of(machine: Machine, unit: str, name: str) -> str:
    return machine.ssh(f"systemctl show -p {name} --value {unit}").stdout.strip()


def test_a_dry_run_that_looks_changes_nothing(machine: Machine, provision: Provisioner) -> None:
    before = machine.ssh(LOOK).stdout
    done, said = provision(Choice(dry_run=True, check=True))
    assert done, said
    assert count(said, "would change") > 15
    assert any(line.startswith("  ok       Python 3.7") for line in said)
    assert machine.ssh(LOOK).stdout == before != ""


def test_a_wrong_password_is_asked_for_once_and_said(machine: Machine, provision: Provisioner) -> None:
    done, said = provision(password="wrong")
    assert not done
    assert said[-1].startswith("  failed: sudo did not take the password, or does not allow this user everything: ")
    assert "1 incorrect password attempt" in said[-1]  # sudo's own words
    assert machine.ssh("id litefleet").returncode != 0


def test_a_host_key_that_is_not_the_pinned_one_is_refused(machine: Machine, key: Path, tmp_path: Path) -> None:
    said: list[str] = []
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text().strip()
    device = Device("cam", machine.host, machine.port, "litefleet", str(key), host_keys=(other,))
    login = Login(HostKeys([], tmp_path / "known", True), lambda d: (), Admin("root", str(machine.key_path)))
    assert not Provision(Choice(), said.append, lambda: "").device(device, login)
    assert "LF503" in said[-1]


def test_an_interpreter_that_the_service_can_not_start_is_refused(machine: Machine, key: Path) -> None:
    """One that a link leads to in a home folder, which the units hide; and one that is closed to the service's user."""
    machine.ssh(
        "mkdir /home/shared; python3 -m venv --without-pip /home/shared/venv; ln -s /home/shared/venv /opt/venv"
    )
    machine.ssh("mkdir -m 700 /opt/closed; ln -s /usr/bin/python3 /opt/closed/python")
    hints = (
        "Name an interpreter in /usr or /opt",
        "Install Python 3.7 or later on the device, or name one that is there",
    )
    words = ("sees no home folders", "ermission denied")
    for python, word, hint in zip(("/opt/venv/bin/python", "/opt/closed/python"), words, hints, strict=True):
        done, said = provision_device(machine, key, Choice(), python=python)
        assert not done
        assert word in said[-2], said
        assert hint in said[-2], said
        assert machine.ssh("ls /etc/systemd/system/litefleet-agent.service").returncode != 0
    done, said = provision_device(machine, key, Choice(remove=True, purge=True))
    assert done, said


def test_a_device_is_provisioned_by_an_ordinary_user_with_sudo(machine: Machine, provision: Provisioner) -> None:
    done, said = provision()
    assert done, "\n".join(said) + machine.ssh("journalctl -n 40 --no-pager -u 'litefleet*'").stdout
    assert machine.ssh(f"systemctl is-active {' '.join(UNITS)}").stdout.split() == ["active"] * 3
    assert "litefleet-verify.service" in machine.ssh("systemctl list-timers --no-pager").stdout
    assert machine.ssh("stat -c '%U %G %a' /var/lib/litefleet").stdout.split() == ["litefleet", "litefleet", "700"]
    sha = machine.ssh("sha256sum < /var/lib/litefleet/agent/litefleet-agent.pyz").stdout[:64]
    assert sha == agent_archive().sha256  # what went through sudo's stdin, binary and whole
    assert json.loads(machine.ssh("cat /var/lib/litefleet/service.json").stdout) == {"groups": ["litefleet"]}
    machine.ssh("journalctl > /var/log/all")
    stray = machine.ssh(
        f"grep -rlF '{PASSWORD}' /var/lib/litefleet /etc/systemd /var/log; grep -c COMMAND= /var/log/all"
    )
    assert int(stray.stdout) > 10  # sudo wrote down what it ran, and the password is nowhere


def test_the_key_of_the_fleet_logs_in_as_litefleet_and_gets_no_terminal(machine: Machine, key: Path) -> None:
    as_fleet = Machine(machine.port, key, machine.host_public_key)
    assert as_fleet.ssh("id -un", user="litefleet").stdout.strip() == "litefleet"


def test_the_second_run_changes_nothing(machine: Machine, provision: Provisioner) -> None:
    before, pid = machine.ssh(LOOK).stdout, of(machine, "litefleet-agent", "MainPID")
    done, said = provision()
    assert done, said
    assert (count(said, "changed"), count(said, "failed")) == (0, 0), said
    assert machine.ssh(LOOK).stdout == before
    assert of(machine, "litefleet-agent", "MainPID") == pid


def test_new_settings_restart_the_service_and_only_that(
    machine: Machine, provision: Provisioner, tmp_path: Path
) -> None:
    pid = of(machine, "litefleet-agent", "MainPID")
    (tmp_path / "service.json").write_text('{"groups": ["litefleet"], "workers": 2}')
    done, said = provision(Choice(settings=tmp_path / "service.json"))
    assert done, said
    assert of(machine, "litefleet-agent", "MainPID") != pid
    assert count(said, "changed") == 3, "\n".join(said)  # service.json, that it is due, the restart
    assert json.loads(machine.ssh("cat /var/lib/litefleet/service.json").stdout)["workers"] == 2


def test_a_unit_that_was_changed_by_hand_comes_back_and_is_loaded(machine: Machine, provision: Provisioner) -> None:
    machine.ssh(
        "sed -i s/TasksMax=512/TasksMax=9/ /etc/systemd/system/litefleet-agent.service; systemctl daemon-reload"
    )
    assert of(machine, "litefleet-agent", "TasksMax") == "9"
    done, said = provision(login="root")  # which needs no sudo
    assert done, said
    assert of(machine, "litefleet-agent", "TasksMax") == "512"


def test_another_socket_unit_is_taken_up(machine: Machine, provision: Provisioner) -> None:
    machine.ssh("sed -i s/Backlog=128/Backlog=9/ /etc/systemd/system/litefleet-agent.socket; systemctl daemon-reload")
    done, said = provision(login="root")
    assert done, said
    assert of(machine, "litefleet-agent.socket", "Backlog") == "128"
    assert machine.ssh(f"systemctl is-active {' '.join(UNITS)}").stdout.split() == ["active"] * 3


def test_the_socket_waits_while_the_service_is_killed(machine: Machine) -> None:
    pid = of(machine, "litefleet-agent", "MainPID")
    ask = "python3 -Es /var/lib/litefleet/agent/litefleet-agent.pyz status --socket /run/litefleet/agent.sock --timeout-s 30"
    asked = machine.ssh(f"kill -9 {pid}; {ask}")  # systemd starts it again after RestartSec
    assert asked.returncode == 0, asked.stderr
    assert of(machine, "litefleet-agent", "MainPID") != pid


def test_members_of_the_group_may_connect_and_others_may_not(machine: Machine) -> None:
    machine.ssh("useradd --system app; useradd --system --groups litefleet friend")
    ask = "import socket; socket.socket(socket.AF_UNIX).connect('/run/litefleet/agent.sock')"
    friend, app = (machine.ssh(f"runuser -u {user} -- python3 -c {shlex.quote(ask)}") for user in ("friend", "app"))
    assert friend.returncode == 0, friend.stderr
    assert "PermissionError" in app.stderr


def test_the_verify_unit_runs_confined(machine: Machine) -> None:
    machine.ssh("install -d -o litefleet -g litefleet -m 700 /var/lib/litefleet/models")
    assert machine.ssh("systemctl start litefleet-verify.service").returncode == 0
    assert "nothing to verify" in machine.ssh("journalctl --no-pager -u litefleet-verify").stdout
    assert of(machine, "litefleet-verify", "Result") == "success"


def test_a_newer_agent_takes_over_and_systemd_still_counts_it_as_running(
    machine: Machine, provision: Provisioner
) -> None:
    pid = of(machine, "litefleet-agent", "MainPID")
    data, sha = newer_agent().data, newer_agent().sha256
    put = f"cd /var/lib/litefleet/agent && cat > {sha}.pyz && ln -sfn {sha}.pyz litefleet-agent.pyz"
    machine.ssh(f"runuser -u litefleet -- sh -c {shlex.quote(put)}", data)
    ask = "python3 -Es /var/lib/litefleet/agent/litefleet-agent.pyz status"
    until = time.monotonic() + 30
    while sha[:12] not in (said := machine.ssh(ask).stdout) and time.monotonic() < until:
        time.sleep(0.5)
    assert sha[:12] in said
    assert of(machine, "litefleet-agent", "MainPID") == pid
    while (state := of(machine, "litefleet-agent", "ActiveState")) != "active" and time.monotonic() < until:
        time.sleep(0.5)  # "reloading" until it is ready
    assert state == "active"
    assert provision()[0]  # back to the controller's own


def test_removal_keeps_the_data_and_purge_does_not(machine: Machine, provision: Provisioner) -> None:
    before = machine.ssh(LOOK).stdout
    assert provision(Choice(remove=True, dry_run=True, check=True))[0]
    assert machine.ssh(LOOK).stdout == before
    done, said = provision(Choice(remove=True))
    assert done, said
    left = "systemctl list-units --all --no-legend 'litefleet*'; find /etc/systemd -name '*litefleet*'"
    assert machine.ssh(left).stdout == ""
    assert machine.ssh("ls /var/lib/litefleet/service.json; id -un litefleet").returncode == 0
    assert machine.ssh("ls /run/litefleet/agent.sock").returncode != 0
    for _ in range(2):  # the second time there is nothing left to remove
        done, said = provision(Choice(remove=True, purge=True))
        assert done, said
    assert machine.ssh("ls -d /var/lib/litefleet; id litefleet; getent group litefleet").stdout == ""


def test_an_init_script_serves_where_there_is_no_systemd(machine: Machine, key: Path) -> None:
    """The machine's systemd is left aside: the script is called as an init would call it."""
    device = Device("cam", machine.host, machine.port, "litefleet", str(key), host_keys=(machine.host_public_key,))
    steps = Provision(Choice(), str, str).planned_steps(device, Init.SYSV)
    with Login(HostKeys([], key.with_name("known"), False), lambda d: (), Admin("root", str(machine.key_path))).open(
        device
    ) as connection:
        remote = SudoRemote(connection, str)
        first, second = (carry_out(remote, steps, lambda done: None) for _ in range(2))
        assert [(d.step.name, d.message) for d in first if d.state is State.FAILED] == []
        assert {d.state for d in second} == {State.OK}
        pid = int(machine.ssh("cat /run/litefleet/pid").stdout)
        machine.ssh(f"kill -9 {pid}")
        answers = [step for step in steps if step.name.startswith("the service answers")]
        assert [done.state for done in carry_out(remote, answers, print)] == [State.OK]  # it was started again
        assert int(machine.ssh("cat /run/litefleet/pid").stdout) != pid
        gone = carry_out(remote, removal(steps, purge=True), lambda done: None)
        assert [d.message for d in gone if d.state is State.FAILED] == []
    assert (
        machine.ssh("ls -d /etc/init.d/litefleet* /etc/rc2.d/*litefleet* /run/litefleet; pgrep -u litefleet").stdout
        == ""
    )
