"""Pythons brought to roots of other machines and other libcs: busybox alone on ARM under qemu-user, i686, musl, a libc of old."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from litefleet_agent.findings.finding import Severity, Verdict
from litefleet_agent.formats.elf import read_elf
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.project import Options
from litefleet_controller.project.run_fleet import run_fleet

from tests.conftest import lacking
from tests.e2e.cutting_proxy import CuttingProxy
from tests.lab.arm_devices import why_not
from tests.lab.bare_root import APPLETS, BareDevice, bare_device, busybox_without_tar
from tests.lab.rootfs import AARCH64, ARMV7, Userland, file_of

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("bare_devices")]
CONFIG = "inventory: fleet.yaml\nmodels: {none: {nb: {x86_64: none.nb}, golden: {files: [a.npz, b.npz]}}}\n"
_BINFMT = """mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || [ -e /proc/sys/fs/binfmt_misc/register ]
[ -e /proc/sys/fs/binfmt_misc/{rule} ] || cat /usr/lib/binfmt.d/{rule}.conf >/proc/sys/fs/binfmt_misc/register"""


@dataclass
class Prober:
    """A project with one device."""

    folder: Path
    python: str = ""  # `python:` of litefleet.yaml

    def probe(self, device: BareDevice, **more: object) -> DeviceOutcome:
        """Return what `litefleet probe` makes of the device; `more` overrides its inventory entry."""
        self.write(device, **more)
        options = Options(self.folder / "litefleet.yaml", None, "", (), False)
        return asyncio.run(run_fleet("probe", options, lambda total: QuietProgress())).outcomes[0]

    def write(self, device: BareDevice, **more: object) -> None:
        """Write the project's files."""
        (self.folder / "litefleet.yaml").write_text(CONFIG + self.python)
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump({"devices": {"bare": device.inventory_entry(**more)}}))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run litefleet's command line."""
        argv = [sys.executable, "-m", "litefleet", *words]
        return subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def prober(tmp_path: Path) -> Prober:
    (tmp_path / "project").mkdir()
    return Prober(tmp_path / "project")


def check(outcome: DeviceOutcome, machine: str, own_libc: str) -> None:
    assert outcome.verdict is Verdict.VERIFIED, outcome.findings
    assert (outcome.facts["arch"], outcome.facts["brought"]["own_libc"]) == (machine, own_libc)
    assert outcome.facts["libc"]["kind"] == "glibc"
    assert {"libstdc++.so.6", "libgomp.so.1"} <= set(outcome.facts["libraries"])


@pytest.mark.parametrize(
    "userland", [AARCH64, pytest.param(ARMV7, marks=pytest.mark.long)], ids=lambda userland: userland.machine
)
def test_an_arm_device_of_busybox_alone(tmp_path: Path, prober: Prober, userland: Userland) -> None:
    if reason := why_not():
        lacking(reason)
    busybox = file_of("busybox-static", userland.debian, "bin/busybox", tmp_path / "fetched")
    boot = _BINFMT.format(rule=userland.binfmt)
    variables = f"QEMU_CPU={userland.cpu}"
    with bare_device(tmp_path, busybox=busybox, boot=boot, variables=variables) as device:
        first = prober.probe(device)
        check(first, userland.machine, "none")
        assert 4_000_000 < first.sent_bytes < 10_000_000
        again = prober.probe(device)
        check(again, userland.machine, "none")
        assert again.sent_bytes < 10_000


@pytest.mark.long
def test_a_32_bit_machine(tmp_path: Path, prober: Prober) -> None:
    busybox = file_of("busybox-static", "i386", "bin/busybox", tmp_path / "fetched")
    with bare_device(tmp_path, busybox=busybox, personality="i686") as device:
        check(prober.probe(device), "i686", "none")


@pytest.mark.long
def test_a_musl_root_and_one_whose_own_libc_is_of_no_use(tmp_path: Path, prober: Prober) -> None:
    loader = file_of("musl", "amd64", "libc.so", tmp_path / "fetched")
    with bare_device(tmp_path) as device:
        (device.root / "lib").mkdir()
        loader.rename(device.root / "lib/ld-musl-x86_64.so.1")
        check(prober.probe(device), "x86_64", "musl")
        # a glibc that no program of today could use is passed over: the brought loader looks in its own folder first
        (device.root / "lib/x86_64-linux-gnu").mkdir()
        for name in ("ld-2.28.so", "libc.so.6", "libm.so.6", "libstdc++.so.6"):
            (device.root / "lib/x86_64-linux-gnu" / name).write_bytes(b"\x7fELF of another time")
        check(prober.probe(device), "x86_64", "glibc")


