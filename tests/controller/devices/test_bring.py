"""The script that places a Python, really run by each shell a device may have, with a small archive that stands for a Python."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from litefleet_controller.devices.bring import Brought, bring_python, form_for
from litefleet_controller.devices.python_bundle import PackedForm, PythonBundle
from litefleet_controller.devices.transport.base import TransportError

from tests.conftest import lacking
from tests.lab.bare_root import busybox_without_tar

TOOLS = "cat ls mkdir rmdir rm mv chmod uname df tail find sha256sum tar gzip xz env"
SIZES = {
    "empty": 0,
    "of5": 5,
    "lib/before": 511,
    "lib/block": 512,
    "lib/behind": 513,
    "lib/nul": 4096,
}  # bytes of files


def bundle(folder: Path, form: str = "gz", starts: str = 'exec {python} "$@"') -> PythonBundle:
    """Return a bundle whose Python is this test's own, started by a script as a brought one is."""
    script = f"#!/bin/sh\n{starts.format(python=shlex.quote(sys.executable))}\n".encode()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        info = tarfile.TarInfo("bin/python3")
        info.size, info.mode = len(script), 0o755
        parent = tarfile.TarInfo("bin")
        parent.type, parent.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(parent)
        archive.addfile(info, io.BytesIO(script))
        filler = random.Random(1).randbytes(300_000)
        info = tarfile.TarInfo("lib")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
        for name, size in {"lib/filler": len(filler), **SIZES}.items():
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(filler if name != "lib/nul" else bytes(size)))
    data, path = plain.getvalue(), folder / f"bundle.{form}"
    key = hashlib.sha256(data).hexdigest()[:32]
    if form != "tar":
        tool = {"gz": "gzip", "xz": "xz"}[form]
        data = subprocess.run([tool, "-c"], input=data, capture_output=True, check=True).stdout
    path.write_bytes(data)
    packed = PackedForm(form, path, len(data), hashlib.sha256(data).hexdigest())
    return PythonBundle(key, os.uname().machine, "3.11", "glibc 2.36", 300_100, 2, "the test's Python", packed)


class Pipe:
    """A channel to a local process; `cut` ends the input early, after so many bytes."""

    host_key = ""
    held_s = 0.0

    def __init__(self, process: asyncio.subprocess.Process, cut: int | None) -> None:
        self._process, self._cut = process, cut

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        if self._cut is not None:
            data, self._cut = data[: self._cut], max(0, self._cut - len(data))
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def read(self, limit: int) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.read(limit)

    def stderr_tail(self) -> str:
        return ""

    async def exit_code(self) -> int | None:
        return await self._process.wait()


@dataclass(frozen=True)
class Machine:
    """A device's folder: its home and its PATH; `prefix` runs before the shell, in a namespace of its own."""

    folder: Path
    shell: list[str]
    prefix: str = ""

    @property
    def pythons(self) -> Path:
        return self.folder / "root" / "python"

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir(parents=True, exist_ok=True)
        for tool in TOOLS.split():
            if not (self.folder / "bin" / tool).exists():
                (self.folder / "bin" / tool).symlink_to(str(shutil.which(tool)))

    def bring(self, given: PythonBundle, keep: bool = True, cut: int | None = None, root: str = "") -> Brought:
        return asyncio.run(self._bring(given, keep, cut, root or str(self.folder / "root")))

    async def _bring(self, given: PythonBundle, keep: bool, cut: int | None, root: str) -> Brought:
        @contextlib.asynccontextmanager
        async def opened(command: str) -> AsyncIterator[Pipe]:
            words = shlex.split(command)
            assert words[:2] == ["sh", "-c"]
            argv = [*self.shell, *words[1:]]
            if self.prefix:
                argv = [str(shutil.which("unshare")), "-m", "/bin/sh", "-c", f'{self.prefix}; exec "$@"', "sh", *argv]
            env = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder), "TMPDIR": str(self.folder)}
            process = await asyncio.create_subprocess_exec(*argv, stdin=-1, stdout=-1, env=env)
            yield Pipe(process, cut)
            await asyncio.wait_for(process.wait(), 30)

        return await bring_python(opened, given, root, keep, 30)

    def refused(self, given: PythonBundle, **how: object) -> tuple[str, str]:
        with pytest.raises(TransportError) as caught:
            self.bring(given, **how)  # type: ignore[arg-type]
        return caught.value.found.code, caught.value.found.observed


