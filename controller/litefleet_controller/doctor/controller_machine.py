"""`litefleet doctor` without arguments: checks the operator's machine and the project in this folder, changing nothing."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from litefleet_agent.findings import Certainty

from ..build.toolchain import host_problem
from ..config.choices import DEFAULT_PADDLELITE
from .diagnosis import CheckResult, Diagnosis, Kind, fact, failed_check, joined, works
from .host_programs import check_toolchains
from .host_ssh import Agent, ask_agent, check_identities, check_known_hosts, check_ssh_programs
from .project import Opened, diagnose_project, open_quietly

# The bounds of pyproject.toml; an installation by hand, or a later `pip install`, can break them.
BOUNDS = {
    "alembic": "1.13",
    "asyncssh": "2.18",
    "jinja2": "3.1",
    "numpy": "1.26",
    "packaging": "23.2",
    "pydantic": "2.7",
    "pyyaml": "6.0",
    "rich": "13.7",
    "sqlalchemy": "2.0",
    "typer": "0.12",
    "uv": "0.5",
}
_SHOWN = ("asyncssh", "pydantic", "sqlalchemy", "uv")
_OLDEST_PYTHON = (3, 11)
_BUILT = 2024  # no copy of litefleet is older


def check_system(system: str = sys.platform, machine: str = "") -> CheckResult:
    """Check the operating system, the CPU, this Python and the clock."""
    machine = machine or platform.machine()
    python = sys.version_info[:3]
    found = fact("system", f"{platform.platform()}, {machine}")
    found += fact("python", f"{'.'.join(map(str, python))} at {sys.executable}")
    problem = host_problem(system, machine)
    found += (
        failed_check("LF701", problem) if problem else works("Paddle-Lite's converter is published for this system.")
    )
    if python[:2] < _OLDEST_PYTHON:
        found += failed_check("LF710", f"This Python is {python[0]}.{python[1]}; litefleet needs 3.11 or later.")
    return found + check_clock(datetime.datetime.now(datetime.UTC))


def check_clock(now: datetime.datetime) -> CheckResult:
    """Check the clock: when it was never set, certificates of package indexes and dates of signatures are rejected."""
    shown = now.strftime("%Y-%m-%d %H:%M UTC")
    if now.year >= _BUILT:
        return fact("clock", shown)
    observed = f"This machine's clock shows {shown}: certificates and the dates of signed releases are rejected. Set the clock."
    return fact("clock", shown) + failed_check("LF900", observed, Certainty.LIKELY)


def check_packages(bounds: dict[str, str] | None = None) -> CheckResult:
    """Check that each of litefleet's Python packages is installed in a version that it works with."""
    wanted = BOUNDS if bounds is None else bounds
    versions = {name: _version(name) for name in wanted}
    found = joined(_judge(name, versions[name], oldest) for name, oldest in wanted.items())
    shown = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if versions.get(name))
    ours = _version("litefleet") or "not installed as a package: it runs from its source"
    found = fact("litefleet", ours) + fact("packages", shown) + found
    return found if found.findings else found + works(f"All {len(wanted)} Python packages have fitting versions.")


def _version(name: str) -> str:
    try:
        return metadata.version(name) or ""
    except metadata.PackageNotFoundError:
        return ""


def _judge(name: str, version: str, oldest: str) -> CheckResult:
    if version and _numbers(version) >= _numbers(oldest):
        return CheckResult()
    return failed_check(
        "LF710", f"The Python package {name} is {version or 'missing'}; litefleet needs {oldest} or later."
    )


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d{1,9}(?:\.\d{1,9}){0,4}", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


async def diagnose_host(config: Path, inventory: Path | None) -> list[Diagnosis]:
    """Return a diagnosis of this machine, and one of the project when there is one or its files were named.

    Reads HOME, LITEFLEET_CACHE, SSH_AUTH_SOCK and PATH from the environment.
    """
    opened = open_quietly(config, inventory)
    agent = await ask_agent()
    machine = await _machine(opened, agent)
    return [machine, await diagnose_project(opened, agent)] if opened else [machine]


async def _machine(opened: Opened | None, agent: Agent) -> Diagnosis:
    settings = opened.config if opened else None
    folder = Path(os.environ.get("HOME") or Path.home()) / ".ssh"
    found = check_system() + check_packages()
    version = settings.toolchain.paddlelite if settings else DEFAULT_PADDLELITE
    with_paddle = not settings or any(m.golden_spec("").engine == "paddle" for m in settings.models.values())
    found += await check_toolchains(version, with_paddle)
    found += await check_ssh_programs(signing=bool(settings and settings.signing))
    found += check_identities(agent, folder, needed=opened.needs_identity if opened else True)
    if settings is None:  # a project names its own known-hosts files
        found += check_known_hosts(folder / "known_hosts")
    return Diagnosis(Kind.HOST, "this machine", found.facts, found.works, found.findings)