def install_only(archive: Path) -> Path:
    """Pack this test's own CPython as python-build-standalone lays out its install_only archives; it stands in for one.

    Its libraries beside libpython are the system's, whereas those builds have them inside, and it needs a newer glibc.
    """
    version, base = f"{sys.version_info[0]}.{sys.version_info[1]}", Path(sys.base_prefix)
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:

        def add(path: Path, name: str) -> None:
            data = path.read_bytes()
            home = str(base / "lib").encode()  # its path for libpython; theirs is relative
            data = data.replace(home + b"\0", b"$ORIGIN/../lib".ljust(len(home), b"\0") + b"\0")
            info = tarfile.TarInfo(f"python/{name}")
            info.size, info.mode = len(data), 0o755
            packed.addfile(info, io.BytesIO(data))

        add((base / f"bin/python{version}").resolve(), f"bin/python{version}")
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
        packed.addfile(link)
        for library in base.glob(f"lib/libpython{version}.so.*"):
            add(library, f"lib/{library.name}")
        packed.add(base / f"lib/python{version}", f"python/lib/python{version}", filter=lambda i: _stdlib(i, version))
    return archive


def _stdlib(info: tarfile.TarInfo, version: str) -> tarfile.TarInfo | None:
    left_out = re.search(rf"python{version}/(site-packages|test|config-[^/]*)$|__pycache__$", info.name)
    return None if left_out else info


