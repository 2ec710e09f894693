"""The steps that make the agent a service of the device: systemd's units, or an init script where there is no systemd.  Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import PurePosixPath

from .account import Wanted
from .steps import HOME, PYTHON, RESTART, USER, File, Step, install


class Init(Enum):
    """What starts services on a device."""

    SYSTEMD = "systemd"
    OPENRC = "openrc"
    PROCD = "procd"
    SYSV = "sysv"
    BUSYBOX = "busybox"


# Says one word of Init, or nothing.
DETECT = (
    "if [ -d /run/systemd/system ]; then echo systemd; "
    "elif [ -x /sbin/procd ]; then echo procd; "
    "elif command -v openrc-run >/dev/null; then echo openrc; "
    "elif [ -f /etc/init.d/rcS ] && [ ! -d /etc/rc2.d ]; then echo busybox; "
    "elif [ -d /etc/init.d ]; then echo sysv; fi"
)

_FOLDER = "/etc/systemd/system"
_SERVICE, _SOCKET, _TIMER = "litefleet-agent.service", "litefleet-agent.socket", "litefleet-verify.timer"
_RECOVER = "litefleet-recover.service"
UNITS = (_RECOVER, _SOCKET, _SERVICE, "litefleet-verify.service", _TIMER)
_START_S = 330.0  # TimeoutStartSec of the service, and a little
_HOMES = ("/home/", "/root/", "/run/user/")  # ProtectHome= in the units hides them from the service
_SEEN = (
    "import os, sys; used = map(os.path.realpath, (sys.executable, sys.prefix, sys.base_prefix)); "
    f"hidden = [path for path in used if path.startswith({_HOMES})]; "
    "sys.exit('it lies in ' + hidden[0] + ', and the service sees no home folders' if hidden else 0)"
)


@dataclass(frozen=True)
class _Script:
    """Where an init script goes and which commands rule it."""

    path: str
    enabled: str
    enable: str
    disable: str
    running: str


_NAME = "litefleet-agent"
_PATH = f"/etc/init.d/{_NAME}"
_SCRIPTS = {
    Init.OPENRC: _Script(
        _PATH,
        f"rc-update show default | grep -qw {_NAME}",
        f"rc-update add {_NAME} default",
        f"rc-update del {_NAME} default",
        f"{_PATH} status >/dev/null 2>&1",
    ),
    Init.PROCD: _Script(_PATH, f"{_PATH} enabled", f"{_PATH} enable", f"{_PATH} disable", f"{_PATH} running"),
    Init.SYSV: _Script(
        _PATH,
        f"ls /etc/rc2.d/S*{_NAME} >/dev/null 2>&1",
        f"update-rc.d {_NAME} defaults",
        f"update-rc.d -f {_NAME} remove",
        f"{_PATH} status >/dev/null",
    ),
    Init.BUSYBOX: _Script(
        f"/etc/init.d/S90{_NAME}",  # the name alone has it started
        "true",
        "true",
        "true",
        f"/etc/init.d/S90{_NAME} status >/dev/null",
    ),
}


def why_unfit(init: Init, root: str, python: str = PYTHON) -> str:
    """Return why the agent cannot live in `root` on such a device or run in `python`, "" when it can."""
    if not re.fullmatch(r"(/[A-Za-z0-9._+/-]+|[A-Za-z0-9._+-]+)", python):
        return (
            f"`python: {python}` cannot be used for a service: "
            "a name, or an absolute path of letters, digits and . _ + / - is wanted"
        )
    if init is Init.SYSTEMD and python.startswith(_HOMES):
        return f"`python: {python}` lies in a home folder, which the service does not see: name one in /usr or /opt"
    if init is Init.SYSTEMD and root != HOME:
        return (
            f"the units are written for {HOME}, the inventory says `root: {root}`; leave `root:` out, or write {HOME}"
        )
    if not re.fullmatch(r"/[A-Za-z0-9._/-]+", root):
        return f"`root: {root}` cannot be used with an init script: an absolute path of letters, digits and . _ / - is wanted"
    if len(PurePosixPath(root).parts) < 3 or ".." in PurePosixPath(root).parts:
        return f"`root: {root}` would make the whole folder litefleet's own; name one below it, such as /opt/litefleet"
    if init is Init.PROCD and PurePosixPath(root).is_relative_to("/var"):
        return (
            "OpenWrt keeps /var in memory, so the models would be gone after a restart; "
            "name a folder on its storage as `root:` in the inventory, such as /opt/litefleet"
        )
    return ""


def script_of(init: Init) -> str:
    """Return the name of the init script's file among those of `systemd/init/`."""
    return "sysv" if init is Init.BUSYBOX else init.value


