"""What the operator's SSH configuration says of devices and jump hosts, read as OpenSSH reads it; the inventory wins.

asyncssh's reader does the reading (Host, Match, Include, tokens such as %h); here each file is split into words only once, and
what is of use to litefleet is taken over into a device.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from litefleet_agent.findings import Finding, finding
from litefleet_inventory import checks
from litefleet_inventory.foreign.ssh_config import split_option, split_words
from litefleet_inventory.model import Device, Inventory, SshSettings

from ...common.errors import ConfigError
from ...common.text import sanitize
from .base import hop_device

if TYPE_CHECKING:
    import asyncssh.config

DEFAULT_FILES = (Path("~/.ssh/config"), Path("/etc/ssh/ssh_config"))
_MOST_HOPS = 8
_MOST_LINES = 200_000
_MOST_WORDS = 300  # characters of what it said
_NOT_STARTED = re.compile(r"not found|No such file|Permission denied|cannot execute|prohibited", re.IGNORECASE)


class _Line(NamedTuple):
    number: int
    option: str  # in lower case
    words: tuple[str, ...]


@lru_cache(maxsize=256)
def _lines(path: Path) -> tuple[_Line, ...]:
    """Return the lines of a file that say something, split into words.  Raises ValueError for one that cannot be split."""
    found = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, text in enumerate(file, 1):
            option, rest = split_option(text) if number <= _MOST_LINES else ("", "")
            if not option:
                continue
            try:
                words = (rest,) if option == "proxycommand" else tuple(split_words(rest, comments=option != "match"))
            except ValueError as error:
                raise ValueError(f"{path} line {number}: {error}") from error
            found.append(_Line(number, option, words))
    return tuple(found)


_KNOWN = frozenset(
    {"host", "match", "include", "hostname", "port", "user", "identityfile", "identitiesonly", "identityagent"}
    | {"certificatefile", "proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile"}
)
_WAYS = frozenset({"proxyjump", "proxycommand"})


def _says_something(path: Path, depth: int = 0) -> bool:
    """Return whether a file has an option that litefleet uses; most systems' own /etc/ssh/ssh_config has none.

    Reading it for each of 10,000 devices would take seconds, and asyncssh takes 0.2 s to import.
    """
    try:
        lines = [line for line in _lines(path) if line.option in _KNOWN and line.option != "host"]
    except (OSError, ValueError):
        return True  # `applied` reports it
    return any(line.option != "include" or depth > 4 or _includes_something(line, depth) for line in lines)


def _includes_something(line: _Line, depth: int) -> bool:
    if not line.words or not all(word.startswith("/") for word in line.words):
        return True
    return any(_says_something(found, depth + 1) for word in line.words for found in Path("/").glob(word[1:]))


@lru_cache(maxsize=1)
def _reader() -> type[asyncssh.config.SSHClientConfig]:
    import asyncssh.config

    class _Reader(asyncssh.config.SSHClientConfig):
        """asyncssh's reader, with the lines of each file kept; options that litefleet does not use are skipped."""

        _percent_expand = frozenset({"CertificateFile", "IdentityAgent", "IdentityFile", "ProxyCommand"})  # type: ignore[assignment]
        _known = _KNOWN

        def parse(self, path: Path) -> None:
            """Apply one file."""
            self._path, self._line_no, self._matching, self._tokens = path, 0, True, {"%": "%"}
            for line in _lines(path):
                if line.option not in self._known or not (self._matching or line.option in self._conditionals):
                    continue
                if line.option in _WAYS and not _WAYS.isdisjoint(map(str.lower, self._options)):
                    continue  # as in OpenSSH, the first of the two counts, `none` too
                self._path, self._line_no = path, line.number
                option, handler = self._handlers[line.option]
                words = list(line.words)
                if not words:
                    self._error(f"Missing {option} value")
                handler(self, option, words)
            self._set_tokens()
            for option in self._percent_expand:
                value: Any = self._options.get(option)
                if isinstance(value, list):
                    self._options[option] = [self._expand_val(item) for item in value]
                elif isinstance(value, str):
                    self._options[option] = self._expand_val(value)

    return _Reader


