"""The resident agent in the lab: a machine with systemd, provisioned and rolled out to by the commands themselves.

Paddle-Lite is published for CPython 3.10 and older ones only, and the machine's own Python is newer.  So it is lent one of
3.10, and has an environment around that: `python:` in the inventory names it, as on a real device of that kind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from litefleet_controller.provision.login import Admin, Login
from litefleet_controller.provision.task import Choice, Provision
from litefleet_controller.pyz import AgentArchive, agent_archive
from litefleet_controller.transport.hostkeys import HostKeys
from litefleet_inventory.model import Device

from tests.conftest import CACHE, lite_environment, source_models
from tests.e2e.rollouts import environment
from tests.fakes.keys import keygen

from .booted import Machine, booted, wait_until_up
from .systems import ADMIN, BUSYBOX, PASSWORD, SYSTEMD, System

__all__ = [
    "AGENT",
    "HOME",
    "PYTHON",
    "SOCKET",
    "Asked",
    "Resident",
    "asking",
    "newer_agent",
    "provision",
    "resident",
    "within",
]

HOME, SOCKET = "/var/lib/litefleet", "/run/litefleet/agent.sock"
AGENT = f"{HOME}/agent/litefleet-agent.pyz"
PYTHON = "/opt/edge/bin/python"
_LENT = "/opt/cpython"
_KILLED = Path(__file__).parents[1] / "e2e" / "killed.py"
# Its libpython, if it has one, is looked for where it was built.
_ENVIRONMENT = f"""set -e
echo {_LENT}/lib > /etc/ld.so.conf.d/cpython.conf
ldconfig
{_LENT}/bin/python3.10 -m venv --without-pip /opt/edge
useradd --system app
mkdir /opt/app
chown app /opt/app
"""
# Quicker than the defaults, so that a test need not wait; what is watched for is the same.
SETTINGS: dict[str, Any] = {
    "groups": ["litefleet"],
    "probe_every_s": 1.0,
    "time_limit_s": 5.0,
    "check_every_s": 2.0,
    "status_every_s": 1.0,
}


def within(seconds: float, true: Callable[[], Any], what: str = "") -> Any:
    """Wait until something holds and return it; AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return result


def newer_agent() -> AgentArchive:
    """Return an agent of another version: the same program, in an archive with other bytes."""
    data = agent_archive().data.replace(b"#!/usr/bin/env python3\n", b"#!/usr/bin/python3\n", 1)
    return AgentArchive(data, hashlib.sha256(data).hexdigest())


def provision(
    machine: Machine, key: Path, choice: Choice, *, python: str = "", archive: AgentArchive | None = None,
    login: str = ADMIN, password: str = PASSWORD,
) -> tuple[bool, list[str]]:  # fmt: skip
    """Do what `litefleet provision` does; return whether it went well, and what was said."""
    said: list[str] = []
    keys = (machine.host_public_key,)
    device = Device("cam", machine.host, machine.port, "litefleet", str(key), host_keys=keys, python=python)
    task = Provision(choice, said.append, lambda: password, archive or agent_archive())
    known = HostKeys([], key.with_name("known_hosts"), accept_new=False)
    return task.device(device, Login(known, lambda d: (), Admin(login, str(machine.key_path)))), said