@pytest.fixture
def machine(tmp_path: Path, shell: list[str]) -> Machine:
    return Machine(tmp_path / "device", shell)


@pytest.mark.parametrize("form", ["xz", "gz", "tar"])
def test_a_python_is_placed_once_and_can_be_started(machine: Machine, tmp_path: Path, form: str) -> None:
    given = bundle(tmp_path, form)
    brought = machine.bring(given)
    assert brought.path == str(machine.pythons / given.key / "bin/python3")
    assert brought.sent_bytes == given.packed.size
    assert sorted(os.listdir(machine.pythons)) == sorted([given.key, "current"])
    assert (machine.pythons / "current").read_text() == f"{given.key}\n"
    assert os.stat(machine.pythons).st_mode & 0o777 == 0o700
    assert subprocess.run([brought.path, "-c", "print(6 * 7)"], capture_output=True, check=True).stdout == b"42\n"
    assert machine.bring(given) == Brought(brought.path)  # nothing is sent again


def test_a_session_that_changes_nothing_gets_a_folder_of_its_own(machine: Machine, tmp_path: Path) -> None:
    brought = machine.bring(bundle(tmp_path), keep=False)
    assert Path(brought.folder).parent == machine.folder
    assert Path(brought.folder).name.startswith("litefleet-python-")
    assert Path(brought.path).is_file()
    assert not machine.pythons.exists()


@pytest.mark.parametrize("cut", [0, 1, 512, 100_000, 299_999])
def test_after_a_cut_at_any_byte_the_next_attempt_sends_the_rest(machine: Machine, tmp_path: Path, cut: int) -> None:
    given = bundle(tmp_path)
    assert machine.refused(given, cut=cut) == ("LF505", "the Python arrived damaged or cut short")
    part = f".part-{given.packed.sha256}"
    assert os.listdir(machine.pythons) == ([part] if cut else [])
    assert machine.bring(given).sent_bytes == given.packed.size - cut
    assert sorted(os.listdir(machine.pythons)) == sorted([given.key, "current"])


def test_a_part_with_other_bytes_counts_for_nothing_and_one_of_another_python_goes(
    machine: Machine, tmp_path: Path
) -> None:
    given = bundle(tmp_path)
    assert machine.refused(given, cut=1000)[0] == "LF505"
    part = machine.pythons / f".part-{given.packed.sha256}"
    part.write_bytes(b"x" * 1000)
    (machine.pythons / f".part-{'0' * 64}").write_bytes(b"old")
    assert machine.refused(given) == ("LF505", "the Python arrived damaged or cut short")
    assert os.listdir(machine.pythons) == []
    assert machine.bring(given).sent_bytes == given.packed.size


def test_without_sha256sum_the_python_itself_compares_the_hash(machine: Machine, tmp_path: Path) -> None:
    (machine.folder / "bin/sha256sum").unlink()
    given = bundle(tmp_path, "tar")
    wrong = replace(given, packed=replace(given.packed, sha256="0" * 64))
    assert machine.refused(wrong) == ("LF505", "the Python arrived damaged or cut short")
    assert os.listdir(machine.pythons) == []
    assert machine.bring(given).path.endswith("/bin/python3")


def test_what_a_killed_attempt_left_is_removed_and_a_running_ones_is_not(machine: Machine, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for number in (ended.pid, os.getpid()):
        (machine.pythons / f".new-{number}" / "tree").mkdir(parents=True)
    machine.pythons.chmod(0o700)
    given = bundle(tmp_path)
    (machine.pythons / given.key / "bin").mkdir(parents=True)  # half of one, of a power cut
    machine.bring(given)
    assert sorted(os.listdir(machine.pythons)) == sorted([f".new-{os.getpid()}", given.key, "current"])


def test_a_python_that_does_not_start_gets_no_name(machine: Machine, tmp_path: Path) -> None:
    code, seen = machine.refused(bundle(tmp_path, starts="echo FATAL: kernel too old >&2; exit 127"))
    assert code == "LF326"
    assert seen.startswith("the test's Python does not start on this device (")
    assert os.uname().release in seen
    assert seen.endswith("FATAL: kernel too old")
    assert os.listdir(machine.pythons) == []


def test_a_folder_that_others_can_write_is_refused(machine: Machine, tmp_path: Path) -> None:
    (machine.folder / "root").mkdir()
    (machine.folder / "root").chmod(0o777)
    code, seen = machine.refused(bundle(tmp_path))
    assert code == "LF326"
    assert "can be changed by every user" in seen


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("noexec", "LF326", "its file system is mounted noexec"),
        ("size=100k", "LF312", "kB free, and the Python needs"),
        ("ro", "LF326", "no folder for a Python can be made"),
    ],
)
def test_a_file_system_that_cannot_hold_it_is_told_before_anything_is_sent(
    tmp_path: Path, shell: list[str], options: str, code: str, words: str
) -> None:
    if os.geteuid() != 0:
        lacking("mounting needs root")
    (tmp_path / "device/root").mkdir(parents=True)
    mount = f"/bin/mount -t tmpfs -o mode=755,{options} tmpfs {shlex.quote(str(tmp_path / 'device/root'))}"
    device = Machine(tmp_path / "device", shell, mount)
    found = device.refused(bundle(tmp_path), cut=0)
    assert found[0] == code
    assert words in found[1]


