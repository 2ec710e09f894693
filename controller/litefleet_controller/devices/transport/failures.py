"""What a connection that failed says of its cause, as a finding: what may pass by itself, and what a person must mend."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence

import asyncssh
from litefleet_agent.findings import Finding, finding
from litefleet_inventory.model import Device

from ...common.text import sanitize
from .base import LEGACY
from .hostkeys import TrustDecision
from .identities import named

_CONNECT_FAILED = re.compile(r"\[Errno (\d+)\] Connect call failed")
_NO_MATCH = re.compile(r"No matching (.+) algorithm found, sent \S+ and received (\S+)")
_MOST_WORDS = 300  # characters of what a peer said
_MOST_HEARD = 8192  # bytes of them; OpenSSH's list of algorithms has 1 to 2 KiB
_KINDS = ("key exchange", "host key", "encryption")  # the first lists of a KEXINIT, in its order


def why(error: Exception) -> str:
    """Return an error's own words, or its kind where it has none."""
    refused = _CONNECT_FAILED.findall(str(error))
    if refused:  # asyncio's own words name a call and a tuple, once per address
        return ", ".join(dict.fromkeys(os.strerror(int(number)).lower() for number in refused))
    text = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)
    return sanitize(text, _MOST_WORDS) or type(error).__name__


def address_of(device: Device) -> str:
    """Return host:port for a sentence."""
    return f"{device.host}:{device.port}"


def connection_failure(
    device: Device, hop: Device | None, decision: TrustDecision, offered: Sequence[str], error: Exception
) -> Finding:
    """Return the finding for a connection to `device`, through the jump host `hop`, that failed with `error`."""
    where = address_of(device)
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return decision.refused or finding("LF503", f"{where}: {why(error)}")
    if isinstance(error, asyncssh.PermissionDenied):
        user = device.user or "the current user"
        keys = f"offered were: {named(offered)}" if offered else "there was no key to offer"
        return finding("LF504", f"{where} refused {user}: {why(error)} ({keys})")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return _no_method(device, error)
    if isinstance(error, asyncssh.ChannelOpenError) and hop is not None:
        return _hop_refused(device, hop, error)
    if offered and _too_many(error, offered):
        observed = (
            f"{where} closed the connection: too many keys were offered ({len(offered)}: {named(offered)}); "
            "name one with `key:`, or with IdentityFile and IdentitiesOnly in the SSH configuration"
        )
        return finding("LF504", observed)
    if isinstance(error, TimeoutError):
        return finding("LF501", f"{where} did not answer within the time limit")
    return finding("LF501", f"{where}: {why(error)}")


def _no_method(device: Device, error: Exception) -> Finding:
    found = _NO_MATCH.search(why(error)) or _NO_MATCH.search(str(error))
    if found is None:
        return finding("LF511", f"{address_of(device)}: {why(error)}")
    return _only(device, found[1], found[2].split(","))


def _only(device: Device, kind: str, offers: Sequence[str]) -> Finding:
    shown = sanitize(", ".join(offers[:5]), _MOST_WORDS)
    observed = f"{address_of(device)} offers only {shown} as {kind} algorithm, which litefleet does not use"
    if not device.legacy and LEGACY.intersection(offers):
        observed += "; `legacy: true` for this device in the inventory permits it"
    return finding("LF511", observed)


def _hop_refused(device: Device, hop: Device, error: asyncssh.ChannelOpenError) -> Finding:
    where, over = address_of(device), f"the jump host {hop.name} ({address_of(hop)})"
    if error.code == asyncssh.OPEN_CONNECT_FAILED:
        return finding("LF501", f"{over} cannot reach {where}: {why(error)}")
    reason = why(error)
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED and "prohibited" not in reason:
        reason = f"administratively prohibited ({reason})"
    return finding("LF512", f"{over} refuses to forward to {where}: {reason}")


def _too_many(error: Exception, offered: Sequence[str]) -> bool:
    """Whether the server ended the connection because of the number of keys; some servers only close it."""
    words = str(error).lower()
    if "too many authentication" in words or "max auth" in words:
        return True
    return isinstance(error, asyncssh.ConnectionLost) and len(offered) > 2


async def look_again(
    device: Device, tunnel: asyncssh.SSHClientConnection | None, ours: Mapping[str, Sequence[str]], limit_s: float
) -> Finding | None:
    """Return why a server closed the connection before the login: it is no SSH server, or shares no algorithm with us.

    `ours` has our algorithms by the kinds of `_KINDS`; `limit_s` is in seconds.  None when neither can be seen.
    """
    data = b""
    try:
        async with asyncio.timeout(limit_s):
            opening = tunnel.open_connection if tunnel is not None else asyncio.open_connection
            reader, writer = await opening(device.host, device.port)
            try:
                writer.write(b"SSH-2.0-litefleet\r\n\r\n")
                while len(data) < _MOST_HEARD and (more := await reader.read(_MOST_HEARD)):
                    data += more if isinstance(more, bytes) else more.encode()
                    if (theirs := _offers(data)) is not None:
                        return _mismatch(device, theirs, ours)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncssh.Error):
        pass
    words = data.decode("utf-8", "replace").strip()
    if not words or any(line.startswith("SSH-") for line in words.splitlines()) or words.startswith("Exceeded"):
        return None
    said = sanitize(words.splitlines()[0], _MOST_WORDS)
    return finding("LF507", f"something else than SSH answers at {address_of(device)}: {said}")


def _offers(data: bytes) -> dict[str, list[str]] | None:
    """Return a server's algorithms from its first bytes (RFC 4253, 7.1), None while they are not whole."""
    start = data.find(b"\n") + 1
    if not data.startswith(b"SSH-") or not start or len(data) < start + 5:
        return None
    size = int.from_bytes(data[start : start + 4], "big")
    packet = data[start + 5 : start + 4 + size]
    if len(packet) < size - 1 or packet[:1] != b"\x14":
        return None
    at, found = 17, {}  # behind the type and the cookie
    for kind in _KINDS:
        length = int.from_bytes(packet[at : at + 4], "big")
        found[kind] = packet[at + 4 : at + 4 + length].decode("ascii", "replace").split(",")
        at += 4 + length
    return found


def _mismatch(device: Device, theirs: Mapping[str, list[str]], ours: Mapping[str, Sequence[str]]) -> Finding | None:
    for kind, offers in theirs.items():
        if not set(offers) & set(ours[kind]):
            return _only(device, kind, offers)
    return None
