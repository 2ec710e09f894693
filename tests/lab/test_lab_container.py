"""The image of integrations/container: built by a real builder from a root file system of this machine's Debian, and run.

The builder keeps its images in the test's folder.  The server has a network of its own, so that its port is free.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

from tests.conftest import lacking
from tests.lab.init_systems import SYSTEMD, build

pytestmark = [pytest.mark.lab, pytest.mark.long]

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "integrations" / "container" / "Containerfile"
MODELS = "{cls: {nb: {x86_64: model.nb}, golden: {engine: paddlelite}}}"
# How this machine reaches its package index, for the one step that installs.
INDEX = tuple(path for path in ("/etc/ssl/certs", "/etc/pip.conf", "/etc/xdg/pip") if Path(path).exists())
_UP = """import fcntl, os, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Builder:
    """buildah without a daemon or a network of its own; its images are below `folder`."""

    folder: Path

    def words(self, *argv: object) -> list[str]:
        store = ("--root", self.folder / "images", "--runroot", self.folder / "run", "--storage-driver", "vfs")
        return ["buildah", *map(str, (*store, *argv))]

    def run(self, *argv: object) -> str:
        env = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(self.words(*argv), capture_output=True, text=True, env=env, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    if os.geteuid() or shutil.which("buildah") is None:
        lacking(
            "building an image needs root and buildah: apt-get install buildah; tests/packaging lints its Containerfile"
        )
    made = Builder(tmp_path_factory.mktemp("images"))
    yield made
    made.run("rm", "--all")


def test_the_image_is_built_healthy_and_serves(builder: Builder, tmp_path: Path) -> None:
    base = builder.run("from", "scratch")
    subprocess.run(["cp", "-a", f"{build(SYSTEMD)}/.", builder.run("mount", base)], check=True)
    builder.run("commit", "-q", "--rm", "--format", "docker", base, "localhost/debian")
    subprocess.run(
        [uv.find_uv_bin(), "build", "-q", "--wheel", "--no-create-gitignore", "-o", tmp_path / "dist", ROOT], check=True
    )
    index = [word for path in INDEX for word in ("-v", f"{path}:{path}:ro")]
    arguments = ("--build-arg", "BASE=localhost/debian", "-f", CONTAINERFILE, "-t", "localhost/litefleet")
    builder.run("build", "-q", "--format", "docker", *index, *arguments, tmp_path / "dist")

    container = builder.run("from", "--pull-never", "localhost/litefleet")
    about = json.loads(builder.run("inspect", container))["Docker"]["config"]
    assert (about["User"], about["Entrypoint"], about["Cmd"]) == (
        "10001",
        ["litefleet"],
        ["serve", "--host", "0.0.0.0"],
    )
    kind, *check = about["Healthcheck"]["Test"]
    assert kind == "CMD"
    builder.run("config", "--volume", "/fleet-", container)  # buildah alone would put an empty folder over ours
    project = tmp_path / "fleet"
    project.mkdir()
    (project / "litefleet.yaml").write_text(f"{{fleet: lab, inventory: fleet.yaml, models: {MODELS}}}")
    (project / "fleet.yaml").write_text("devices: {cam: {host: 192.0.2.7}}")
    (project / "model.nb").touch()
    for path in (project, *project.iterdir()):
        os.chown(path, 10001, 10001)
    within = ("run", "-v", f"{project}:/fleet", container, "--")
    token = builder.run(*within, "litefleet", "serve", "token", "ann", "--role", "operate").split()[-1]
    assert builder.run(*within, "sh", "-c", "id -u; command -v gcc pip || echo none") == "10001\nnone"

    server = builder.words(*within, *about["Entrypoint"], *about["Cmd"])
    env = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    with subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", _UP, *server], env=env, start_new_session=True
    ) as serving:
        try:
            there = ["nsenter", "-t", str(serving.pid), "-n"]
            asked = [*there, *builder.words(*within, *check)]
            end = time.monotonic() + 60
            while subprocess.run(asked, env=env, capture_output=True, check=False).returncode:
                assert serving.poll() is None, "it ended"
                assert time.monotonic() < end, "it never became healthy"
            page = "import sys, urllib.request as r; q = r.Request('http://127.0.0.1:8470/devices/cam', "
            page += (
                "headers={'Authorization': 'Bearer ' + sys.argv[1]}); print(r.urlopen(q, timeout=30).read().decode())"
            )
            said = subprocess.run(
                [*there, sys.executable, "-c", page, token], capture_output=True, text=True, check=True
            )
            assert ">cam<" in said.stdout
        finally:
            os.killpg(serving.pid, signal.SIGINT)
            serving.wait(60)
