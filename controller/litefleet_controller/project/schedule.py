"""The timers of the operator's machine: systemd units of the system or of a user, or lines for a crontab.

Units are named after the fleet, so that several projects have their own.  They run the same program, as the same user, in the
project's folder; what they do is recorded under the name of the person who installed them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from litefleet_agent.formats.checked import shortened

from ..common.errors import RunError, UsageError
from ..common.files import write_atomically
from ..common.operator import VARIABLE, operator, system_user
from ..config import load_config

_MARK = "# written by `litefleet schedule`"
_LIMIT_S = 60.0  # of one systemctl call


@dataclass(frozen=True)
class Job:
    """One thing that runs by itself; `calendar` is systemd's, `cron` the crontab's five fields; both "": it runs always."""

    name: str
    words: tuple[str, ...]
    does: str
    calendar: str = ""
    cron: str = ""


@dataclass(frozen=True)
class Schedule:
    """The jobs of one project."""

    fleet: str
    config: Path
    user: str
    person: str
    jobs: tuple[Job, ...]
    environment: Mapping[str, str]

    def unit(self, job: Job) -> str:
        """Return a job's name as a unit, without the suffix."""
        return f"litefleet-{job.name}-{re.sub(r'[^A-Za-z0-9._-]', '-', self.fleet)}"

    def units(self, system: bool) -> dict[str, str]:
        """Return the unit files by their names."""
        found = {}
        for job in self.jobs:
            name = self.unit(job)
            found[f"{name}.service"] = self._service(job, system)
            if job.calendar:
                found[f"{name}.timer"] = _timer(job, self.fleet)
        return found

    def _service(self, job: Job, system: bool) -> str:
        lines = [
            _MARK,
            "[Unit]",
            f"Description=litefleet: {job.does} of fleet {_percent(self.fleet)}",
            "After=network-online.target",
            "Wants=network-online.target",
            "",
            "[Service]",
            "Type=oneshot" if job.calendar else "Type=simple",
            *([f"User={self.user}"] if system else []),
            f"WorkingDirectory={_percent(str(self.config.parent))}",
            *(f"Environment={_quoted(f'{key}={value}')}" for key, value in self.environment.items()),
            f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in self.argv(job))}",
            "# Ctrl-C's way to stop: the report of what was known is still written.",
            "KillSignal=SIGINT",
            *(["TimeoutStartSec=4h"] if job.calendar else ["Restart=on-failure", "RestartSec=10"]),
            "TimeoutStopSec=60",
            "NoNewPrivileges=yes",
            "UMask=0077",
        ]
        if not job.calendar:
            lines += ["", "[Install]", f"WantedBy={'multi-user' if system else 'default'}.target"]
        return "\n".join(lines) + "\n"

    def argv(self, job: Job) -> list[str]:
        """Return a job's command."""
        return [*_program(), *job.words, "-c", str(self.config)]

    def crontab(self) -> list[str]:
        """Return a line for each job that a crontab can run."""
        lines = []
        for job in (job for job in self.jobs if job.cron):
            settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.environment.items())
            log = shlex.quote(str(self.config.parent / f"{self.unit(job)}.log"))
            command = (
                f"cd {shlex.quote(str(self.config.parent))} && {settings} {shlex.join(self.argv(job))} >>{log} 2>&1"
            )
            lines.append(f"{job.cron} " + command.replace("%", "\\%"))
        return lines


