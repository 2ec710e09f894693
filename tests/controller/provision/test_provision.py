"""The plan of a provision and what carries it out, on a device that only keeps in mind what it was told."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import paramiko
import pytest
from litefleet_controller.common.errors import UsageError
from litefleet_controller.devices.transport.base import TransportError
from litefleet_controller.provision.carry_out import CommandResult, State, StepOutcome, as_user, carry_out
from litefleet_controller.provision.provision import Choice, Provision
from litefleet_controller.provision.services import DETECT, Init
from litefleet_controller.provision.steps import File, Step, install, own_file
from litefleet_controller.provision.sudo import SudoRemote
from litefleet_inventory.model import Device

from tests.conftest import lacking
from tests.fakes.ssh_keys import keygen

ELSEWHERE = "/opt/litefleet"


@dataclass
class Recorder:
    """A device: `answers` says how a command ends; everything that was run is kept."""

    answers: Callable[[str], CommandResult]
    ran: list[tuple[str, bytes]] = field(default_factory=list)

    def run(self, command: str, data: bytes = b"", time_limit_s: float = 60.0) -> CommandResult:
        self.ran.append((command, data))
        return self.answers(command)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device("cam", "127.0.0.1", user="litefleet", key=str(keygen(tmp_path / "id")))


def planned_steps(device: Device, init: Init = Init.SYSTEMD, choice: Choice | None = None) -> tuple[Step, ...]:
    return Provision(choice or Choice(), lambda text: None, lambda: "").planned_steps(device, init)


def at(device: Device, root: str) -> Device:
    return replace(device, root=root)


@pytest.mark.parametrize("init", Init, ids=lambda init: init.value)
@pytest.mark.parametrize("choice", [Choice(), Choice(remove=True, purge=True)], ids=["install", "remove"])
def test_every_command_is_one_that_sh_reads(device: Device, init: Init, choice: Choice) -> None:
    for step in planned_steps(device if init is Init.SYSTEMD else at(device, ELSEWHERE), init, choice):
        for command in (step.check, step.do):
            for wrapped in (command, as_user(command, step.user)):
                done = subprocess.run(["sh", "-n", "-c", wrapped], capture_output=True, text=True, check=False)
                assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("init", [i for i in Init if i is not Init.SYSTEMD], ids=lambda init: init.value)
def test_an_init_script_is_one_that_sh_reads(device: Device, init: Init) -> None:
    script = next(
        step.data for step in planned_steps(at(device, ELSEWHERE), init) if step.name.startswith("/etc/init.d/")
    )
    assert b"\nroot=/opt/litefleet\n" in script
    assert b"@" not in script
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("init", Init, ids=lambda init: init.value)
def test_the_service_runs_in_the_interpreter_that_the_inventory_names(device: Device, init: Init) -> None:
    """A rollout proves a release in that one, and it may be the only one for which there is a Paddle-Lite."""
    named = replace(device, python="/opt/py310/bin/python3", root="" if init is Init.SYSTEMD else ELSEWHERE)
    steps = planned_steps(named, init)
    commands = "\n".join(step.check + step.do for step in steps)
    assert not re.search(r"(?<!/)\bpython3\b", commands)
    files = [step.data.decode() for step in steps if step.name.startswith(("litefleet-", "/etc/init.d/")) and step.data]
    starts = [line for text in files for line in text.splitlines() if line.startswith(("ExecStart=", "python="))]
    assert len(starts) == (3 if init is Init.SYSTEMD else 1)
    for line in starts:
        assert line.startswith(("ExecStart=/usr/bin/env /opt/py310/bin/python3 -Es ", "python=/opt/py310/bin/python3"))


def test_an_interpreter_that_the_service_could_not_start_is_refused(device: Device) -> None:
    for python, word in (
        ("~/venv/bin/python", "absolute path"),
        ("/opt/a b/python", "letters"),
        ("/home/pi/py", "home folder"),
    ):
        with pytest.raises(UsageError, match=word):
            planned_steps(replace(device, python=python))
        assert planned_steps(replace(device, python=python), choice=Choice(remove=True))
    assert planned_steps(replace(device, python="/home/pi/py", root=ELSEWHERE), Init.SYSV)  # nothing hides it there


def test_looking_says_what_is_lacking_and_can_not_be_brought() -> None:
    """What a user that is yet to be made may do is not known before."""
    recorder = Recorder(lambda command: CommandResult(1, "", "no python3"))
    steps = [
        Step("a", "look a", user="litefleet"),
        Step("b", "look b", hint="Install it."),
        Step("c", "look c", "do c"),
    ]
    done = carry_out(recorder, steps, lambda outcome: None, check_only=True)
    assert [(d.state, d.message) for d in done] == [
        (State.DUE, ""),
        (State.FAILED, "the device reports: no python3. Install it."),
    ]


def test_nothing_is_written_by_root_into_the_folder_of_the_user(device: Device) -> None:
    """That user could have put a link there."""
    for step in planned_steps(device):
        if step.do and not step.user and "/var/lib/litefleet" in step.do:
            assert step.name in ("user litefleet", "folder /var/lib/litefleet")


def test_what_is_so_is_left_and_what_is_not_is_done_in_order() -> None:
    steps = [Step("a", "look a", "do a"), Step("b", "look b", "do b", data=b"bytes"), Step("c", "look c", "do c")]
    recorder = Recorder(lambda command: CommandResult(0 if command in ("look a", "do b", "look c") else 1))
    reported: list[StepOutcome] = []
    carry_out(recorder, steps, reported.append)
    assert [(d.step.name, d.state) for d in reported] == [("a", State.OK), ("b", State.CHANGED), ("c", State.OK)]
    assert recorder.ran == [("look a", b""), ("look b", b""), ("do b", b"bytes"), ("look c", b"")]


def test_the_first_failure_ends_it_with_the_devices_own_words() -> None:
    steps = [Step("a", "look a", "do a", hint="Do this."), Step("b", "look b", "do b")]
    recorder = Recorder(lambda command: CommandResult(1, "", "no \x1b[31mroom\n left."))
    done = carry_out(recorder, steps, lambda outcome: None)
    assert [(d.state, d.message) for d in done] == [(State.FAILED, "the device reports: no ?[31mroom left. Do this.")]
    assert [command for command, _ in recorder.ran] == ["look a", "do a"]


def test_only_looking_does_nothing() -> None:
    recorder = Recorder(lambda command: CommandResult(1))
    done = carry_out(recorder, [Step("a", "look a", "do a")], lambda outcome: None, check_only=True)
    assert ([d.state for d in done], recorder.ran) == ([State.DUE], [("look a", b"")])


def test_removing_undoes_in_reverse_and_data_goes_with_purge_only(device: Device) -> None:
    kept = [step.do for step in planned_steps(device, choice=Choice(remove=True))]
    assert not [command for command in kept if "rm -rf /var/lib/litefleet" in command or "userdel" in command]
    assert kept[-2].endswith("systemctl daemon-reload")  # after the last unit is gone
    assert kept[-1].startswith("rm -rf /usr/local/lib/litefleet/python ")  # nothing runs in it any more
    assert "/usr/local/bin/litefleet-agent" in kept[0]
    assert "disable --now litefleet-verify.timer" in kept[2]
    purged = [step.do for step in planned_steps(device, choice=Choice(remove=True, purge=True))]
    assert "rm -rf /var/lib/litefleet" in next(c for c in purged if c not in kept)
    assert "groupdel" in purged[-2]


@pytest.mark.parametrize(
    ("init", "root", "word"),
    [
        (Init.SYSTEMD, "/opt/l", "/var/lib/litefleet"),
        (Init.PROCD, "", "memory"),
        (Init.SYSV, "/opt/$(id)", "init script"),
        (Init.OPENRC, "~/litefleet", "init script"),
        (Init.OPENRC, "/opt", "the whole folder litefleet's own"),
        (Init.BUSYBOX, "/mnt/data/..", "the whole folder litefleet's own"),
    ],
)
def test_a_root_that_can_not_be_is_refused(device: Device, init: Init, root: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        planned_steps(at(device, root), init)


def test_a_device_without_any_known_init_is_said(device: Device) -> None:
    from litefleet_controller.common.errors import LitefleetError

    recorder = Recorder(lambda command: CommandResult(0, "" if command == DETECT else "?"))
    with pytest.raises(LitefleetError, match="nothing that starts services"):
        Provision(Choice(), lambda text: None, lambda: "").remote(device, recorder)
    assert [command for command, _ in recorder.ran] == [DETECT]


def test_a_private_key_is_never_sent(device: Device, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no public key"):
        planned_steps(device, choice=Choice(key=tmp_path / "id"))
    Path(device.key + ".pub").unlink()  # its public half is then worked out
    assert any("ssh-ed25519 AAAA" in step.do for step in planned_steps(device))
    assert not any(b"PRIVATE" in step.data or "PRIVATE" in step.do for step in planned_steps(device))


@pytest.mark.parametrize("text", ["{", "[]", '{"worker": 2}', '{"workers": 0}'])
def test_settings_that_the_service_would_refuse_are_refused_here(tmp_path: Path, text: str) -> None:
    (tmp_path / "service.json").write_text(text)
    with pytest.raises(UsageError, match=r"service\.json"):
        Provision(Choice(settings=tmp_path / "service.json"), lambda line: None, lambda: "")


def run_as_root(command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a step's command here; nobody stands for litefleet."""
    if os.geteuid():
        lacking("only root gives files away")
    command = command.replace("litefleet:litefleet", "nobody:").replace("-u litefleet", "-u nobody")
    command = command.replace("-g litefleet", "-g nobody").replace("-user litefleet", "-user nobody")
    return subprocess.run(["sh", "-c", command], input=data, capture_output=True, check=False)