@dataclass
class Resident:
    """A provisioned machine, and the project of the operator who rolls out to it."""

    machine: Machine
    folder: Path
    key: Path
    system: System = SYSTEMD
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))

    @property
    def admin(self) -> str:
        """Who provisions it."""
        return "root" if self.system is BUSYBOX else ADMIN  # which has no sudo

    # --- the operator's side

    def project(self, **changes: object) -> None:
        """Write the project's files; `changes` replace top-level keys of litefleet.yaml."""
        device = {
            "host": self.machine.host, "port": self.machine.port, "user": "litefleet", "key": str(self.key),
            "python": PYTHON, "host_key": self.machine.host_public_key,
        }  # fmt: skip
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump({"devices": {"cam": device}}, width=1000))
        config = {
            "inventory": "fleet.yaml",
            "store": ".litefleet",
            "models": {
                "cls": {
                    "source": str(source_models()["cls"]),
                    "inputs": {"x": [1, 3, 48, 192]},
                    "golden": {"engine": "paddlelite"},
                }
            },
            "verify": {"runs": 2, "warmup": 0},
            "rollout": {"waves": ["100%"], "gates": "off"},
            "ssh": {"known_hosts": "known_hosts"},
            **changes,
        }
        (self.folder / "litefleet.yaml").write_text(yaml.safe_dump(config, sort_keys=False, width=1000))

    def command(self, *words: str) -> list[str]:
        """Return the words of a litefleet command on this project."""
        return [sys.executable, "-m", "litefleet_controller", *words, "-c", str(self.folder / "litefleet.yaml")]

    def litefleet(self, *words: str, code: int = 0) -> str:
        """Run a command in a process of its own and return what it says on stdout; AssertionError for another exit code."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=300, check=False, env=self.environment()
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    @staticmethod
    def environment() -> dict[str, str]:
        """Return the environment of a litefleet process."""
        return {**environment(), "LITEFLEET_CACHE": str(CACHE / "litefleet")}

    def rollout(self, runs: int = 2) -> str:
        """Roll out a release, another one for each number of runs, and return its id."""
        self.project(verify={"runs": runs, "warmup": 0})
        self.litefleet("rollout")
        return self.link()

    def leave_unconfirmed(self, runs: int) -> str:
        """Roll out another release with a controller that dies before it confirms it; return its id."""
        self.project(verify={"runs": runs, "warmup": 0})
        command = self.command("rollout")
        words = [sys.executable, str(_KILLED), "switching", "lease", "before", *command[command.index("rollout") :]]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=self.environment())
        assert done.returncode == -signal.SIGKILL, done.stderr
        return self.link()

    # --- the device's side

    def ssh(self, command: str, stdin: bytes = b"", code: int | None = 0) -> str:
        """Run a command as root there and return what it prints; AssertionError for another exit code than `code`."""
        done = self.machine.ssh(command, stdin)
        assert code is None or done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def link(self, name: str = "current") -> str:
        """Return the release that a link of the model names on the device's disk, "" for none."""
        return Path(self.ssh(f"readlink {HOME}/models/cls/{name} || true").strip()).stem

    def show(self, name: str, unit: str = "litefleet-agent") -> str:
        """Return a property of a unit."""
        return self.ssh(f"systemctl show -p {name} --value {unit}").strip()

    def status(self) -> dict[str, Any]:
        """Return what the service answers to `status`, waiting for it as any caller does."""
        told = self.ssh(f"{PYTHON} -Es {AGENT} status --socket {SOCKET} --timeout-s 60")
        return dict(json.loads(told))

    def model(self) -> dict[str, Any]:
        """Return the status of the model."""
        return dict(self.status()["models"]["cls"])

    def workers(self) -> list[int]:
        """Return the worker processes of the release that serves."""
        return [int(worker["pid"]) for worker in self.model()["workers"]]

    def journal(self, *matches: str, since: str = "") -> list[dict[str, Any]]:
        """Return what the journal holds, oldest first."""
        words = shlex.join(["journalctl", "--no-pager", "-o", "json", *(["--since", since] if since else []), *matches])
        return [json.loads(line) for line in self.ssh(words, code=None).splitlines()]

    def log(self, lines: int = 60) -> str:
        """Return the end of the services' log, for an assertion to show."""
        return self.ssh(f"journalctl --no-pager -n {lines} -u 'litefleet*'", code=None)

    def install(self) -> None:
        """Provision it by the command itself, whose sudo prompt is answered on a terminal."""
        settings = self.folder / "service.json"
        settings.write_text(json.dumps(self.settings))
        words = ["provision", "--as", self.admin, "--identity", str(self.machine.key_path), "--settings", str(settings)]
        said, code = _on_terminal(self.command(*words), self.environment(), b"sudo password", PASSWORD)
        assert code == 0, said + self.log()
        assert PASSWORD not in said

    def configure(self, **settings: object) -> None:
        """Change service.json and restart the service, as a provision with `--settings` does."""
        self.settings.update(settings)
        settings_file = self.folder / "service.json"
        settings_file.write_text(json.dumps(self.settings))
        done, said = self.provision(Choice(settings=settings_file))
        assert done, said

    def provision(self, choice: Choice | None = None, archive: AgentArchive | None = None) -> tuple[bool, list[str]]:
        """Do what `litefleet provision` does."""
        return provision(self.machine, self.key, choice or Choice(), python=PYTHON, archive=archive, login=self.admin)

    def drop_in(self, text: str, unit: str = "litefleet-agent.service") -> None:
        """Do what `systemctl edit` does, and restart the unit."""
        folder = f"/etc/systemd/system/{unit}.d"
        self.ssh(f"mkdir -p {folder} && cat > {folder}/override.conf", text.encode())
        self.ssh(f"systemctl daemon-reload && systemctl restart {unit}")


