"""The steps that every device needs, whatever starts its services: the user, its key, the agent, its settings.  Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from .steps import HOME, NOBODY, PYTHON, RESTART, USER, File, Step, install, own_file
from .ways import roots_way

# The agent needs one command's stdin and stdout.  Written one by one: dropbear does not know `restrict` in all versions.
KEY_LIMITS = "no-port-forwarding,no-X11-forwarding,no-agent-forwarding,no-pty"

COMMAND = "/usr/local/bin/litefleet-agent"
_SHARED = "/usr/local/lib/litefleet"  # root's: the agent's own folder is closed to others

_OLD_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 7) and sys.executable + ' is ' + sys.version.split()[0])"


@dataclass(frozen=True)
class Wanted:
    """What a device is to have."""

    archive: bytes  # the agent's .pyz
    archive_sha256: str
    keys: tuple[str, ...]  # public keys, "ssh-ed25519 AAAA...", that may log in as the service's user
    settings: bytes  # service.json
    keep_settings: bool  # leave a service.json that is there as it is
    root: str = HOME
    python: str = PYTHON  # the interpreter that the service runs in, as the inventory names it


def account_steps(wanted: Wanted) -> tuple[Step, ...]:
    """Return the steps up to a device on which the agent could be started by hand."""
    return (
        *roots_way(wanted.python, wanted.root),
        _python(wanted.python),
        _group(),
        _user(wanted.root),
        _password(),
        _folder(wanted.root),
        *(_key(wanted.root, key) for key in wanted.keys),
        *_agent(wanted),
        *_settings(wanted),
    )


def _python(python: str) -> Step:
    """Check that the interpreter is new enough; run as user `nobody`, since it is not trusted before."""
    return Step(
        "Python 3.7 or later",
        f"{shlex.quote(python)} -Es -c {shlex.quote(_OLD_ENOUGH)}",
        user=NOBODY,
        hint="Install Python 3.7 or later on the device, or name one that is there as `python:` in the inventory.",
    )


def _group() -> Step:
    there = f"grep -q '^{USER}:' /etc/group"
    add = f"if command -v groupadd >/dev/null; then groupadd --system {USER}; else addgroup -S {USER}; fi"
    gone = f"if ! {there}; then :; elif command -v groupdel >/dev/null; then groupdel {USER}; else delgroup {USER}; fi"
    return Step(f"group {USER}", there, add, purge=gone)


def _user(root: str) -> Step:
    home, there = shlex.quote(root), f"grep -q '^{USER}:' /etc/passwd"
    gone = f"if ! {there}; then :; elif command -v userdel >/dev/null; then userdel {USER}; else deluser {USER}; fi"
    return Step(
        f"user {USER}",
        there,
        f"if command -v useradd >/dev/null; then "
        f"useradd --system --gid {USER} --home-dir {home} --no-create-home --shell /bin/sh {USER}; "
        f"else adduser -S -D -H -h {home} -s /bin/sh -G {USER} {USER}; fi",
        purge=gone,
        hint=f"Make the user {USER} yourself (home {root}, shell /bin/sh, group {USER}), then run the same command again.",
    )


def _password() -> Step:
    """No password, but not locked either: an sshd without PAM lets nobody in whose password begins with "!"."""
    return Step(
        f"{USER} logs in by key only",
        f"grep -q '^{USER}:[*]:' /etc/shadow",
        f"if command -v usermod >/dev/null; then usermod -p '*' {USER}; "
        f"else sed -i 's/^{USER}:[^:]*:/{USER}:*:/' /etc/shadow; fi",
    )


def _folder(root: str) -> Step:
    path = shlex.quote(root)
    mine = f"drwx------ $(id -u {USER}) $(id -g {USER})"  # by number: BusyBox shows eight letters of a name
    foreign = f'[ -n "$(find {path} ! -user {USER} 2>/dev/null | head -n 1)" ]'  # a rollout as root leaves such files
    check = f'set -- $(ls -ldn {path} 2>/dev/null) && [ "${{1%[.+@]}} ${{3-}} ${{4-}}" = "{mine}" ] && ! {foreign}'
    # What root alone could write into is taken over whole; elsewhere somebody may have planted links to other files.
    do = (
        f"mkdir -p {path} && set -- $(ls -ldn {path}) && "
        f'if [ -z "$(ls -A {path})" ]; then chown {USER}:{USER} {path}; '
        f'elif [ "$3" = 0 ] && [ -d {path}/agent ]; then chown -hR {USER}:{USER} {path}; '
        f'elif [ "$3" = "$(id -u {USER})" ] && ! {foreign}; then chown {USER}:{USER} {path}; '
        f"else echo 'it holds files of somebody else' >&2; false; fi && chmod 0700 {path}"
    )
    hint = (
        f"{root} must be a folder of litefleet's own.  Where it is, and only holds files of another user (a rollout as "
        f"root leaves some), run `chown -hR {USER}:{USER} {root}` on the device, then the same command again."
    )
    purge = f"if [ -d {path}/agent ]; then rm -rf {path}; else rmdir {path} 2>/dev/null || true; fi"
    return Step(f"folder {root}", check, do, purge=purge, hint=hint)


def _key(root: str, key: str) -> Step:
    kind, public = key.split()[:2]
    folder, line = shlex.quote(f"{root}/.ssh"), shlex.quote(f"{KEY_LIMITS} {kind} {public} litefleet")
    file = f"{folder}/authorized_keys"
    # Written by hand, its last line may lack its end.
    do = (
        f"umask 077 && mkdir -p {folder} && touch {file} && "
        f'{{ [ -z "$(tail -c 1 {file})" ] || echo >> {file}; }} && printf "%s\\n" {line} >> {file}'
    )
    return Step(f"key …{public[-12:]}", f"grep -qF {shlex.quote(public)} {file} 2>/dev/null", do, user=USER)


def _agent(wanted: Wanted) -> tuple[Step, Step]:
    name = f"{wanted.archive_sha256}.pyz"
    file = File(f"{wanted.root}/agent/{name}", wanted.archive, "0600")
    link = shlex.quote(f"{wanted.root}/agent/litefleet-agent.pyz")
    follow = Step(
        "the agent's name",
        f'[ "$(readlink {link})" = {name} ]',
        f"ln -sfn {name} {link}",  # the running service sees it, and becomes the new agent by itself
        user=USER,
    )
    return own_file(f"agent {wanted.archive_sha256[:12]}", file), follow


def command_steps(wanted: Wanted) -> tuple[Step, Step]:
    """Return the steps of the command `litefleet-agent`, and of the client that applications import: for every user."""
    path = f"{_SHARED}/litefleet-agent.pyz"
    script = f'#!/bin/sh\nexec {wanted.python} -Es {path} "$@"\n'
    copy = install(path, File(path, wanted.archive), restarts=False)
    return (
        replace(copy, undo=f"{copy.undo} && {{ rmdir {_SHARED} 2>/dev/null || true; }}"),
        install(COMMAND, File(COMMAND, script.encode(), "0755"), restarts=False),
    )


def _settings(wanted: Wanted) -> tuple[Step, Step]:
    file = File(f"{wanted.root}/service.json", wanted.settings, "0600")
    put = own_file("service.json", file, wanted.keep_settings)
    due = Step("the service has read service.json", put.check, f"echo service.json >> {RESTART}")
    return due, put