def lay_glibc(root: Path) -> None:
    """Give a root this machine's glibc, and what the test's own CPython needs of its libraries."""
    names = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libutil.so.1"}
    for module in ("_ctypes", "zlib", "_hashlib"):
        path = importlib.util.find_spec(module).origin  # type: ignore[union-attr]
        names |= set(read_elf(path).needed) if path and path.endswith(".so") else set()
    (root / "lib64").mkdir()
    (root / "lib/x86_64-linux-gnu").mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib64")
    for name in names:
        if not name.startswith(("ld-", "libpython")):
            shutil.copy(f"/lib/x86_64-linux-gnu/{name}", root / "lib/x86_64-linux-gnu")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_build_of_ones_own_is_started_by_the_devices_libc_or_not_sent(tmp_path: Path, prober: Prober) -> None:
    archive = install_only(tmp_path / "cpython-install_only.tar.gz")
    prober.python = f"python: {{own: {{x86_64: {archive}}}}}\n"
    with bare_device(tmp_path) as device:
        refused = prober.probe(device)
        (found,) = refused.findings
        assert found.code == "LF326"
        assert found.observed.endswith(
            f"of {archive.name} is started by the device's own glibc; this device has none: nothing was sent"
        )
        assert refused.sent_bytes < 10_000
        lay_glibc(device.root)
        outcome = prober.probe(device)
        assert outcome.verdict is Verdict.VERIFIED, outcome.findings
        assert outcome.facts["brought"]["own_libc"] == ""  # the one that it runs with is the device's own
        assert outcome.facts["libc"]["version"] == os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]
        assert outcome.facts["python"]["version"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
        assert prober.probe(device).sent_bytes < 10_000


def test_a_root_without_an_init_is_told_that_no_service_can_start(tmp_path: Path, prober: Prober) -> None:
    with bare_device(tmp_path) as device:
        prober.write(device)
        done = prober.command("provision")
        assert done.returncode == 1, done.stdout
        assert "nothing that starts services was found (known are" in done.stdout
        assert "start the agent yourself" in done.stdout
        assert device.sh("ls -A /usr/local 2>/dev/null; ls -A /var/lib") == ""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[BareDevice]:
    with bare_device(tmp_path) as device:
        yield device


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_line_cut_at_any_byte_leaves_nothing_and_the_next_run_succeeds(
    slow: BareDevice, prober: Prober, way: str
) -> None:
    pythons = "/var/lib/litefleet/python"
    rng = random.Random(f"cuts of a Python, {way}")

    async def through(cut: int | None) -> tuple[DeviceOutcome, int]:
        async with CuttingProxy(slow.port, cut, counts=way) as proxy:
            return await asyncio.to_thread(prober.probe, slow, port=proxy.port), proxy.passed

    first, whole = asyncio.run(through(None))
    check(first, "x86_64", "none")
    ends = []
    for _ in range(10):
        slow.sh("rm -rf /var/lib/litefleet")
        cut = rng.randrange(1, whole)
        outcome, _ = asyncio.run(through(cut))
        ends.append(outcome.verdict)
        if outcome.verdict is not Verdict.VERIFIED:  # the last bytes from a device close the connection
            assert (outcome.verdict, outcome.findings[0].severity) == (Verdict.UNREACHABLE, Severity.ERROR), cut
            assert outcome.sentence, cut
        until = time.monotonic() + 60  # the script ends by itself, once its sshd has noticed
        while any(name.startswith(".new-") for name in slow.sh(f"ls -A {pythons}").split()):
            assert time.monotonic() < until, slow.sh(f"ls -AlR {pythons} | head -n 20; ps")
            time.sleep(0.2)
        assert prober.probe(slow).verdict is Verdict.VERIFIED, cut
        assert len(slow.sh(f"ls -A {pythons}").split()) == 2, cut  # KEY and current
    assert ends.count(Verdict.UNREACHABLE) >= (10 if way == "up" else 5), ends


@pytest.mark.long
def test_a_disk_that_others_fill_while_the_python_travels(tmp_path: Path, prober: Prober) -> None:
    """There is room when the script looks, and none any more when the archive begins to arrive."""
    with bare_device(tmp_path, mounts=["-t tmpfs -o mode=755,size=60m tmpfs var/lib"]) as device:
        wait = "until [ -e /var/lib/litefleet/python/.new-*/archive ]; do :; done"
        with ThreadPoolExecutor(1) as thread:
            filler = thread.submit(device.sh, f"{wait}; dd if=/dev/zero of=/var/lib/others bs=1M", 120)
            outcome = prober.probe(device)
            assert "No space left" in filler.result()
        (found,) = outcome.findings
        assert (found.code, "No space left on device" in found.observed) == ("LF312", True), found
        assert "the Python could not be" in found.observed
        assert device.sh("ls -A /var/lib/litefleet/python") == ""
        device.sh("rm /var/lib/others")
        check(prober.probe(device), "x86_64", "none")


def test_a_device_whose_busybox_has_no_tar(tmp_path: Path, prober: Prober) -> None:
    applets = " ".join(name for name in APPLETS.split() if name != "tar")
    with bare_device(tmp_path, busybox=busybox_without_tar(tmp_path / "bin"), applets=applets) as device:
        assert "not found" in device.sh("tar --help")
        first = prober.probe(device)
        check(first, "x86_64", "none")
        assert 4_000_000 < first.sent_bytes < 10_000_000  # as xz
        again = prober.probe(device)
        check(again, "x86_64", "none")
        assert again.sent_bytes < 10_000


@pytest.mark.long
@pytest.mark.parametrize(
    ("mount", "code", "words"),
    [
        ("-t tmpfs -o mode=755,noexec tmpfs var/lib", "LF326", "mounted noexec"),
        ("-t tmpfs -o mode=755,size=20m tmpfs var/lib", "LF312", "kB free, and the Python needs"),
    ],
)
def test_a_file_system_that_cannot_hold_it_is_a_sentence(
    tmp_path: Path, prober: Prober, mount: str, code: str, words: str
) -> None:
    with bare_device(tmp_path, mounts=[mount]) as device:
        outcome = prober.probe(device)
        assert (outcome.findings[0].code, words in outcome.findings[0].observed) == (code, True), outcome.findings
        assert outcome.sent_bytes < 10_000
        assert prober.probe(device, root="/opt/litefleet").verdict is Verdict.VERIFIED


@pytest.mark.long
def test_a_read_only_system_is_served_from_a_folder_that_can_be_written(tmp_path: Path, prober: Prober) -> None:
    mounts = ["--bind var var && mount -o remount,ro,bind var", "--bind root root && mount -o remount,ro,bind root"]
    assert os.geteuid() == 0
    with bare_device(tmp_path, mounts=mounts) as device:
        outcome = prober.probe(device)
        assert outcome.findings[0].code == "LF326"
        assert "Read-only file system" in outcome.findings[0].observed
        # /dev/shm is a tmpfs on every Linux
        assert prober.probe(device, root=f"/dev/shm/litefleet-{os.getpid()}").verdict is Verdict.VERIFIED
        device.sh(f"rm -rf /dev/shm/litefleet-{os.getpid()}")


@pytest.mark.long
def test_a_service_is_provisioned_in_a_python_for_every_user(tmp_path: Path, prober: Prober) -> None:
    with bare_device(tmp_path) as device:
        for folder in ("etc/init.d", "run", "usr/local"):
            (device.root / folder).mkdir(parents=True)
        (device.root / "etc/init.d/rcS").write_text("#!/bin/sh\n")
        for name, line in (  # Debian's busybox has no adduser
            ("passwd", "litefleet:x:500:500::/var/lib/litefleet:/bin/sh\n"),
            ("group", "litefleet:x:500:\n"),
            ("shadow", "litefleet:*:19000:0:99999:7:::\n"),
        ):
            with (device.root / "etc" / name).open("a") as stream:
                stream.write(line)
        prober.write(device)
        first, second = (prober.command("provision") for _ in range(2))
        assert first.returncode == 0, first.stdout
        shared = f"/usr/local/lib/litefleet/python/{device.sh('cat /usr/local/lib/litefleet/python/current').strip()}"
        assert f"python={shared}/bin/python3" in device.sh("cat /etc/init.d/S90litefleet-agent")
        running = device.sh("ps")
        assert f"{shared}/bin/python3" in running, running
        assert second.returncode == 0, second.stdout
        assert "changed" not in second.stdout
        assert device.sh("su -s /bin/sh nobody -c '/usr/local/bin/litefleet-agent --help'").startswith("usage:")
        removed = prober.command("provision", "--remove")
        assert removed.returncode == 0, removed.stdout
        assert not (device.root / "usr/local/lib/litefleet").exists()
