"""Who is at the other end of a Unix socket, as the kernel says, and whether it may call."""

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Tuple

from .settings import NAME, Settings, SettingsError

__all__ = ["Allowed", "Peer", "group_number", "peer_of"]

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS = 59  # not in Python's socket module
_GROUPS_SIZE = 1024  # bytes, the most that Python's getsockopt gives
_MOST_ID = (1 << 32) - 2  # the last one means nobody to the kernel


@dataclass(frozen=True)
class Peer:
    """A process as it was when it connected."""

    pid: int
    uid: int
    gid: int
    groups: Tuple[int, ...] = ()  # supplementary


def peer_of(connection: socket.socket) -> Peer:
    """Return who connected; OSError when the kernel does not say."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(pid, uid, gid, _groups(connection, pid))


def _groups(connection: socket.socket, pid: int) -> Tuple[int, ...]:
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
        return struct.unpack("%dI" % (len(data) // 4), data)
    except OSError:  # a kernel before 4.13, or more groups than fit
        return _groups_now(pid)


def _groups_now(pid: int) -> Tuple[int, ...]:
    """Return the supplementary groups of a running process, none when it is gone."""
    try:
        with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as file:
            lines = [line for line in file if line.startswith("Groups:")]
        return tuple(int(word) for word in lines[0].split()[1:])
    except (OSError, IndexError, ValueError):
        return ()


class Allowed:
    """Those who may call: root, the service's own user, and whom the settings name; SettingsError for unknown names."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.own = frozenset([0, os.geteuid()])
        self.users = self.own.union(_user_number(name) for name in settings.users)
        self.groups = frozenset(group_number(name) for name in settings.groups)

    def why_not(self, peer: Peer) -> str:
        """Return the sentence that says why this peer may not call, "" when it may."""
        if peer.uid in self.users or self.groups.intersection(peer.groups + (peer.gid,)):
            return ""
        return "user %s may not call this service: add it to `users` in %s%s, then restart the service" % (
            _user_name(peer.uid),
            NAME,
            ", or to the group %s" % " or ".join(self._settings.groups) if self._settings.groups else "",
        )


def _user_number(name: str) -> int:
    if name.isdecimal():
        return _number(name, "users")
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        raise SettingsError(
            "%s: `users` names %.80s, and there is no such user here; create it, or take it out" % (NAME, name)
        ) from None


def _number(name: str, setting: str) -> int:
    if int(name) > _MOST_ID:
        raise SettingsError("%s: `%s` names %.80s; a number may be %d at most" % (NAME, setting, name, _MOST_ID))
    return int(name)


def group_number(name: str) -> int:
    """Return the number of a group given by name or number; SettingsError when there is none of that name."""
    if name.isdecimal():
        return _number(name, "groups")
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise SettingsError(
            "%s: `groups` names %.80s, and there is no such group here; create it, or take it out" % (NAME, name)
        ) from None


def _user_name(uid: int) -> str:
    try:
        return "%s (%d)" % (pwd.getpwuid(uid).pw_name, uid)
    except KeyError:
        return str(uid)
