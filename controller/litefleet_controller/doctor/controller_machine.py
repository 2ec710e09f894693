"""`litefleet doctor` without arguments: checks the operator's machine and the project in this folder, changing nothing."""

from __future__ import annotations

import os
from pathlib import Path

from ..config.choices import DEFAULT_PADDLELITE
from .diagnosis import Diagnosis, Kind
from .host_programs import check_packages, check_system, check_toolchains
from .host_ssh import Agent, ask_agent, check_identities, check_known_hosts, check_ssh_programs
from .project import Opened, diagnose_project, open_quietly

__all__ = ["diagnose_host"]


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
