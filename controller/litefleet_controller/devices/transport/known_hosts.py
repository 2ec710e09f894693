"""Reads known_hosts files as OpenSSH does: a line that is no host key is skipped, and named with its number."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import asyncssh
from litefleet_agent.formats.files import read_regular
from litefleet_inventory.checks import folded_host

_MOST_BYTES = 16 << 20
_WITH_PORT = re.compile(r"\[([^\]]+)\]:(\d+)")
_MARKERS = ("@cert-authority", "@revoked")


class SkippedLine(NamedTuple):
    """A line that is no host key."""

    path: Path
    number: int  # from 1
    why: str

    def __str__(self) -> str:
        """Return the sentence for an operator."""
        return f"{self.path}:{self.number}: {self.why}; the line is skipped"


class KnownHosts(NamedTuple):
    """The trusted keys of some files, and what was skipped in them."""

    keys: asyncssh.SSHKnownHosts
    skipped: tuple[SkippedLine, ...]


def read_known_hosts(paths: Iterable[Path]) -> KnownHosts:
    """Return what the files hold; files that are missing hold nothing.  Raises OSError for one that cannot be read."""
    keys = asyncssh.import_known_hosts("")
    skipped: list[SkippedLine] = []
    for path in dict.fromkeys(paths):
        for number, line in _lines(path):
            if why := wrong_line(line) or _load(keys, line):
                skipped.append(SkippedLine(path, number, why))
    return KnownHosts(keys, tuple(skipped))


def _load(keys: asyncssh.SSHKnownHosts, line: str) -> str:
    """Add a line to the keys; return why that is impossible, "" when it was done."""
    try:
        if not (folded := _folded(line)):
            return "it names a network, which OpenSSH does not know here: name hosts, or *"
        keys.load(folded)
    except (ValueError, asyncssh.Error) as error:
        return f"it names no host ({ascii(str(error))[1:101]})"
    return ""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are to be host keys, with their numbers."""
    try:
        data = b"" if str(path) == os.devnull else read_regular(path, _MOST_BYTES)
    except FileNotFoundError:
        return
    for number, raw in enumerate(data.split(b"\n"), start=1):
        line = raw.decode("utf-8", "surrogateescape").strip()
        if line and not line.startswith("#"):
            yield number, line


def wrong_line(line: str) -> str:
    """Return why a line is no host key, "" when it is one, of a type that is known here or not."""
    words = line.split()
    if "\0" in line:
        return "it holds NUL bytes, as a power cut leaves them"
    if words[0].startswith("@"):
        marker = words.pop(0)
        if marker not in _MARKERS:
            return f"the marker {ascii(marker)[1:-1][:40]} is unknown"
    if len(words) < 3:
        return "it is not of the form HOST TYPE KEY"
    try:
        data = base64.b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return "its key is not base64"
    size = int.from_bytes(data[:4], "big")
    if data[4 : 4 + size] != words[1].encode("utf-8", "replace"):
        return f"it holds no key of type {words[1][:40]}"
    # The serial number of a certificate is no field with a length; OpenSSH takes none as a host's key anyway.
    return "" if "-cert-" in words[1] or _is_whole(data) else "its key is cut short"


def _is_whole(data: bytes) -> bool:
    """Return whether each of the fields of a key, of any type, ends within it."""
    at = 0
    while at < len(data):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return at == len(data)


def _folded(line: str) -> str:
    """Return a line with its host names folded, as `folded_name` does; hashes stay.  "" when no host is left.

    asyncssh takes 10.0.0.0/8 for a network; to OpenSSH it is a name that no host has.
    """
    words = line.split(None, 2)
    at = 1 if words[0].startswith("@") else 0
    if not words[at].startswith("|"):
        words[at] = ",".join(folded_name(name) for name in words[at].split(",") if "/" not in name)
    return " ".join(words) if words[at] else ""


def folded_name(text: str) -> str:
    """Return the one spelling of a host, "host" or "[host]:port", by which its key is looked up.

    Names are in lower case and without a final dot, IPv6 addresses in their short form; port 22 is not written.
    """
    negated, name = text.startswith("!"), text.removeprefix("!")
    bracketed = _WITH_PORT.fullmatch(name)
    host = bracketed[1] if bracketed else name
    address, percent, zone = host.partition("%")
    address = folded_host(address)
    folded = f"{address.removesuffix('.') or address}{percent}{zone}"
    if bracketed and bracketed[2] != "22":
        folded = f"[{folded}]:{bracketed[2]}"
    return "!" * negated + folded
