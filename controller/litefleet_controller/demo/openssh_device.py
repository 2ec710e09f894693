"""A device served by the machine's own OpenSSH sshd, as an ordinary user."""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import shutil
from pathlib import Path

from .base import HOST, EmbeddedError, Place
from .process_tree import kill_tree, stop_tree

_CONFIG = """\
Port {port}
ListenAddress {host}
HostKey "{folder}/host_key"
AuthorizedKeysFile "{authorized_keys}"
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserRC no
PrintMotd no
PrintLastLog no
UseDNS no
MaxStartups 1000
MaxSessions 100
LogLevel INFO
SetEnv {env}
"""


def login_name() -> str | None:
    """Return the name with which this process's user can log in over sshd, None for a user without an account or a shell."""
    try:
        account = pwd.getpwuid(os.geteuid())
    except KeyError:  # a container started with a bare user id
        return None
    return None if Path(account.pw_shell).name in ("nologin", "false") else account.pw_name


def find_sshd() -> str | None:
    """Return the path of sshd, None where this user cannot log in over it.

    sshd without PAM rejects a locked root account (shadow entry with "!").
    """
    if login_name() is None:
        return None
    found = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None or os.geteuid() != 0:
        return found
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return found
    return None if any(line.startswith("root:!") for line in lines) else found


class OpenSsh:
    """A running sshd."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stopped = False
        atexit.register(self._kill_at_exit)  # for a second Ctrl-C, which ends the event loop before stop() has run

    @property
    def pid(self) -> int | None:
        """The listener's process ID."""
        return self._process.pid

    async def stop(self) -> None:
        """Kill the listener, every session and their processes."""
        if not self._stopped:
            await stop_tree(self._process)
            self._stopped = True
            atexit.unregister(self._kill_at_exit)

    def _kill_at_exit(self) -> None:
        if self._process.returncode is None:
            kill_tree(self._process.pid)


async def start_openssh(place: Place, port: int) -> OpenSsh:
    """Start sshd on `port` and return once it answers.  Raises: EmbeddedError with its log when it does not."""
    sshd = find_sshd()
    if sshd is None:
        raise EmbeddedError(
            "sshd is missing or does not accept this user: install openssh-server, or use kind 'asyncssh'."
        )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)  # sshd as root does not start without it
    config = place.folder / "sshd_config"
    env = " ".join(f'"{name}={value}"' for name, value in place.env.items())
    config.write_text(
        _CONFIG.format(port=port, host=HOST, folder=place.folder, authorized_keys=place.authorized_keys, env=env)
    )
    with place.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sshd, "-D", "-e", "-f", str(config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = OpenSsh(process)
    try:
        await _wait_for_banner(process, place, port)
    except BaseException:
        await running.stop()
        raise
    return running


async def _wait_for_banner(process: asyncio.subprocess.Process, place: Place, port: int, limit_s: float = 20) -> None:
    """Return once the port sends an SSH banner; EmbeddedError after `limit_s` seconds or when sshd ends."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    while loop.time() < until:
        if process.returncode is not None:
            log_tail = place.log.read_text(errors="replace")[-1000:].strip()
            raise EmbeddedError(f"sshd ended with exit code {process.returncode} on port {port}: {log_tail}")
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        try:
            if (await asyncio.wait_for(reader.readline(), 10)).startswith(b"SSH-"):
                return
        except (OSError, TimeoutError):
            continue
        finally:
            writer.close()
    raise EmbeddedError(f"sshd on port {port} did not greet within {limit_s:.0f} s; its log is {place.log}.")