def folder_step(device: Device, root: Path, choice: Choice | None = None) -> Step:
    return next(s for s in planned_steps(at(device, str(root)), Init.SYSV, choice) if s.name.endswith(f"folder {root}"))


def test_a_folder_of_a_rollout_as_root_is_taken_over_whole_and_one_of_somebody_else_is_not(device: Device) -> None:
    with tempfile.TemporaryDirectory() as base:
        root = Path(base) / "a" / "litefleet"
        step = folder_step(device, root)
        assert run_as_root(step.check).returncode == 1
        assert run_as_root(step.do).returncode == 0  # it was not there
        assert run_as_root(step.check).returncode == 0
        (root / "agent").mkdir()
        assert run_as_root(step.check).returncode == 1
        refused = run_as_root(step.do)
        assert (refused.returncode, refused.stderr) == (1, b"it holds files of somebody else\n")
        os.chown(root, 0, 0)
        (root / "agent" / "link").symlink_to("/etc/passwd")
        assert run_as_root(step.do).returncode == 0
        assert run_as_root(step.check).returncode == 0
        assert Path("/etc/passwd").stat().st_uid == 0
        other = Path(base) / "b" / "data"
        other.mkdir(parents=True)
        (other / "mine").touch()
        assert run_as_root(folder_step(device, other).do).returncode == 1
        assert other.stat().st_uid == 0
        purge = Choice(remove=True, purge=True)
        for folder, stays in ((other, True), (root, False)):
            assert run_as_root(folder_step(device, folder, purge).do).returncode == 0
            assert folder.exists() == stays


