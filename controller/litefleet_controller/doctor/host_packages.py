"""The operator's machine: system, Python, clock, and the packages that litefleet is made of."""

from __future__ import annotations

import datetime
import platform
import re
import sys
from importlib import metadata

from litefleet_agent.findings import Certainty

from ..toolchain import host_problem
from .looked import Looked, fact, joined, trouble, works

__all__ = ["BOUNDS", "look_at_packages", "look_at_system"]

# As pyproject.toml has them: an installation by hand, or a later `pip install` of something else, goes past those.
BOUNDS = {
    "alembic": "1.13",
    "asyncssh": "2.18",
    "click": "8.1",
    "jinja2": "3.1",
    "numpy": "1.26",
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


def look_at_system(system: str = sys.platform, machine: str = "") -> Looked:
    """Look at the operating system, the CPU, this Python and the clock."""
    machine = machine or platform.machine()
    python = sys.version_info[:3]
    found = fact("system", f"{platform.platform()}, {machine}")
    found += fact("python", f"{'.'.join(map(str, python))} at {sys.executable}")
    problem = host_problem(system, machine)
    found += trouble("LF701", problem) if problem else works("Paddle-Lite's converter is published for this system.")
    if python[:2] < _OLDEST_PYTHON:
        found += trouble("LF710", f"This Python is {python[0]}.{python[1]}; litefleet needs 3.11 or later.")
    return found + look_at_clock(datetime.datetime.now(datetime.UTC))


def look_at_clock(now: datetime.datetime) -> Looked:
    """Look at the time: with a clock that never was set, package indexes' certificates and signatures' dates fail."""
    said = now.strftime("%Y-%m-%d %H:%M UTC")
    if now.year >= _BUILT:
        return fact("clock", said)
    seen = (
        f"This machine's clock says {said}: certificates and the dates of signed releases are refused. Set the clock."
    )
    return fact("clock", said) + trouble("LF900", seen, Certainty.LIKELY)


def look_at_packages(bounds: dict[str, str] | None = None) -> Looked:
    """Look whether each of litefleet's Python packages is there, in a version that it works with."""
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


def _judge(name: str, version: str, oldest: str) -> Looked:
    if not version:
        return trouble("LF710", f"The Python package {name} is missing; litefleet needs {oldest} or later.")
    if _numbers(version) < _numbers(oldest):
        return trouble("LF710", f"The Python package {name} is {version}; litefleet needs {oldest} or later.")
    return Looked()


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d{1,9}(?:\.\d{1,9}){0,4}", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
