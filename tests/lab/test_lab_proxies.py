"""The dashboard behind nginx and Caddy, with the configuration that docs/dashboard.md prints, word for word.

Server, proxy and browser are in a network of their own, in which port 443 is free; `/etc/ssl` is the test's own folder there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from litefleet_controller.rollout import DeviceEvent, Rollout
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.auth.users import Users
from litefleet_controller.state import FleetLock, State

from tests.conftest import lacking
from tests.controller.notify.receivers import make_certificate
from tests.controller.support.state_values import change, started
from tests.e2e.rollout_helpers import environment

pytestmark = pytest.mark.lab

PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"```(\w+)\n(.*?)```", PAGE.partition("### Behind a reverse proxy")[2].partition("\n## ")[0], re.DOTALL
)
(SERVER, NAMED), (CADDY,) = ([text for kind, text in BLOCKS if kind == of] for of in ("nginx", "text"))
PLAIN, TRUSTING = (text for kind, text in BLOCKS if kind == "sh")
MODELS = "{cls: {nb: {x86_64: model.nb}, golden: {engine: paddlelite}}}"
# Where people log in, in oauth2-proxy's place: whoever asks is ann.
LOGIN = """server {
    listen 127.0.0.1:4180;
    location / { add_header X-Auth-Request-User ann always; return 202; }
}
"""
_UP = """import fcntl, socket, struct
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
"""
# Asks 127.0.0.1:443 for each [path, headers] of argv as fleet.example, with TLS checked, and prints status and body;
# of a stream, each line as it comes.
_BROWSER = """import http.client, json, socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
for path, headers in json.loads(sys.argv[2]):
    asked = http.client.HTTPSConnection("fleet.example", context=context, timeout=60)
    asked.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", 443)), server_hostname="fleet.example")
    asked.request("GET", path, headers=headers)
    answer = asked.getresponse()
    if path.endswith("/events"):
        for line in answer:
            print(json.dumps(line.decode()), flush=True)
    print(json.dumps([answer.status, answer.read().decode()]), flush=True)