def device_steps(init: Init, wanted: Wanted, files: Mapping[str, bytes]) -> tuple[Step, ...]:
    """Return the steps of the service; `files` holds the units by name, or the init script as `script_of` names it."""
    run = "/var/run/litefleet" if init is Init.PROCD else "/run/litefleet"  # OpenWrt need not have the latter
    answers = _answers(wanted, f"{run}/agent.sock")
    if init is Init.SYSTEMD:
        return (*_systemd(files, wanted), answers)
    return (*_script(_SCRIPTS[init], files[script_of(init)], wanted, run), answers)


# --- systemd


def _systemd(files: Mapping[str, bytes], wanted: Wanted) -> tuple[Step, ...]:
    texts = {name: files[name].replace(b"/env python3 ", f"/env {wanted.python} ".encode()) for name in UNITS}
    first, *others = (install(name, File(f"{_FOLDER}/{name}", text)) for name, text in texts.items())
    return (
        _startable(wanted.python, _SEEN),
        replace(first, undo=f"{first.undo} && rm -rf /run/litefleet && systemctl daemon-reload"),  # undone last
        *others,
        _reload(),
        # Callers keep waiting on the socket, unless it is itself another one: then the steps below start both.
        _restart(
            f"if grep -q {_SOCKET} {RESTART}; then systemctl stop {_SERVICE} {_SOCKET}; "
            f"else systemctl try-restart {_SERVICE}; fi"
        ),
        _enable(_RECOVER, "enabled at the start of the device", now=False),
        _enable(_SOCKET, "listens"),
        _enable(_SERVICE, "runs"),
        _enable(_TIMER, "waits for its time"),
    )


def _reload() -> Step:
    names = shlex.join(UNITS)
    stale = f"systemctl show -p NeedDaemonReload -p LoadState {names} | grep -q -e NeedDaemonReload=yes -e not-found"
    return Step("systemd has read the units", f"! {stale}", "systemctl daemon-reload")


def _enable(unit: str, action: str, now: bool = True) -> Step:
    check = f"systemctl is-enabled -q {unit}" + (f" && systemctl is-active -q {unit}" if now else "")
    return Step(
        f"{unit} {action}",
        check,
        f"systemctl enable {'--now ' if now else ''}{unit}",
        f"if [ -e {_FOLDER}/{unit} ]; then systemctl disable --now {unit}; systemctl reset-failed {unit} 2>/dev/null; fi; true",
        hint=f"`systemctl status {unit}` and `journalctl -u {unit}` on the device say why.",
        time_limit_s=_START_S,
    )


# --- init scripts


def _script(script: _Script, text: bytes, wanted: Wanted, run: str) -> tuple[Step, ...]:
    for name, value in (("root", wanted.root), ("python", wanted.python)):
        text = text.replace(f"{name}=@{name.upper()}@".encode(), f"{name}={value}".encode())
    path = script.path
    stop = f"if [ -x {path} ]; then {path} stop; {script.disable}; fi; true"
    file = install(path, File(path, text, "0755"))
    return (
        _startable(wanted.python, "pass"),
        replace(file, undo=f"{file.undo} && rm -rf {run} {run}-agent"),
        _restart(f"if {script.running}; then {path} restart; fi"),
        Step(f"{path} is started with the device", script.enabled, script.enable),
        Step(f"{path} runs", script.running, f"{path} start", stop, time_limit_s=_START_S),
    )


# --- both


def _startable(python: str, code: str) -> Step:
    """Check that the user may start it too: an interpreter in another user's home folder is often closed to others."""
    return Step(
        f"{USER} can start {python}",
        f"{python} -Es -c {shlex.quote(code)}",
        user=USER,
        hint=f"Name an interpreter in /usr or /opt that {USER} may run as `python:` in the inventory.",
    )


def _restart(command: str) -> Step:
    return Step(
        "the service runs what is installed",
        f"[ ! -e {RESTART} ]",
        f"{command} && rm -f {RESTART}",
        f"rm -f {RESTART}",
        hint="`journalctl -u litefleet-agent` (or the device's log) says why it would not start again.",
        time_limit_s=_START_S,
    )


def _answers(wanted: Wanted, socket: str) -> Step:
    """Check that the service answers `status` on its socket; a running service answers it in any state."""
    agent = shlex.quote(f"{wanted.root}/agent/litefleet-agent.pyz")
    ask = f"{wanted.python} -Es {agent} status --socket {socket}"
    wait = f"n=0; until {ask} >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 10 ] || exec {ask} >/dev/null; sleep 1; done"
    return Step(f"the service answers on {socket}", wait, user=USER, hint="Its log says why it does not.")
