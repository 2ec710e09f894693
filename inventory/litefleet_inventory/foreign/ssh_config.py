"""Reads the hosts of an OpenSSH client configuration as devices: every `Host` name without a wildcard.

As in OpenSSH, the first value found for a host counts, from its own block or from one with wildcards; `Include` is followed.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import checks
from .found import Found, FoundHost

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
        _set_login(made, own, host, name, found)
        jump = own.get("jump", "")
        if jump and jump.lower() != "none":
            if "," in jump:
                found.ignored[f"ProxyJump {jump} of {name}: a chain; give each hop a `jump:` of its own"] += 1
                continue
            found.set(made, "jump", _jump(jump.removeprefix("ssh://"), settings), f"ProxyJump of {name}")
    for name in names:
        if name in jumps and "jump" not in settings[name] and "key" not in settings[name]:
            found.skipped[name] = "a jump host of others"


def _set_login(made: FoundHost, own: Mapping[str, str], host: str, name: str, found: Found) -> None:
    """Give a host its port, user and key."""
    for setting in ("port", "user"):
        if setting in own:
            found.set(made, setting, own[setting], f"{setting} of {name}")
    key = _expanded(own.get("key", ""), {"h": host, "n": name, "r": own.get("user")})
    if "%" in key or "${" in key:
        found.ignored[f"IdentityFile {key} of {name}: not all of it can be filled in"] += 1
    elif key and key.lower() != "none":
        found.set(made, "key", key, f"key of {name}")


def _expanded(text: str, tokens: Mapping[str, str | None]) -> str:
    """Return a path with its tokens filled in; a token or variable that is not known stays."""
    text = text.replace("${HOME}", "~")
    return re.sub(r"%(.)", lambda m: {"%": "%", "d": "~", **tokens}.get(m[1]) or m[0], text)


def _jump(jump: str, settings: dict[str, dict[str, str]]) -> str:
    """Return a jump host as "user@host:port"; a host of the file that has a key or a jump of its own stays a device's name."""
    own = settings.get(jump)
    if own is None:  # a host, which is no device
        return jump if "@" in jump or ":" in jump else f"{jump}:22"
    if "key" in own or "jump" in own:
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
            if keyword == "proxycommand":
                values.setdefault("jump", "none")  # of the two, the first in the file counts
            if key is not None:
                values.setdefault(key, value)
            elif keyword == "proxycommand" and value.lower() == "none":
                continue
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
    for raw in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        keyword, value = split_option(raw)
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
            block[1].append((keyword, value if keyword == "proxycommand" else " ".join(_words(value))))
    yield block


def _included(value: str, path: Path) -> list[Path]:
    files: list[Path] = []
    for word in _words(value):
        pattern = Path(word).expanduser() if word.startswith("~") else Path(word)
        folder = path.parent if not pattern.is_absolute() else Path(pattern.anchor)
        relative = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
        files += sorted(file for file in folder.glob(str(relative)) if file.is_file())
    return files


_OPTION = re.compile(r"\"?([^\s=\"]+)\"?(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
# As OpenSSH splits a line: a backslash only escapes a quotation mark, a backslash or a space, and else stays
_PIECE = re.compile(
    r"""\\(?P<escaped>[\\"' ])
    |(?P<mark>["'])(?P<quoted>(?:\\[\\"']|(?!(?P=mark)).)*)(?P=mark)
    |(?P<space>\s+)|(?P<comment>(?<!\S)\#.*)|(?P<open>["'])|(?P<plain>[^\s\\"'#]+|.)""",
    re.VERBOSE | re.DOTALL,
)


def split_option(raw: str) -> tuple[str, str]:
    """Return (option in lower case, the rest) of a line, ("", "") for an empty line or a comment."""
    line = raw.strip()
    found = _OPTION.match(line) if line and not line.startswith("#") else None
    return (found[1].lower(), found[2].strip()) if found else ("", "")


def split_words(text: str, comments: bool = True) -> list[str]:
    """Return the words of an option's rest, up to a comment.  Raises ValueError for a quotation mark without its partner."""
    words: list[str] = []
    joined = False
    for piece in _PIECE.finditer(text):
        kind = piece.lastgroup or ""
        value = re.sub(r"\\([\\\"'])", r"\1", piece[kind]) if kind == "quoted" else piece[kind]
        if kind == "comment" and comments:
            break
        if kind == "open":
            raise ValueError(f"the quotation mark in {checks.shown(text)} is not closed")
        if kind != "space":
            words[len(words) - joined :] = [words[-1] + value if joined else value]
        joined = kind != "space"
    return words


def _words(value: str) -> list[str]:
    try:
        return split_words(value)
    except ValueError:  # OpenSSH refuses the whole file
        return value.split()
