"""The dashboard as docs/dashboard.md says to run it: its unit under a booted systemd, and behind nginx and Caddy.

The machine with systemd sees this checkout and this Python, read-only, at places that the unit may read.
"""

from __future__ import annotations

import re
import shlex
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.lab.arm_devices import free_port
from tests.lab.containers import Machine, booted, wait_until_up, why_not_booted

pytestmark = pytest.mark.lab

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "dashboard.md").read_text(encoding="utf-8")
CONFIG = """{fleet: hall, inventory: fleet.yaml, store: /var/lib/litefleet-fleet/store,
models: {cls: {nb: {x86_64: model.nb}, golden: {engine: paddlelite}}}}"""
_PATHS = "/opt/checkout:/opt/checkout/agent:/opt/checkout/inventory:/opt/checkout/controller:/opt/packages"
_COMPILED = "/var/cache/litefleet-fleet/compiled"
# What docs/service.md has done before: the program, the user and the folders of the project.
PREPARE = f"""set -e
echo /opt/cpython/lib > /etc/ld.so.conf.d/cpython.conf
ldconfig
cat > /usr/local/bin/litefleet <<'END'
#!/bin/sh
export PYTHONPATH={_PATHS} PYTHONPYCACHEPREFIX={_COMPILED}
exec /opt/cpython/bin/python3 -m litefleet "$@"
END
chmod 755 /usr/local/bin/litefleet
useradd --system --user-group --home-dir /var/lib/litefleet-fleet --shell /usr/sbin/nologin litefleet
install -d -o litefleet -g litefleet -m 0700 /var/lib/litefleet-fleet /var/cache/litefleet-fleet
install -d -g litefleet -m 0750 /etc/litefleet
cd /etc/litefleet
echo {shlex.quote(CONFIG)} > litefleet.yaml
echo 'devices: {{cam: {{host: 192.0.2.7}}}}' > fleet.yaml
touch model.nb
chgrp litefleet *
"""
SERVICE = "litefleet-serve.service"
_MAKE = """
from litefleet_controller.state import State
from tests.controller.support.state_values import started
print(started(State.open("/var/lib/litefleet-fleet/store/state.db"), fleet="hall")[1].id)
"""
ROLLOUT = f"env PYTHONPATH={_PATHS} PYTHONPYCACHEPREFIX={_COMPILED} /opt/cpython/bin/python3 -c {shlex.quote(_MAKE)}"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if reason := why_not_booted():
        lacking(reason)
    binds = {
        CHECKOUT: "/opt/checkout",
        Path(sys.base_prefix): "/opt/cpython",
        Path(sysconfig.get_path("purelib")): "/opt/packages",
    }
    with booted(binds=binds) as made:
        assert wait_until_up(made) == "running"
        yield made


def shell(machine: Machine, command: str) -> str:
    done = machine.ssh(f"cd /opt/checkout && {command}")
    assert done.returncode == 0, (
        command,
        done.stdout,
        done.stderr,
        machine.ssh(f"journalctl -n 40 -u {SERVICE}").stdout,
    )
    return done.stdout


def show(machine: Machine, name: str) -> str:
    return shell(machine, f"systemctl show -p {name} --value {SERVICE}").strip()


def status(url: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_unit_serves_confined_restarts_and_stops(machine: Machine) -> None:
    shell(machine, PREPARE)
    part = PAGE.partition("## As a service\n")[2]
    block, settings = part.split("```")[1].removeprefix("sh\n"), re.search(r'`(Environment="[^"]*")`', part)
    assert settings is not None
    port = free_port()
    own = settings[1].replace("--port=8470", f"--port={port}")
    assert own != settings[1]
    folder = f"/etc/systemd/system/{SERVICE}.d"
    text = f"[Service]\n{own}\nRestartSec=100ms\n"
    shell(machine, f"mkdir -p {folder} && printf %s {shlex.quote(text)} > {folder}/override.conf")
    (token,) = re.findall(r"^\S{40,}$", shell(machine, f"set -e; {block}"), re.MULTILINE)

    # `systemctl enable --now` has returned, so it serves.
    url = f"http://127.0.0.1:{port}"
    assert [status(f"{url}/healthz"), status(f"{url}/api/v1/devices"), status(f"{url}/", token)] == [200, 401, 200]
    assert (show(machine, "ActiveState"), show(machine, "User")) == ("active", "litefleet")
    pid = show(machine, "MainPID")
    process = dict(re.findall(r"^(\w+):\s+(\S+)", shell(machine, f"cat /proc/{pid}/status"), re.MULTILINE))
    assert (process["CapEff"], process["CapBnd"], process["NoNewPrivs"], process["Seccomp"]) == (
        "0" * 16,
        "0" * 16,
        "1",
        "2",
    )
    inside = f"nsenter -t {pid} -m sh -c"
    for path in ("/etc/litefleet/x", "/usr/x", "/opt/x"):
        assert machine.ssh(f"{inside} 'touch {path}'").returncode != 0, path
    assert shell(machine, f"{inside} 'touch /var/lib/litefleet-fleet/x; ls -A /root /home'").split() == [
        "/home:",
        "/root:",
    ]
    score = re.search(
        r"exposure level for .*: ([\d.]+)", shell(machine, f"systemd-analyze security --no-pager {SERVICE}")
    )
    assert score is not None
    print(f"systemd-analyze security {SERVICE}: {score[1]}")
    assert float(score[1]) <= 2.0

    shell(machine, f"kill -KILL {pid}")
    until = time.monotonic() + 60
    while (now := show(machine, "MainPID")) in (pid, "0") or show(machine, "ActiveState") != "active":
        assert time.monotonic() < until, now
        time.sleep(0.1)
    assert status(f"{url}/", token) == 200
    assert show(machine, "NRestarts") == "1"

    # A browser that follows a rollout does not keep it from stopping.
    rollout = shell(machine, f"sudo -u litefleet {ROLLOUT}").strip()
    follow = urllib.request.Request(f"{url}/api/v1/rollouts/{rollout}/events")
    follow.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(follow, timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        shell(machine, f"systemctl stop {SERVICE}")
        stream.read()
    assert [show(machine, name) for name in ("ActiveState", "Result", "ExecMainStatus")] == ["inactive", "success", "0"]