def test_a_file_that_was_cut_off_on_its_way_is_not_put_in_place(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "x"
    file = File(str(target), b"whole and new", "0640")
    for step in (install("x", file, restarts=False), own_file("x", file)):
        assert run_as_root(step.do, b"whole and").returncode == 1
        assert not target.exists()
        assert run_as_root(step.do, file.data).returncode == 0
        assert (target.read_bytes(), target.stat().st_mode & 0o777) == (file.data, 0o640)
        target.write_bytes(b"old and good")
        assert run_as_root(step.do, b"whole and").returncode == 1
        assert target.read_bytes() == b"old and good"
        target.unlink()


def test_an_init_script_reads_nothing_as_root_that_the_user_wrote(device: Device, tmp_path: Path) -> None:
    script = next(
        step.data for step in planned_steps(at(device, ELSEWHERE), Init.SYSV) if step.name.startswith("/etc/init.d/")
    )
    run, own, secret = tmp_path / "run", tmp_path / "own", tmp_path / "secret"
    for folder in (run, own, tmp_path / "bin"):
        folder.mkdir()
    secret.write_text("root:$6$salt")
    (run / "pid").symlink_to(secret)
    with subprocess.Popen(["sleep", "1"]) as alive:
        threading.Thread(target=alive.wait).start()  # the script waits until the process is gone
        (own / "pid").write_text(f"{alive.pid}\n")
        su = tmp_path / "bin" / "su"
        su.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/said\n')
        su.chmod(0o755)
        text = re.sub(r"(?m)^run=\S+", f"run={run}", re.sub(r"(?m)^own=\S+", f"own={own}", script.decode()))
        subprocess.run(
            ["sh", "-s", "stop"], input=text, text=True, check=True, env={"PATH": f"{su.parent}:{os.environ['PATH']}"}
        )
    message = (tmp_path / "said").read_text()
    assert "kill -TERM" in message
    assert "$6$" not in message


def test_a_device_that_answers_no_request_costs_its_time_limit_and_no_more() -> None:
    begun = time.monotonic()
    with hanging_device() as transport:
        remote = SudoRemote.__new__(SudoRemote)  # whose first look would have a minute
        remote._connection = SimpleNamespace(create_session=transport.open_session, transport=transport)
        with pytest.raises(TransportError, match="a command took more than 1 s"):
            remote._exec("id", b"", 1)
        assert time.monotonic() - begun < 20


@contextlib.contextmanager
def hanging_device() -> Iterator[paramiko.Transport]:
    """Yield a client's connection to a server that opens channels, and then sits on every request."""
    over = threading.Event()

    class Hanging(paramiko.ServerInterface):
        def check_auth_none(self, username: str) -> int:
            return paramiko.common.AUTH_SUCCESSFUL

        def get_allowed_auths(self, username: str) -> str:
            return "none"

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return paramiko.common.OPEN_SUCCEEDED

        def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
            over.wait(30)
            return False

    ours, theirs = socket.socketpair()
    server, client = paramiko.Transport(theirs), paramiko.Transport(ours)
    try:
        server.add_server_key(paramiko.ECDSAKey.generate())
        server.start_server(event=threading.Event(), server=Hanging())
        client.start_client(timeout=20)
        client.auth_none("u")
        yield client
    finally:
        over.set()
        client.close()
        server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]], ids=lambda argv: argv[0])
