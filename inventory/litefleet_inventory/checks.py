"""Checks of values.  Each returns "" for a good text, else what is wrong and what to write instead.

Hosts, users and jump hosts are passed to command lines and protocols: none may begin with '-' or contain white space or
control characters, so that no program can read one as an option.
"""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from .problems import nearest

NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_NAME = re.compile(NAME, re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=:/-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_SECRET = re.compile(
    r"(^|[_-])(pass|passwd|password|passphrase|pwd|pin|secret|token|credentials?|api_?key)$", re.IGNORECASE
)
NO_SECRETS = "secrets do not belong in the inventory; use an SSH key (`key:` names its file) or the SSH agent"
ARCHES = (
    *("x86_64", "amd64", "i686", "i386", "aarch64", "arm64", "armv8", "armv7l", "armv7", "armhf", "armv8l", "armv6l"),
    *("riscv64", "mips", "mips64", "ppc64le", "s390x", "loongarch64"),
)
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+", re.ASCII)


def shown(text: str) -> str:
    """Return `text` quoted for a message: short, on one line, printable."""
    return ascii(text if len(text) <= 60 else text[:57] + "...") if not text.isprintable() else f"'{text[:60]}'"


def looks_secret(key: str) -> bool:
    """Whether a setting of this name is meant for a secret."""
    return _SECRET.search(key) is not None


def _word(text: str, label: str) -> str:
    """Reject a text that could be read as an option or as more than one word."""
    if not text:
        return f"{label} is empty; leave the line out, or write a value"
    if text.startswith("-"):
        return f"{label} {shown(text)} begins with '-', so it could be taken for an option"
    if len(text) > 255:
        return f"{label} is longer than 255 characters"
    if not text.isprintable() or " " in text:
        return f"{label} {shown(text)} contains white space or control characters"
    return ""


def as_name(text: str) -> str:
    """Return a text as a name of a device, group or model: other characters become '-'; "" when nothing is left."""
    return _NOT_IN_NAMES.sub("-", text).strip("-.")


def name(text: str) -> str:
    """Check a device's, group's, model's or runtime's name."""
    wrong = _word(text, "the name")
    if wrong or _NAME.fullmatch(text):
        return wrong
    return f"the name {shown(text)} may hold letters, digits, '.', '_' and '-' only, and begins with a letter or digit"


def tag(text: str) -> str:
    """Check a tag."""
    wrong = _word(text, "the tag")
    if wrong or _TAG.fullmatch(text):
        return wrong
    return f"the tag {shown(text)} may hold letters, digits and . _ = : / - only, and begins with a letter or digit"


def host(text: str) -> str:
    """Check a host name, IPv4 or IPv6 address."""
    wrong = _word(text, "the host")
    if wrong:
        return wrong
    if "@" in text:  # do not repeat the text: it may contain a password
        return "a host contains no '@'; write the user as `user:`"
    if ":" in text:
        return _ipv6(text)
    if re.fullmatch(r"[\d.]+", text, re.ASCII):
        return _ipv4(text)
    if not _HOST.fullmatch(text):
        return f"the host {shown(text)} is not a host name or address (letters, digits, '.', '-' and '_' only)"
    return ""


def folded_host(text: str) -> str:
    """Return a checked host as known_hosts files and comparisons use it: names in lower case, IPv6 in its short form."""
    if ":" not in text:
        return text.lower()
    return str(IPv6Address(text)) if not _ipv6(text) else text.lower()


def folded_jump(text: str) -> str:
    """Return a checked "user@host:port" with its host folded; the user keeps its case."""
    login, at, address = text.rpartition("@")
    return f"{login}{at}{address.lower()}"


def _ipv4(text: str) -> str:
    try:
        IPv4Address(text)
    except AddressValueError as err:
        reason = str(err)
        hint = "; use {n} for a number without zeros" if "Leading zeros" in reason else ""
        return f"the host {shown(text)} is not an IPv4 address ({reason}){hint}"
    return ""


def _ipv6(text: str) -> str:
    try:
        IPv6Address(text)
    except ValueError:
        if text.startswith("["):
            return f"the host {shown(text)} has brackets; write an IPv6 address without them, the port as `port:`"
        if text.count(":") == 1:
            return f"the host {shown(text)} contains a ':'; write the port as `port:`"
        return f"the host {shown(text)} is not an IPv6 address"
    return ""


def port(text: str) -> str:
    """Check a port's digits."""
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return f"expected a port from 1 to 65535, found {shown(text)}"
    if len(text) > 1 and text.startswith("0"):
        return f"the port {text} begins with 0, which YAML readers take for octal; write it without"
    return "" if 1 <= int(text) <= 65535 else f"expected a port from 1 to 65535, found {text}"


def user(text: str) -> str:
    """Check a login name."""
    return _word(text, "the user")


def split_address(text: str) -> tuple[str, str, str]:
    """Return user, host and port of "user@host:port"; "" for a missing part.  An IPv6 host may be in brackets or bare."""
    login, _, rest = text.rpartition("@")
    if rest.startswith("["):
        address, _, tail = rest[1:].partition("]")
        return login, address, tail.removeprefix(":")
    if rest.count(":") == 1:
        address, _, digits = rest.partition(":")
        return login, address, digits
    return login, rest, ""


def jump(text: str) -> str:
    """Check a jump host: "user@host:port" (user and port may be left out) or a device's name."""
    wrong = _word(text, "the jump host")
    if wrong:
        return wrong
    if "," in text:
        return "one jump host only; for a chain make the first hop a device and let the second one `jump:` over it"
    login, address, digits = split_address(text)
    if not re.fullmatch(r"[^\[\]]*|\[[^\[\]]*\](:.*)?", text.rpartition("@")[2]):
        return f"an IPv6 jump host with a port is written [address]:port, found {shown(text.rpartition('@')[2])}"
    if ":" in login:  # do not repeat it: it may be a password
        return f"the user of a jump host contains a ':'; {NO_SECRETS}"
    if "@" in text and (wrong := user(login)):
        return wrong
    return host(address) or (port(digits) if digits or text.endswith(":") else "")


def path(text: str) -> str:
    """Check a path."""
    if "PRIVATE KEY" in text:
        return f"this is a private key itself; {NO_SECRETS}"
    if not text:
        return "the path is empty; leave the line out, or write a value"
    if text.startswith("-"):
        return f"the path {shown(text)} begins with '-', so it could be taken for an option; write './' before it"
    if len(text) > 4096:
        return "the path is longer than 4096 characters"
    return "" if text.isprintable() else f"the path {shown(text)} contains control characters"


def root(text: str) -> str:
    """Check the agent's root folder: absolute or under ~, and neither a whole file system nor a whole home folder."""
    wrong = path(text)
    if wrong:
        return wrong
    if not text.startswith(("/", "~/")):
        return f"the root {shown(text)} must begin with '/' or '~/'"
    parts = [p for p in text.split("/")[1:] if p not in ("", ".")]
    if not parts:
        return f"the root {shown(text)} is a whole file system or home; name a folder for litefleet alone"
    return f"the root {shown(text)} contains '..'; write the folder itself" if ".." in parts else ""


def flag(text: str) -> str:
    """Check a switch."""
    return "" if text in ("true", "false") else f"expected true or false, found {shown(text)}"


def arch(text: str) -> str:
    """Check an architecture's name, as `uname -m` prints it."""
    return "" if text in ARCHES else f"unknown architecture {shown(text)}{nearest(text, ARCHES)}"


def host_key(text: str) -> str:
    """Check a public host key line, "ssh-ed25519 AAAA... [comment]": the type in its data must be the same."""
    if "PRIVATE KEY" in text:
        return f"this is a private key; pin the public one (ssh-keyscan HOST), {NO_SECRETS}"
    words = text.split()
    if text.startswith("SHA256:"):
        return "this is a fingerprint; write the public key itself, 'ssh-ed25519 AAAA...'"
    if len(words) > 2 and not _KEY_TYPE.fullmatch(words[0]) and _KEY_TYPE.fullmatch(words[1]):
        return "this is a known_hosts line; leave its first word out"
    if len(words) < 2 or not _KEY_TYPE.fullmatch(words[0]) or not text.isprintable():
        return "expected a public host key, 'ssh-ed25519 AAAA...' (as ssh-keyscan prints it, without the host)"
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return f"the key data after '{words[0][:40]}' is not base64; was the line cut?"
    parts = _ssh_strings(blob)
    if len(parts) < 2 or parts[0] != words[0].encode() or (words[0] == "ssh-ed25519" and len(parts[1]) != 32):
        return f"the key data is not a whole {words[0][:40]} key; was the line cut?"
    return ""


def _ssh_strings(blob: bytes) -> list[bytes]:
    """Return the length-prefixed strings of an SSH key blob (RFC 4251); none when they do not fill it exactly."""
    parts = []
    at = 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + 4], "big")
        at += 4 + size
        if at > len(blob):
            return []
        parts.append(blob[at - size : at])
    return parts
