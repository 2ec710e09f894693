"""Checks of the operator's SSH: programs, agent, private keys, known-hosts files.  No secret is kept or shown."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from litefleet_agent.findings import Certainty

from ..common.errors import LitefleetError
from ..common.files import expanded
from ..common.subprocesses import run_subprocess
from ..devices.transport.known_hosts import wrong_line
from ..project.check import unusable_key
from .diagnosis import CheckResult, fact, failed_check, joined, works

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_AGENT_S = 5.0
_MOST_LINES = 5  # wrong lines that are reported one by one
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Agent:
    """The SSH agent's public keys; `problem` is why it does not answer, "" when it does."""

    keys: tuple[bytes, ...] = ()
    problem: str = "SSH_AUTH_SOCK is not set"


async def ask_agent(environ: Mapping[str, str] = os.environ) -> Agent:
    """Return the SSH agent's public keys, or why it does not answer."""
    path = environ.get("SSH_AUTH_SOCK", "")
    if not path:
        return Agent()
    try:
        async with asyncio.timeout(_AGENT_S):
            client = await asyncssh.connect_agent(path)
            try:
                keys = await client.get_keys()
            finally:
                client.close()
    except TimeoutError:
        return Agent(problem=f"{path} does not answer within {_AGENT_S:.0f} s")
    except (OSError, ValueError, asyncssh.Error) as error:
        return Agent(problem=f"{path} does not answer: {getattr(error, 'strerror', None) or error}")
    return Agent(tuple(key.public_data for key in keys), "")


async def check_ssh_programs(signing: bool) -> CheckResult:
    """Check OpenSSH's programs: litefleet implements SSH itself, and needs ssh-keygen only to sign releases."""
    program = shutil.which("ssh-keygen")
    if program is None:
        found = fact("ssh-keygen", "not found; only signed releases need it")
        observed = (
            "litefleet.yaml has `signing:`, and there is no ssh-keygen on PATH: install OpenSSH's client, 8.2 or later."
        )
        return found + (failed_check("LF709", observed) if signing else CheckResult())
    if await _is_old(program):
        found = fact("ssh-keygen", f"{program}, older than OpenSSH 8.2; only signed releases need a newer one")
        return found + (
            failed_check("LF709", f"{program} is too old to sign; install OpenSSH 8.2+.") if signing else CheckResult()
        )
    return fact("ssh-keygen", program) + works("ssh-keygen can sign.")


async def _is_old(program: str) -> bool:
    """Whether ssh-keygen lacks `-Y sign`: a new one reports a missing argument, an old one the unknown option."""
    try:
        end = await run_subprocess([program, "-Y", "sign"], time_limit_s=10)
    except LitefleetError:
        return True
    return "option --" in end.output and "Y" in end.output.split("option --", 1)[1][:6]


def check_identities(agent: Agent, folder: Path, needed: bool) -> CheckResult:
    """Check the identities for devices without `key:`: the agent's keys, then the default files in `folder` (~/.ssh)."""
    found = fact("ssh agent", f"none ({agent.problem})" if agent.problem else f"holds {_count(len(agent.keys))}")
    existing = [path for name in _DEFAULT_KEYS if (path := folder / name).exists()]
    wrong = {path: unusable_key(path) for path in existing}
    usable = [path for path in existing if not wrong[path]]
    found += fact(
        "default keys", ", ".join(p.name + (f" ({wrong[p]})" if wrong[p] else "") for p in existing) or "none"
    )
    if usable or agent.keys:
        return found + works("There is an SSH identity for devices without `key:`.")
    if not needed:
        return found
    why = "; ".join(f"{path} {message}" for path, message in wrong.items()) or f"{folder} holds no default key"
    silent = f"no SSH agent answers ({agent.problem})" if agent.problem else "the SSH agent holds no key"
    return found + failed_check("LF706", f"{why}, and {silent}.")


def check_key(key: str, users: Iterable[str], agent: Agent) -> CheckResult:
    """Check a private key that the inventory names for the devices `users`."""
    path, names = expanded(key), sorted(users)
    devices_text = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
    wrong = unusable_key(path)
    if wrong:
        held = " The SSH agent holds it: leave `key:` out." if "passphrase" in wrong and _is_held(path, agent) else ""
        return failed_check("LF705", f"The key {key} (for {devices_text}) {wrong}.{held}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        observed = (
            f"The key {key} (for {devices_text}) is open to others (mode {mode:04o}); "
            f"OpenSSH would refuse it: `chmod 600 {key}`."
        )
        return failed_check("LF705", observed, Certainty.POSSIBLE)
    return works(f"The key {key} can be used.")


def _is_held(path: Path, agent: Agent) -> bool:
    try:
        return asyncssh.read_public_key(path.with_name(path.name + ".pub")).public_data in agent.keys
    except (OSError, asyncssh.Error, ValueError):
        return False


def _count(number: int) -> str:
    return f"{number} key{'' if number == 1 else 's'}"


def check_known_hosts(path: Path, label: str = "known hosts") -> CheckResult:
    """Check a known_hosts file line by line; a missing file is not a finding."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return fact(label, f"{path} is missing")
    except OSError as error:
        return failed_check("LF707", f"{path} cannot be read: {error.strerror}.")
    lines = [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip() and line.strip()[0] != "#"]
    wrong = [(n, f"{message}; the line is skipped") for n, line in lines if (message := wrong_line(line))]
    found = fact(label, f"{path}, {_lines(len(lines))}")
    if not wrong:
        return found + works(f"Every line of {path} is a host key.")
    more = f"{path} has {len(wrong) - _MOST_LINES} more such lines."
    named = joined(failed_check("LF707", f"{path}:{n}: {message}.") for n, message in wrong[:_MOST_LINES])
    return found + named + (failed_check("LF707", more) if len(wrong) > _MOST_LINES else CheckResult())


def _lines(number: int) -> str:
    return f"{number} line{'' if number == 1 else 's'}"