def test_root_runs_no_interpreter_that_others_could_exchange(tmp_path: Path, device: Device, shell: list[str]) -> None:
    """By owner, by mode, in any folder above, behind a link; none of them is run as root to find out."""
    safe, theirs, ran = tmp_path / "safe", tmp_path / "theirs", tmp_path / "ran"
    for folder in (safe, theirs):
        folder.mkdir(mode=0o755)
        (folder / "python3").write_text(f"#!/bin/sh\nid -u >> {ran}\n")
        (folder / "python3").chmod(0o755)
    os.chown(theirs, 20001, 20001)
    (safe / "linked").symlink_to(theirs / "python3")
    (safe / "open").mkdir()
    (safe / "open").chmod(0o777)
    (safe / "open" / "python3").symlink_to(safe / "python3")
    tmp_path.chmod(0o755)

    def refused(python: Path | str) -> str:
        first, second, version, *_ = planned_steps(replace(device, python=str(python)))
        assert (version.name, version.user) == ("Python 3.7 or later", "nobody")
        assert subprocess.run([*shell, "-c", second.check], check=False).returncode == 0
        done = subprocess.run([*shell, "-c", first.check], capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (not done.stderr), done
        return done.stderr

    assert refused(safe / "python3") == ""
    assert refused("python3") == ""
    assert "user number 20001" in refused(theirs / "python3")
    assert "user number 20001" in refused(safe / "linked")
    assert "every user" in refused(safe / "open" / "python3")
    assert "there is no" in refused("/no/where/python3")
    assert not ran.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_agents_folder_is_not_made_where_others_could_exchange_it(tmp_path: Path, device: Device) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 20001, 20001)
    step = planned_steps(at(device, str(theirs / "deep" / "litefleet")), Init.SYSV)[1]
    done = subprocess.run(["sh", "-c", step.check], capture_output=True, text=True, check=False)
    assert (done.returncode, "user number 20001" in done.stderr) == (1, True)


def test_a_bug_in_one_device_does_not_stop_the_others(device: Device) -> None:
    class Broken:
        """A login whose answers nobody thought of."""

        @contextlib.contextmanager
        def open(self, device: Device) -> Iterator[object]:
            raise KeyError("riscv64")
            yield

    said: list[str] = []
    assert Provision(Choice(), said.append, lambda: "").device(device, Broken()) is False
    assert said[0] == "cam:"
    assert said[1].startswith("  failed: LF900 cam: KeyError: 'riscv64' ")
