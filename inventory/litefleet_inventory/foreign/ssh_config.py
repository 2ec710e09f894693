"""Reads the hosts of an OpenSSH client configuration as devices: every `Host` name without a wildcard.

As in OpenSSH, the first value found for a host counts, from its own block or from one with wildcards; `Include` is followed.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterator
from pathlib import Path

from .. import checks
from .found import Found

_KEYWORDS = {"hostname": "host", "port": "port", "user": "user", "identityfile": "key", "proxyjump": "jump"}
# About the connection's comfort or strictness: nothing that litefleet would have to take over
_HARMLESS = frozenset(
    {
        "addkeystoagent", "batchmode", "checkhostip", "compression", "connecttimeout", "controlmaster", "controlpath",
        "controlpersist", "forwardagent", "forwardx11", "forwardx11trusted", "hashknownhosts", "identitiesonly",
        "ignoreunknown", "loglevel", "preferredauthentications", "requesttty", "sendenv", "serveralivecountmax",
        "serveraliveinterval", "setenv", "stricthostkeychecking", "tcpkeepalive", "updatehostkeys", "usekeychain",
        "userknownhostsfile", "visualhostkey",
    }
)  # fmt: skip
_MAX_INCLUDES = 16
_Block = tuple[tuple[str, ...], list[tuple[str, str]]]  # patterns, (keyword, value)


def read_ssh_config(path: Path, found: Found) -> None:
    """Read one file; a host that others jump over, and that needs no settings of its own, is a jump host and no device."""
    blocks = list(_blocks(path, found, 0))
    names = dict.fromkeys(
        p for patterns, _ in blocks for p in patterns if not any(c in p for c in "*?!") and p != "github.com"
    )
    settings = {name: _settings_of(name, blocks, found) for name in names}
    jumps = {one["jump"] for one in settings.values() if "jump" in one}
    for name, own in settings.items():
        made = found.host(name)
        if made is None:
            return
        host = own.get("host", name).replace("%h", name)
        found.set(made, "host", host, f"HostName of {name}")
        for key in ("port", "user", "key"):
            if key in own:
                found.set(made, key, own[key], f"{key} of {name}")
        jump = own.get("jump", "")
        if jump and jump.lower() != "none":
            if "," in jump:
                found.ignored[f"ProxyJump {jump} of {name}: a chain; give each hop a `jump:` of its own"] += 1
                continue
            found.set(made, "jump", _jump(jump, settings), f"ProxyJump of {name}")
    for name in names:
        if name in jumps and "jump" not in settings[name] and "key" not in settings[name]:
            found.skipped[name] = "a jump host of others"


def _jump(jump: str, settings: dict[str, dict[str, str]]) -> str:
    """Return a jump host as "user@host:port"; a host of the file that has a key or a jump of its own stays a device's name."""
    own = settings.get(jump)
    if own is None or "key" in own or "jump" in own:
        return jump
    user = f"{own['user']}@" if "user" in own else ""
    port = f":{own['port']}" if own.get("port", "22") != "22" else ""
    return f"{user}{own.get('host', jump).replace('%h', jump)}{port}"


def _settings_of(name: str, blocks: list[_Block], found: Found) -> dict[str, str]:
    values: dict[str, str] = {}
    for patterns, settings in blocks:
        if not _matches(name, patterns):
            continue
        for keyword, value in settings:
            key = _KEYWORDS.get(keyword)
            if key is not None:
                values.setdefault(key, value)
            elif keyword not in _HARMLESS:
                found.ignored[f"{keyword} {value[:60]}"] += 1
    return values


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    if any(p.startswith("!") and fnmatch.fnmatchcase(name, p[1:]) for p in patterns):
        return False
    return any(fnmatch.fnmatchcase(name, p) for p in patterns if not p.startswith("!"))


def _blocks(path: Path, found: Found, level: int) -> Iterator[_Block]:
    block: _Block = (("*",), [])
    ignoring = False
    for raw in path.read_text(encoding="utf-8", errors="replace").splitlines():
        keyword, value = _split(raw)
        if not keyword:
            continue
        if keyword in ("host", "match"):
            if block[1] or not ignoring:
                yield block
            ignoring = keyword == "match"
            block = (tuple(_words(value)), [])
            if ignoring:
                found.ignored[f"Match {value[:60]}: its settings are left out"] += 1
                block = ((), [])
        elif keyword == "include" and level < _MAX_INCLUDES:
            yield block
            for file in _included(value, path):
                yield from _blocks(file, found, level + 1)
            block = (block[0], [])
        else:
            block[1].append((keyword, value))
    yield block


def _included(value: str, path: Path) -> list[Path]:
    files: list[Path] = []
    for word in _words(value):
        pattern = Path(word).expanduser() if word.startswith("~") else Path(word)
        folder = path.parent if not pattern.is_absolute() else Path(pattern.anchor)
        relative = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
        files += sorted(file for file in folder.glob(str(relative)) if file.is_file())
    return files


def _split(raw: str) -> tuple[str, str]:
    """Return (keyword in lower case, value) of a line, ("", "") for an empty line or a comment."""
    line = raw.strip()
    if not line or line.startswith("#"):
        return "", ""
    keyword, _, value = line.replace("=", " ", 1).partition(" ") if "=" in line.split()[0] else line.partition(" ")
    words = value.strip().removeprefix("=").strip()
    return keyword.strip().lower(), (words[1:-1] if words[:1] == words[-1:] == '"' and len(words) > 1 else words)


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value, comments=True)
    except ValueError:
        return [checks.shown(value)]