"""


@dataclass
class Site:
    """A network with a project in `folder`, whose server and proxy run in it."""

    folder: Path
    holder: subprocess.Popen[str]
    authority: Path
    token: str
    state: State
    lock: FleetLock
    rollout: Rollout
    running: list[subprocess.Popen[str]]

    def inside(self, *argv: object) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-n", f"--wd={self.folder}", *map(str, argv)]

    def run(self, *argv: object) -> None:
        with (self.folder / f"log-{len(self.running)}").open("w") as log:
            self.running.append(
                subprocess.Popen(self.inside(*argv), env=surroundings(self.folder), stdout=log, stderr=log, text=True)
            )

    def ask(self, *requests: tuple[str, dict[str, str]]) -> list[tuple[int, str]]:
        argv = self.inside(sys.executable, "-c", _BROWSER, self.authority, json.dumps(requests))
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise ConnectionError(done.stderr + self.logs())
        return [(status, body) for status, body in map(json.loads, done.stdout.splitlines())]

    def until_up(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                if self.ask(("/healthz", {}))[0][0] == 200:
                    return
            except ConnectionError:
                if time.monotonic() > end or any(one.poll() is not None for one in self.running):
                    raise
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("log-*")))


def surroundings(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**environment(), "PATH": path, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    missing = [name for name in ("nginx", "caddy", "unshare", "nsenter") if shutil.which(name) is None]
    if missing or os.geteuid():
        lacking(
            f"a network of its own needs root, and {' '.join(missing)}: apt-get install $(cat tests/lab/packages.txt)"
        )
    (tmp_path / "ssl").mkdir()
    certificate = make_certificate(tmp_path / "ssl", "fleet.example")
    shutil.copy(certificate.file, tmp_path / "ssl" / "fleet.pem")
    shutil.copy(certificate.key, tmp_path / "ssl" / "fleet.key")
    (tmp_path / "litefleet.yaml").write_text(f"{{fleet: lab, inventory: fleet.yaml, store: store, models: {MODELS}}}")
    (tmp_path / "fleet.yaml").write_text("devices: {d0: {host: 192.0.2.7}}")
    (tmp_path / "model.nb").touch()
    script = f'mount --bind "$1" /etc/ssl && {shlex.quote(sys.executable)} -c "$2" && echo up && exec sleep infinity'
    argv = ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", script, "sh", str(tmp_path / "ssl"), _UP]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    state = State.open(tmp_path / "store" / "state.db")
    token = Users(tmp_path / "store" / "serve-users.json").add("alice", Role.VIEW)
    lock, rollout, _ = started(state)
    made = Site(tmp_path, holder, tmp_path / "ssl" / "fleet.pem", token, state, lock, rollout, [])
    try:
        yield made
    finally:
        for process in [*made.running, holder]:
            process.terminate()
            process.wait(30)
        state.close()


def nginx(site: Site, *servers: str) -> None:
    """Run nginx with what an nginx.conf has around the servers that the page prints."""
    around = (
        f"pid {site.folder}/nginx.pid; error_log stderr; user root; daemon off; events {{}} http {{ access_log off;"
    )
    path = site.folder / "nginx.conf"
    path.write_text("\n".join((around, *servers, "}")))
    site.run("nginx", "-e", "stderr", "-c", path)


def check_events(site: Site) -> None:
    """Check that what the rollout does is seen while the stream is open."""
    key = {"Authorization": f"Bearer {site.token}"}
    path = f"/api/v1/rollouts/{site.rollout.id}/events"
    argv = site.inside(sys.executable, "-c", _BROWSER, site.authority, json.dumps([(path, key)]))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as browser:
        assert browser.stdout is not None
        events = (json.loads(line) for line in browser.stdout)
        first = next(line for line in events if str(line).startswith("data: "))
        (row, *_) = site.state.rows(site.rollout.id)
        site.state.move(site.lock, site.rollout.id, [change(row, DeviceEvent.BEGIN, attempts=1)])
        second = next(line for line in events if str(line).startswith("data: "))
        assert first != second
        browser.kill()


def test_nginx_as_the_page_prints_it(site: Site) -> None:
    site.run(*shlex.split(PLAIN))
    nginx(site, SERVER)
    site.until_up()
    key, forged = (
        {"Authorization": f"Bearer {site.token}"},
        {"X-Forwarded-User": "alice", "X-Forwarded-For": "127.0.0.1"},
    )
    nobody, alice, forger = site.ask(("/", {}), ("/", key), ("/", forged))
    assert ("alice" in alice[1], alice[0]) == (True, 200)
    assert [nobody[0], forger[0]] == [401, 401]
    check_events(site)


def test_nginx_names_the_user_and_a_client_cannot(site: Site) -> None:
    site.run(*shlex.split(TRUSTING))
    asks = "location = /oauth2/auth { internal; proxy_pass http://127.0.0.1:4180; }"
    server = SERVER.replace("    location / {\n", f"    {asks}\n    location / {{\n{NAMED}")
    assert server != SERVER
    nginx(site, server, LOGIN)
    site.until_up()
    forged = {"X-Forwarded-User": "boss", "x_forwarded_user": "boss"}
    for headers in ({}, forged):
        ((status, page),) = site.ask(("/", headers))
        assert (status, re.findall(r'class="who">(\w+)', page)) == (200, ["ann"])
    # Beside the proxy, from another address than the trusted one, the header counts for nothing.
    direct = "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8470, source_address=('127.0.0.2', 0)); "
    direct += "c.request('GET', '/', headers={'X-Forwarded-User': 'boss'}); print(c.getresponse().status)"
    said = subprocess.run(site.inside(sys.executable, "-c", direct), capture_output=True, text=True, check=True)
    assert said.stdout == "401\n"


def test_caddy_as_the_page_prints_it(site: Site) -> None:
    """Only its certificate comes from its own authority: there is no other one in this network."""
    site.run(*shlex.split(PLAIN))
    (site.folder / "Caddyfile").write_text(f"{{\n    local_certs\n    skip_install_trust\n    admin off\n}}\n{CADDY}")
    site.run("caddy", "run", "--config", site.folder / "Caddyfile")
    site.authority = site.folder / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    site.until_up()
    key, forged = {"Authorization": f"Bearer {site.token}"}, {"X-Forwarded-User": "alice"}
    assert [status for status, _ in site.ask(("/", key), ("/", forged))] == [200, 401]
    check_events(site)