class SshConfig:
    """The configuration of one operator: `files` are read in this order, and the first value of an option counts."""

    def __init__(self, files: Sequence[Path], own_known_hosts: bool = True) -> None:
        paths = (Path(file).expanduser() for file in files)
        self._files = [path for path in paths if path.is_file() and _says_something(path)]
        self._own_known_hosts = own_known_hosts  # UserKnownHostsFile counts: litefleet.yaml names no file
        self._user = getpass.getuser()

    def applied(self, device: Device) -> Device:
        """Return a device with what the configuration adds to it.  Raises: ConfigError with file and line."""
        if not self._files:
            return device
        from asyncssh import Error

        port = device.port if device.port_is_set or device.port != 22 else ()
        try:
            told = (self._user, device.user or (), device.host, port)
            read = _reader().load(None, self._files, False, False, False, *told)
            if read.has_match_final():  # read once more: what the first reading found stays
                read = _reader().load(read, self._files, False, False, True, *told)
        except (OSError, ValueError, Error) as error:
            raise ConfigError([f"SSH configuration: {error}; `ssh: {{config: false}}` does without it"]) from error
        return self._take(device, read, port == ())

    def _take(self, device: Device, read: asyncssh.config.SSHConfig, any_port: bool) -> Device:
        taken: list[str] = []

        def value(option: str, wanted: bool = True) -> Any:
            found = read.get(option) if wanted else None
            if found not in (None, [], ()):
                shown = found if isinstance(found, list) else ["yes" if found is True else found]
                taken.extend(f"{option} {item}" for item in shown if item is not False)
            return found

        host, new_port = str(value("Hostname") or ""), value("Port", any_port)
        user = value("User", not device.user)
        jump = str(value("ProxyJump", not device.jump) or "")
        known_hosts = value("UserKnownHostsFile", self._own_known_hosts and not device.host_keys)
        if known_hosts == []:  # `none`: no file of the user's, not the default one
            known_hosts = [os.devnull]
        settings = SshSettings(
            keys=tuple(dict.fromkeys(value("IdentityFile", not device.key) or ())),
            certificates=tuple(dict.fromkeys(value("CertificateFile") or ())),
            keys_only=bool(value("IdentitiesOnly", not device.key)),
            agent=str(value("IdentityAgent") or ""),
            proxy_command=str(value("ProxyCommand", not device.jump and not jump) or ""),
            known_as=str(value("HostKeyAlias") or ""),
            known_hosts=tuple(known_hosts or ()),
            taken=tuple(taken),
        )
        return replace(
            device,
            host=checks.folded_host(host) if host else device.host,
            port=new_port or device.port,
            user=user or device.user,
            jump=jump or device.jump,
            ssh=settings,
        )

    def hops(self, inventory: Inventory, device: Device, most: int = _MOST_HOPS) -> tuple[Device, ...]:
        """Return the jump hosts on the way to a device that `applied` returned, first hop first."""
        found: list[Device] = []
        for hop in inventory.jump_chain(device) if most else ():
            for word in [hop] if isinstance(hop, Device) else hop.removeprefix("ssh://").split(","):
                if isinstance(word, Device):
                    found.append(word)
                    continue
                plain = hop_device(word, device)
                made = self.applied(replace(plain, key=""))
                if not made.ssh.keys:
                    made = replace(made, key=plain.key)
                found += [*(self.hops(inventory, made, most - 1) if made.jump and not found else ()), made]
        return tuple(found)


@dataclass(frozen=True)
class Proxy:
    """A ProxyCommand on its way; without one, both fields are empty."""

    command: tuple[str, ...] = ()  # as asyncssh starts it
    errors: Path | None = None  # the file that takes its standard error

    def words(self) -> str:
        """Return the last lines of its standard error, "" for none."""
        if self.errors is None:
            return ""
        lines = self.errors.read_bytes()[-4096:].decode("utf-8", "replace").split("\n")
        return sanitize(" / ".join(line.strip() for line in lines[-4:] if line.strip()), _MOST_WORDS)

    def failure(self, device: Device, found: Finding) -> Finding:
        """Return what a failed connection means that went through it: it was not started, or the device is away."""
        if self.errors is None or found.code != "LF501":
            return found
        words = self.words()
        said = f"; it said: {words}" if words else ""
        observed = f"{found.observed}, through the ProxyCommand `{device.ssh.proxy_command}`{said}"
        return finding("LF512" if _NOT_STARTED.search(words) else "LF501", observed)


@contextmanager
def proxy_of(device: Device) -> Iterator[Proxy]:
    """Yield the ProxyCommand of a device; OpenSSH starts it by a shell too."""
    command = device.ssh.proxy_command
    if not command or command.lower() == "none":
        yield Proxy()
        return
    with tempfile.NamedTemporaryFile(prefix="litefleet-proxy-") as errors:
        # asyncssh takes the end of its standard error for the end of the connection: descriptor 3 keeps that open.
        script = f"exec 3>&2 2>{shlex.quote(errors.name)}; exec {command}"
        yield Proxy(("/bin/sh", "-c", script), Path(errors.name))
