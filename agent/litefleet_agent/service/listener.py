"""The listening socket (systemd's, or one of our own), who may connect, and the limit of open files."""

import errno
import fcntl
import grp
import os
import pwd
import resource
import socket
import stat
import struct
from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

from ..errors import AgentError
from .settings import NAME, Settings, SettingsError

_OWN_FILES = 256  # open files of the service itself: sockets and pipes of workers, store, history, status
_NO_LIMIT = resource.RLIM_INFINITY


def connection_limit(wanted: int) -> int:
    """Raise this process's limit of open files for `wanted` connections, and return how many it then allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OWN_FILES
    if soft != _NO_LIMIT and soft < needed:
        soft = needed if hard == _NO_LIMIT else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == _NO_LIMIT or soft >= needed:
        return wanted
    return max(1, soft - _OWN_FILES, soft // 4)


_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS = 59  # from Linux's asm-generic/socket.h; missing in Python's socket module
_GROUPS_SIZE = 1024  # bytes, the maximum of Python's getsockopt
_MOST_ID = (1 << 32) - 2  # -1 as an unsigned number means "unchanged" to the kernel


@dataclass(frozen=True)
class Peer:
    """The credentials of a process at the time it connected."""

    pid: int
    uid: int
    gid: int
    groups: Tuple[int, ...] = ()  # supplementary


def peer_of(sock: socket.socket) -> Peer:
    """Return the credentials of the connected process.  Raises OSError when the kernel does not report them."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    return Peer(pid, uid, gid, _groups(sock, pid))