def test_a_disk_that_fills_up_on_the_way_is_told(tmp_path: Path, shell: list[str]) -> None:
    if os.geteuid() != 0:
        lacking("mounting needs root")
    (tmp_path / "device/root").mkdir(parents=True)
    mount = f"/bin/mount -t tmpfs -o mode=755,size=500k tmpfs {shlex.quote(str(tmp_path / 'device/root'))}"
    device = Machine(tmp_path / "device", shell, mount)
    code, seen = device.refused(replace(bundle(tmp_path, "tar"), unpacked_size=-20 << 20))  # df tells nothing before
    assert (code, "could not be" in seen) == ("LF312", True), seen


def without_tar(machine: Machine) -> Machine:
    if machine.shell[0].endswith("busybox"):  # its shell finds its own tar without PATH
        busybox = busybox_without_tar(machine.folder / "shell")
        machine = replace(machine, shell=[str(busybox), *machine.shell[1:]])
    (machine.folder / "bin/tar").unlink()
    (machine.folder / "bin/dd").symlink_to(str(shutil.which("dd")))
    return machine


@pytest.mark.parametrize("form", ["xz", "gz", "tar"])
def test_without_tar_the_shell_unpacks_it_with_dd(machine: Machine, tmp_path: Path, form: str) -> None:
    given = bundle(tmp_path, form)
    brought = without_tar(machine).bring(given)
    assert subprocess.run([brought.path, "-c", "print(6 * 7)"], capture_output=True, check=True).stdout == b"42\n"
    placed, reference = machine.pythons / given.key, tmp_path / "reference"
    reference.mkdir()
    subprocess.run(["tar", "-xf", given.packed.path, "-C", reference], check=True)
    for folder in (placed, reference):
        assert {name: (folder / name).stat().st_size for name in SIZES} == SIZES
    subprocess.run(["diff", "-r", placed, reference], check=True)
    assert sorted(os.listdir(placed)) == ["bin", "empty", "lib", "of5"]


def test_a_disk_that_fills_up_while_dd_unpacks_is_told(tmp_path: Path, shell: list[str]) -> None:
    if os.geteuid() != 0:
        lacking("mounting needs root")
    (tmp_path / "device/root").mkdir(parents=True)
    mount = f"/bin/mount -t tmpfs -o mode=755,size=800k tmpfs {shlex.quote(str(tmp_path / 'device/root'))}"
    device = without_tar(Machine(tmp_path / "device", shell, mount))
    code, seen = device.refused(replace(bundle(tmp_path, "gz"), unpacked_size=-20 << 20))  # df tells nothing before
    assert (code, "could not be unpacked" in seen) == ("LF312", True), seen


def test_what_cannot_unpack_it_is_a_sentence() -> None:
    assert form_for({"tools": "tar,gzip"}) == "gz"
    assert form_for({"tools": "tar,gzip,xz,sha256sum"}) == "xz"
    assert form_for({"tools": "tar"}) == form_for({"tools": "dd"}) == "tar"
    assert form_for({"tools": "dd,gzip,xz"}) == "xz"
    with pytest.raises(TransportError) as caught:
        form_for({"tools": "gzip,sha256sum"})
    assert caught.value.found.code == "LF326"
    assert caught.value.found.observed.startswith("the device has neither tar nor dd")
    assert "it has: gzip, sha256sum" in caught.value.found.observed
