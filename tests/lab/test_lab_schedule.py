"""`litefleet schedule` on a machine with a running systemd: its timers are listed, one of them fires, and they are removed.

The machine sees this checkout and its Python, read-only, at the same paths.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.lab.containers import Machine, booted, wait_until_up, why_not_booted
from tests.lab.init_systems import ADMIN

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).parents[2]
CONFIG = "fleet: hall.2\nmodels: {cls: {nb: {x86_64: model.nb}, golden: {engine: paddlelite}}}\n"
# The installed timer fires within a second, not at the next minute that five divides.
SOON = "[Timer]\nOnCalendar=\nRandomizedDelaySec=0\nAccuracySec=100ms\nOnActiveSec=500ms\n"
UNITS = ("litefleet-reconcile-hall.2.timer", "litefleet-verify-hall.2.timer")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if reason := why_not_booted():
        lacking(reason)
    places = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)}
    seen = {str(place): place for place in places if not any(other in place.parents for other in places)}
    with booted(binds={place: name for name, place in seen.items()}) as made:
        assert wait_until_up(made) == "running"
        made.ssh("chmod 755 /root")  # the other user starts a Python below it, where this machine has it there
        yield made


def asked(machine: Machine, user: str, command: str) -> str:
    """Return what a command prints there; a login has its user's systemd by $XDG_RUNTIME_DIR."""
    done = machine.ssh(f"export LITEFLEET_OPERATOR=Ann; cd && {command}", user=user)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("user", ["root", ADMIN])
def test_timers_are_listed_fire_and_are_removed(machine: Machine, user: str) -> None:
    systemctl = "systemctl" if user == "root" else "systemctl --user"
    folder = "/etc/systemd/system" if user == "root" else ".config/systemd/user"
    litefleet = f"{shlex.quote(sys.executable)} -m litefleet"
    key, device = shlex.quote(machine.key_path.read_text()), f"127.0.0.1, port: {machine.port}, key: key"
    fleet = f"devices: {{me: {{host: {device}, host_key: {machine.host_public_key}}}}}"
    files = {"litefleet.yaml": shlex.quote(CONFIG), "key": key, "fleet.yaml": shlex.quote(fleet), "model.nb": "''"}
    put = "; ".join(f"echo {text} > {name}" for name, text in files.items())
    install = f"umask 077; mkdir -p fleet && cd fleet && {put}; {litefleet} schedule --every 5"
    said = asked(machine, user, f"{install} && {systemctl} list-timers --all --no-pager")
    assert all(f"{folder}/{unit}" in said and said.count(unit) > 1 for unit in UNITS), said

    drop, service = f"{folder}/{UNITS[0]}.d", UNITS[0].replace(".timer", ".service")
    quick = f"mkdir -p {drop} && printf %s {shlex.quote(SOON)} > {drop}/soon.conf && {systemctl} daemon-reload"
    state = asked(machine, user, f"{quick} && {systemctl} restart {UNITS[0]}")
    until = time.monotonic() + 60
    while "ExecMainExitTimestamp=" not in state or "ExecMainExitTimestamp=\n" in state:
        assert time.monotonic() < until, asked(machine, user, f"{systemctl} status {service} || :")
        time.sleep(0.2)
        state = asked(machine, user, f"{systemctl} show -p ExecMainExitTimestamp -p ExecMainStatus {service}")
    assert "ExecMainStatus=0" in state, asked(
        machine, user, f"journalctl -n 30 --no-pager; {systemctl} status {service} || :"
    )

    program = f"cd fleet && {litefleet} schedule"
    assert UNITS[1] in asked(machine, user, f"{program} --show")
    asked(machine, user, f"rm -r {drop}; {program} --remove")
    assert "hall.2" not in asked(machine, user, f"{systemctl} list-timers --all --no-pager; ls {folder}")
