"""`litefleet provision` in the lab: in this process, where a test chooses what is brought, and on a terminal as one types it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import select
import subprocess
import time
from pathlib import Path

from litefleet_controller.devices.agent_archive import AgentArchive, agent_archive
from litefleet_controller.devices.transport.hostkeys import HostKeys
from litefleet_controller.provision.login import Admin, Login
from litefleet_controller.provision.provision import Choice, Provision
from litefleet_inventory.model import Device

from tests.lab.containers import Machine
from tests.lab.init_systems import ADMIN, PASSWORD

__all__ = ["newer_agent", "on_terminal", "provision"]


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
    task = Provision(choice, said.append, lambda: password, archive=archive or agent_archive())
    known = HostKeys([], key.with_name("known_hosts"), accept_new=False)
    return task.device(device, Login(known, lambda d: (), Admin(login, str(machine.key_path)))), said


def on_terminal(words: list[str], env: dict[str, str], prompt: bytes, answer: str) -> tuple[str, int]:
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