def _timer(job: Job, fleet: str) -> str:
    lines = [
        _MARK,
        "[Unit]",
        f"Description=litefleet: {job.does} of fleet {_percent(fleet)}",
        "",
        "[Timer]",
        f"OnCalendar={job.calendar}",
        "# Not all hosts at the same moment; a host that was off catches up.",
        "RandomizedDelaySec=2min",
        "Persistent=yes",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def _program() -> list[str]:
    """Return the command that starts this same litefleet."""
    found = Path(sys.argv[0])
    if found.name == "litefleet" and found.exists():
        return [str(found.absolute())]
    beside = Path(sys.executable).with_name("litefleet")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "litefleet"]


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return one word of a unit file's setting."""
    escaped = _percent(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[\s\"';\\]", text) else escaped


def make_schedule(config_path: Path, every: str, verify: str, metrics: str, repair: bool) -> Schedule:
    """Return the schedule of a project: reconcile `every` so many minutes, verify daily at `verify` (HH:MM, "" = never).

    Raises: UsageError for times that are none, ConfigError for the project.
    """
    config = load_config(config_path)
    minutes = re.fullmatch(r"(\d{1,2})(?:m|min)?", every)
    if not minutes or not 1 <= int(minutes[1]) <= 59:
        raise UsageError(f"--every {every[:20]}: write the minutes between two passes, 1 to 59, such as 15")
    moment = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", verify)
    if verify and not moment:
        raise UsageError(f"--verify {verify[:20]}: write the time of day, such as 02:30")
    words = ("reconcile", *(["--repair"] if repair else []))
    pace = int(minutes[1])
    jobs = [Job("reconcile", words, "continue rollouts and find drift", f"*:0/{pace}", f"*/{pace} * * * *")]
    if moment:
        hour, minute = int(moment[1]), int(moment[2])
        jobs.append(
            Job("verify", ("verify",), "verify every device", f"*-*-* {hour:02}:{minute:02}", f"{minute} {hour} * * *")
        )
    if metrics:
        jobs.append(Job("metrics", ("metrics", "--listen", metrics), "serve the metrics"))
    user = os.environ.get("SUDO_USER") or system_user()
    person = operator(config.operator).partition(" as ")[0]
    environment = {VARIABLE: f"{person} (timer)", "NO_COLOR": "1"}
    if cache := os.environ.get("LITEFLEET_CACHE"):
        environment["LITEFLEET_CACHE"] = cache
    return Schedule(config.fleet, config_path.resolve(), user, person, tuple(jobs), environment)


def has_systemd(system: bool) -> bool:
    """Return whether systemd runs here: the system's manager, or the user's own."""
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        return False
    return (
        system
        or subprocess.run(_systemctl(system, "show-environment"), capture_output=True, check=False).returncode == 0
    )


def unit_folder(system: bool) -> Path:
    """Return where unit files lie."""
    if system:
        return Path("/etc/systemd/system")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _systemctl(system: bool, *words: str) -> list[str]:
    return [shutil.which("systemctl") or "systemctl", *([] if system else ["--user"]), *words]


def _run(system: bool, *words: str) -> str:
    """Run systemctl and return what it printed.  Raises: RunError with its words."""
    argv = _systemctl(system, *words)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"`{shlex.join(argv)}` failed: {error}") from error
    if done.returncode:
        said = shortened(" ".join((done.stderr or done.stdout).split()), 300)
        raise RunError(f"`{shlex.join(argv)}` ended with exit code {done.returncode}: {said}")
    return done.stdout


def install(schedule: Schedule, system: bool) -> list[Path]:
    """Write the unit files, and enable and start them; return their paths.  Jobs that are no longer in it are removed."""
    folder = unit_folder(system)
    folder.mkdir(parents=True, exist_ok=True)
    units = schedule.units(system)
    stale = [path for path in installed(schedule, system) if path.name not in units]
    _remove(stale, system)
    for name, text in units.items():
        write_atomically(folder / name, text.encode())
    _run(system, "daemon-reload")
    started = [schedule.unit(job) + (".timer" if job.calendar else ".service") for job in schedule.jobs]
    _run(system, "enable", "--now", *started)
    return [folder / name for name in units]


def installed(schedule: Schedule, system: bool) -> list[Path]:
    """Return the unit files of this fleet that `litefleet schedule` wrote."""
    names = [schedule.unit(Job(name, (), "")) for name in ("reconcile", "verify", "metrics")]
    paths = [unit_folder(system) / f"{name}.{suffix}" for name in names for suffix in ("timer", "service")]
    return [path for path in paths if path.is_file() and path.read_text(errors="replace").startswith(_MARK)]


def remove(schedule: Schedule, system: bool) -> list[Path]:
    """Stop and delete this fleet's units; return the paths that are gone."""
    found = installed(schedule, system)
    _remove(found, system)
    if found:
        _run(system, "daemon-reload")
    return found


def _remove(paths: Sequence[Path], system: bool) -> None:
    if paths:
        _run(
            system,
            "disable",
            "--now",
            *(path.name for path in paths if path.suffix == ".timer" or "metrics" in path.name),
        )
    for path in paths:
        path.unlink()


def next_runs(schedule: Schedule, system: bool) -> str:
    """Return systemd's own list of this fleet's timers; "" where there is none."""
    names = [path.name for path in installed(schedule, system) if path.suffix == ".timer"]
    return _run(system, "list-timers", "--all", "--no-pager", *names) if names else ""
