"""The resident agent in the lab: a machine that is provisioned and rolled out to by the commands themselves.

Paddle-Lite is published for CPython 3.10 and older ones only, and the machine's own Python is newer.  So it is lent one of
3.10, and has an environment around that: `python:` in the inventory names it, as on a real device of that kind.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from litefleet_controller.devices.agent_archive import AgentArchive
from litefleet_controller.provision.provision import Choice

from tests.conftest import CACHE, lite_environment, source_models
from tests.e2e.rollout_helpers import environment
from tests.fakes.ssh_keys import keygen
from tests.lab.containers import Machine, booted, wait_until_up
from tests.lab.init_systems import ADMIN, BUSYBOX, PASSWORD, SYSTEMD, System
from tests.lab.run_provision import on_terminal, provision

__all__ = ["AGENT", "HOME", "PYTHON", "SOCKET", "Resident", "resident", "within"]

HOME, SOCKET = "/var/lib/litefleet", "/run/litefleet/agent.sock"
AGENT = f"{HOME}/agent/litefleet-agent.pyz"
PYTHON = "/opt/edge/bin/python"
_LENT = "/opt/cpython"
_KILLED = Path(__file__).parents[1] / "e2e" / "crash_at_commit.py"
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

    def stop_workers(self, known: Sequence[int] = ()) -> None:
        """Stop each worker that the service starts, but for those `known`, until `systemctl stop stopper` or the service's end.

        One is stopped once it is its own program: before, the daemon itself still waits for it, and so would stand still.
        """
        main, spared = self.show("MainPID"), " ".join(map(str, known))
        new = f'case " {spared} " in *" $pid "*) ;; *) kill -STOP $pid ;; esac'
        each = f"for pid in $(pgrep -P {main} -f 'service.workers import main'); do {new}; done"
        loop = f"while kill -0 {main} 2>/dev/null; do {each}; sleep 0.05; done"
        self.ssh(f"systemd-run --unit=stopper --collect --quiet sh -c {shlex.quote(loop)}")

    def install(self) -> None:
        """Provision it by the command itself, whose sudo prompt is answered on a terminal."""
        settings = self.folder / "service.json"
        settings.write_text(json.dumps(self.settings))
        words = ["provision", "--as", self.admin, "--identity", str(self.machine.key_path), "--settings", str(settings)]
        said, code = on_terminal(self.command(*words), self.environment(), b"sudo password", PASSWORD)
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