def _on_terminal(words: list[str], env: dict[str, str], prompt: bytes, answer: str) -> tuple[str, int]:
    """Run a command on a terminal of its own, answer its prompt once, and return (all that was shown, exit code)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    said, until = b"", time.monotonic() + 300
    with contextlib.suppress(OSError):  # EIO: the other side has closed
        while time.monotonic() < until:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            before, said = prompt in said, said + os.read(ours, 65536)
            if prompt in said and not before:
                os.write(ours, answer.encode() + b"\n")
    os.close(ours)
    return said.decode("utf-8", "replace"), process.wait(30)


@contextlib.contextmanager
def resident(folder: Path, system: System = SYSTEMD) -> Iterator[Resident]:
    """Run a provisioned machine, with a release rolled out."""
    python = lite_environment().resolve()
    with booted(system, {python.parent.parent: _LENT}) as machine:
        assert system is not SYSTEMD or wait_until_up(machine) == "running"
        made = Resident(machine, folder, keygen(folder / "fleet"), system)
        made.ssh(_ENVIRONMENT)
        made.project()
        made.install()
        made.ssh("usermod -aG litefleet app")
        made.rollout()
        yield made


# --- callers


@dataclass
class Asked:
    """What became of the requests of an application's callers."""

    asked: int = 0
    answered: int = 0
    wrong: int = 0
    releases: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    longest_s: float = 0.0

    @property
    def lost(self) -> int:
        """Requests that got no answer at all, not even an error."""
        return self.asked - self.answered - sum(self.errors.values())

    def __str__(self) -> str:
        releases = ", ".join(f"{name[:12]} {count}" for name, count in self.releases.items())
        said = (
            f"asked {self.asked}, answered {self.answered}, lost {self.lost}, wrong {self.wrong}, errors {self.errors}"
        )
        return f"{said}; by {releases}; longest {self.longest_s:.2f} s"


class Asking:
    """An application that asks all the time."""

    def __init__(self, lab: Resident) -> None:
        self._lab = lab
        self.total = Asked()

    def now(self) -> Asked:
        """Return the counts so far."""
        told = self._lab.ssh("cat /opt/app/report 2>/dev/null || echo '{}'")
        return Asked(**json.loads(told))

    def go_on(self, more: int = 20, release: str = "") -> Asked:
        """Wait until so many more requests have been answered, by one release if it is named."""

        def done() -> int:
            now = self.now()
            return now.releases.get(release, 0) if release else now.answered

        before = done()
        within(
            90, lambda: done() >= before + more, f"{more} more answers {release[:12]}\n{self.now()}{self._lab.log()}"
        )
        return self.now()


@contextlib.contextmanager
def asking(lab: Resident, callers: int = 4, pause_s: float = 0.02) -> Iterator[Asking]:
    """Have an ordinary user of the machine ask all the time; afterwards `total` holds what became of it."""
    script = Path(__file__).with_name("asking.py").read_bytes()
    goldens = lab.ssh(f"cat {HOME}/models/cls/current")
    names = [f"/opt/app/{number}.npz" for number, _ in enumerate(json.loads(goldens)["golden"])]
    copies = [f"cat {HOME}/blobs/{sha} > {n}" for n, sha in zip(names, json.loads(goldens)["golden"], strict=True)]
    copies += [f"cat {AGENT} > /opt/app/agent.pyz", "cat > /opt/app/asking.py", "rm -f /opt/app/report"]
    lab.ssh(" && ".join(copies), script)
    words = ["python3", "/opt/app/asking.py", "/opt/app/agent.pyz", SOCKET, str(callers), str(pause_s)]
    run = shlex.join([*words, "/opt/app/report", *names])
    call = f"setsid {run} </dev/null >/opt/app/log 2>&1 & echo $! > /opt/app/pid"
    lab.ssh(f"su -s /bin/sh app -c {shlex.quote(call)}")
    one = Asking(lab)
    try:
        one.go_on()
        yield one
    finally:
        lab.ssh(
            "kill $(cat /opt/app/pid); while kill -0 $(cat /opt/app/pid) 2>/dev/null; do sleep 0.1; done", code=None
        )
        one.total = one.now()
        print(f"\n{one.total}")
