"""A provision as data: each step has a command that checks, does and undoes it.  Pure."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

USER = "litefleet"  # the service's user and group, and the one that the controller logs in as
NOBODY = "nobody"  # runs what is not trusted yet
HOME = "/var/lib/litefleet"
PYTHON = "python3"  # where the inventory names none
RESTART = "/etc/litefleet.restart"  # exists while the running service has not read a change


@dataclass(frozen=True)
class Step:
    """One step.  Commands are POSIX sh, run by root or by `user`; exit code 0 of `check`: it is done."""

    name: str
    check: str
    do: str = ""  # empty: it cannot be done, and the provision ends here with `hint`
    undo: str = ""  # run with --remove; empty: stays
    purge: str = ""  # run with --remove --purge
    data: bytes = b""  # stdin of `do`
    user: str = ""  # who runs check and do; "" is root
    hint: str = ""  # what an operator does when it fails
    time_limit_s: float = 60.0


@dataclass(frozen=True)
class File:
    """A file on the device."""

    path: str
    data: bytes
    mode: str = "0644"

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


def _same(file: File) -> str:
    path = shlex.quote(file.path)
    return f"[ -f {path} ] && {_holds(path, file)}"


def _holds(path: str, file: File) -> str:
    return f'[ "$(sha256sum < {path} | cut -c 1-64)" = {file.sha256} ]'


def install(name: str, file: File, restarts: bool = True) -> Step:
    """Return the step that puts a root's file in place, whole or not at all; --remove takes it away."""
    path, temp = shlex.quote(file.path), shlex.quote(file.path + ".litefleet-new")
    # first: cut off in between, the restart still follows
    mark = f"echo {shlex.quote(name)} >> {RESTART} && " if restarts else ""
    folder = shlex.quote(str(PurePosixPath(file.path).parent))
    return Step(
        name,
        _same(file),
        # A connection that breaks ends `cat` as well as the file's own end does.
        f"umask 022 && mkdir -p {folder} && cat > {temp} && {_holds(temp, file)} && chmod {file.mode} {temp} "
        f"&& {mark}mv -f {temp} {path}",
        f"rm -f {path} {temp}",
        data=file.data,
    )


def own_file(name: str, file: File, keep: bool = False) -> Step:
    """Return the step that puts a file into the user's own folder, as that user; with `keep`, one that is there stays."""
    path, temp = shlex.quote(file.path), shlex.quote(file.path + ".new")
    folder = shlex.quote(str(PurePosixPath(file.path).parent))
    return Step(
        name,
        f"[ -f {path} ]" if keep else _same(file),
        f"umask 077 && mkdir -p {folder} && cat > {temp} && {_holds(temp, file)} && chmod {file.mode} {temp} "
        f"&& mv -f {temp} {path}",
        data=file.data,
        user=USER,
    )


def removal(steps: tuple[Step, ...], purge: bool) -> tuple[Step, ...]:
    """Return the steps that undo `steps`, the last one first; the user's data only with `purge`."""
    undone = []
    for step in reversed(steps):
        for command in (step.undo, step.purge if purge else ""):
            if command:
                undone.append(replace(step, name=f"without {step.name}", check="", do=command, data=b"", user=""))
    return tuple(undone)