def _groups(sock: socket.socket, pid: int) -> Tuple[int, ...]:
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
        return struct.unpack("%dI" % (len(data) // 4), data)
    except OSError:  # a kernel before 4.13, or more groups than fit
        return _groups_now(pid)


def _groups_now(pid: int) -> Tuple[int, ...]:
    """Return the present supplementary groups of a process, () when it has ended."""
    try:
        with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as file:
            lines = [line for line in file if line.startswith("Groups:")]
        return tuple(int(word) for word in lines[0].split()[1:])
    except (OSError, IndexError, ValueError):
        return ()


class AccessControl:
    """The permitted users: root, the service's own user, and those of the settings' `users` and `groups`.

    Raises SettingsError for unknown names.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.own = frozenset([0, os.geteuid()])
        self.users = self.own.union(_user_number(name) for name in settings.users)
        self.groups = frozenset(group_number(name) for name in settings.groups)

    def denial_reason(self, peer: Peer) -> str:
        """Return why this peer is not permitted and how to permit it, "" when it is."""
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
            "%s: `users` names %.80s, which is not a user of this device; create it, or remove the name" % (NAME, name)
        ) from None


def _number(name: str, setting: str) -> int:
    if int(name) > _MOST_ID:
        raise SettingsError("%s: `%s` names %.80s; the largest number is %d" % (NAME, setting, name, _MOST_ID))
    return int(name)


def group_number(name: str) -> int:
    """Return the number of a group given by name or number.  Raises SettingsError for an unknown name."""
    if name.isdecimal():
        return _number(name, "groups")
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise SettingsError(
            "%s: `groups` names %.80s, which is not a group of this device; create it, or remove the name"
            % (NAME, name)
        ) from None


def _user_name(uid: int) -> str:
    try:
        return "%s (%d)" % (pwd.getpwuid(uid).pw_name, uid)
    except KeyError:
        return str(uid)


_FIRST_FD = 3  # of systemd's sockets (sd_listen_fds(3))
_BACKLOG = 128
_OWN = "litefleet-own"  # LISTEN_FDNAMES of a socket that the service made itself and kept across a re-execution
_UNREADY = "~"  # suffix of a socket's name until clients may connect
_LONGEST_PATH = 106  # bytes; sun_path has 108, with the suffix and a NUL


def listen(settings: Settings, root: str, environ: Mapping[str, str]) -> socket.socket:
    """Return the listening socket, non-blocking: systemd's where it passed one, else our own.

    Raises AgentError, "busy" when another service has the socket.
    """
    if _activated(environ) and environ.get("LISTEN_FDNAMES") != _OWN:
        return _inherited_socket()
    path = socket_path(settings, root, environ)
    try:
        if _activated(environ):
            inherited = _inherited_socket()
            if _path_of(inherited) == path:
                _set_permissions(path, path, settings)
                return inherited
            _remove(inherited)  # the settings name another path by now
        if not settings.socket:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        _check_folder(path)
        return _make(path, settings)
    except OSError as error:
        raise AgentError(
            "cannot create the socket %s: %s. Name another path as `socket` in %s." % (path, error.strerror, NAME)
        ) from error


def check(settings: Settings, root: str, environ: Mapping[str, str]) -> None:
    """Raise AgentError when `listen` would fail with these settings, so that a running service keeps its old ones."""
    if _activated(environ) and environ.get("LISTEN_FDNAMES") != _OWN:
        return
    path = socket_path(settings, root, environ)
    if os.path.isdir(os.path.dirname(path)):
        _check_folder(path)
    if settings.groups:
        number = group_number(settings.groups[0])
        if os.geteuid() != 0 and number not in (os.getegid(), *os.getgroups()):
            raise _not_a_member(path, settings)


def _check_folder(path: str) -> None:
    """Raise AgentError when every user of the device could block or replace the socket `path`.

    That is: its folder is writable by everyone, or one above it is, without the sticky bit or with another user's folder in it.
    """
    folder = os.path.realpath(os.path.dirname(path))
    part = os.path.join(folder, os.path.basename(path))
    trusted = (0, os.geteuid())
    while part != "/":
        above = os.path.dirname(part)
        status = os.stat(above)
        protected = above != folder and status.st_mode & stat.S_ISVTX and os.lstat(part).st_uid in trusted
        if status.st_mode & stat.S_IWOTH and not protected:
            raise AgentError(
                "every user can write in %s, so any of them could block or replace the socket %s: name a path as `socket` in "
                "%s in a folder that only the service's user can write in" % (above, path, NAME),
                "bad-settings",
            )
        part = above


def socket_path(settings: Settings, root: str, environ: Mapping[str, str]) -> str:
    """Return the path of the service's own socket.  Raises AgentError when it is too long for the kernel."""
    run_folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    path = settings.socket or os.path.join(run_folder or os.path.join(os.path.abspath(root), "run"), "agent.sock")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise AgentError(
            "the socket's path has %d bytes, and the limit is %d: name a shorter one as `socket` in %s, instead of %s"
            % (len(os.fsencode(path)), _LONGEST_PATH, NAME, path),
            "bad-settings",
        )
    return path


def pass_on_environment(listener: socket.socket, environ: Mapping[str, str]) -> Dict[str, str]:
    """Make the socket inheritable as systemd would pass it, and return the environment for the next program."""
    if listener.fileno() != _FIRST_FD:
        os.dup2(listener.fileno(), _FIRST_FD)
    os.set_inheritable(_FIRST_FD, True)
    name = environ.get("LISTEN_FDNAMES", "") if _activated(environ) else _OWN
    return dict(environ, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=name)


def close_listener(listener: socket.socket, environ: Mapping[str, str]) -> None:
    """Close our own listening socket, so that clients get ECONNREFUSED at once; systemd's stays for the next service."""
    if not _activated(environ) or environ.get("LISTEN_FDNAMES") == _OWN:
        _remove(listener)


def _path_of(sock: socket.socket) -> str:
    """Return the path of a socket that `_bind` made: the kernel reports the name before the rename."""
    name = str(sock.getsockname())
    return name[: -len(_UNREADY)] if name.endswith(_UNREADY) else name


def _remove(sock: socket.socket) -> None:
    path = _path_of(sock)
    sock.close()
    try:
        os.unlink(path)
    except OSError:  # removed already
        pass


def _activated(environ: Mapping[str, str]) -> bool:
    return environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "0") not in ("", "0")


def _inherited_socket() -> socket.socket:
    """Return the first socket that systemd passed.  Raises AgentError for an unsuitable one."""
    try:
        inherited = socket.socket(fileno=_FIRST_FD)
        fits = (
            inherited.family == socket.AF_UNIX
            and inherited.type & socket.SOCK_STREAM
            and inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
    except OSError as error:
        raise AgentError("systemd passed no socket: %s" % error.strerror) from error
    if not fits:
        inherited.detach()
        raise AgentError("systemd passed a socket that is not a listening Unix stream socket: use ListenStream=/PATH")
    inherited.setblocking(False)
    inherited.set_inheritable(False)  # not for workers
    return inherited


def _make(path: str, settings: Settings) -> socket.socket:
    # The lock closes the gap in which two services find the same stale socket and one removes the other's new one.
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _clear(path)
        return _bind(path, settings)
    finally:
        os.close(lock)


def _clear(path: str) -> None:
    """Remove a stale socket.  Raises AgentError "busy" when a service answers on it."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise AgentError("%s exists and is not a socket: move it, or name another `socket` in %s" % (path, NAME))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog (EAGAIN) also means that a service listens
        result = probe.connect_ex(path)
    if result in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise AgentError(
            "another service already answers on %s: stop it first, or name another `socket`" % path, "busy"
        )
    if result == errno.ECONNREFUSED:
        os.unlink(path)
    elif result != errno.ENOENT:
        raise OSError(result, os.strerror(result), path)


def _bind(path: str, settings: Settings) -> socket.socket:
    """Create the socket under another name, and rename it once it listens with the right permissions."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unready = path + _UNREADY
    try:
        _drop(unready)
        before = os.umask(0o177)
        try:
            listener.bind(unready)
        finally:
            os.umask(before)
        _set_permissions(unready, path, settings)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        os.rename(unready, path)
    except (OSError, AgentError):
        listener.close()
        _drop(unready)
        raise
    return listener


def _drop(path: str) -> None:
    """Remove a socket that was not finished."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass


def _set_permissions(bound: str, path: str, settings: Settings) -> None:
    """Set owner and mode of the socket `bound`, later `path`, so that only permitted users can connect.

    Their credentials are checked again when they do.
    """
    if settings.groups:
        try:
            os.chown(bound, -1, group_number(settings.groups[0]))
        except PermissionError:
            raise _not_a_member(path, settings) from None
    os.chmod(bound, 0o666 if settings.users else 0o660)


def _not_a_member(path: str, settings: Settings) -> AgentError:
    return AgentError(
        "cannot give the socket %s to the group %s: run the service as root or as a member of that group, "
        "or have systemd create the socket (SocketGroup=)" % (path, settings.groups[0])
    )
