"""A Python from a signed mirror, from an archive and from a folder: reproducible, and nothing unverified gets in."""

from __future__ import annotations

import asyncio
import gzip
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from litefleet_controller.build.pythons.deb import PackageError
from litefleet_controller.build.pythons.make import PythonBundles
from litefleet_controller.build.pythons.mirror import MirrorSource
from litefleet_controller.build.pythons.tree import is_dropped, wrapper
from litefleet_controller.common.errors import LitefleetError
from litefleet_controller.config.runtimes import PythonsConfig
from litefleet_controller.devices.python_bundle import PythonBundle

from tests.conftest import lacking

from .debs import Mirror, deb

ARCH = os.uname().machine


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        lacking("no gpg on this machine")
    made = Mirror(tmp_path / "mirror")
    made.folder.mkdir()
    made.add("aa", deb({"usr/bin/a": b"a"}))
    yield made
    made.close()


def source(mirror: Mirror, folder: Path) -> MirrorSource:
    folder.mkdir(exist_ok=True)
    return MirrorSource("arm64", folder, PythonsConfig(mirror=mirror.url, keyring=mirror.keyring))


async def fetched(mirror: Mirror, folder: Path) -> list[Path]:
    origin = source(mirror, folder)
    return await origin.fetch((await origin.packages(["aa", "nowhere"])).values())


def test_a_signed_mirror_gives_its_packages(mirror: Mirror, tmp_path: Path) -> None:
    mirror.sign()
    (path,) = asyncio.run(fetched(mirror, tmp_path / "work"))
    assert path.read_bytes() == deb({"usr/bin/a": b"a"})


def test_nothing_that_the_signature_does_not_cover_is_used(mirror: Mirror, tmp_path: Path) -> None:
    mirror.sign()
    release = mirror.folder / "dists/bookworm/InRelease"
    signed = release.read_bytes()
    release.write_bytes(signed.replace(b"Origin: Test", b"Origin: Else"))
    with pytest.raises(PackageError, match=r"the signature of .* is not valid"):
        asyncio.run(fetched(mirror, tmp_path / "work"))
    release.write_bytes(b"Origin: Test\n")
    with pytest.raises(PackageError, match=r"the signature of .* is not valid"):
        asyncio.run(fetched(mirror, tmp_path / "work"))
    release.write_bytes(signed)
    index = mirror.folder / "dists/bookworm/main/binary-arm64/Packages.xz"
    whole = index.read_bytes()
    index.write_bytes(lzma.compress(b"Package: a\n"))
    with pytest.raises(PackageError, match="the signed index says"):
        asyncio.run(fetched(mirror, tmp_path / "work"))
    index.write_bytes(whole)
    (package,) = (mirror.folder / "pool").iterdir()
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    with pytest.raises(PackageError, match="nothing of it is used"):
        asyncio.run(fetched(mirror, tmp_path / "work"))


def test_an_index_that_is_out_of_date_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.sign("Sat, 01 Jan 2022 00:00:00 UTC")
    with pytest.raises(PackageError, match="was valid until 2022-01-01 only"):
        asyncio.run(fetched(mirror, tmp_path / "work"))


def test_a_mirror_that_is_away_or_has_no_python_is_a_sentence(mirror: Mirror, tmp_path: Path) -> None:
    config = PythonsConfig(mirror=mirror.url, keyring=mirror.keyring)
    if not mirror.keyring.exists():
        mirror.sign()
    made = PythonBundles(config, tmp_path / "cache", lambda text: None)
    with pytest.raises(LitefleetError, match="no package python3 for this architecture"):
        asyncio.run(made.for_machine("arm64", "gz"))
    away = PythonBundles(config.model_copy(update={"mirror": "file:///nowhere"}), tmp_path / "cache", lambda text: None)
    with pytest.raises(LitefleetError, match=r"cannot be fetched: .*No such file"):
        asyncio.run(away.for_machine("arm64", "gz"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder that looks like a relocatable Python: this machine's own program, a library of two modules."""
    folder = tmp_path / "python"
    for name in ("bin", "lib/python3.11/test", "lib/python3.11/site-packages"):
        (folder / name).mkdir(parents=True)
    shutil.copy("/bin/true", folder / "bin/python3.11")
    (folder / "bin/python3").symlink_to("python3.11")
    for name in ("os.py", "json.py", "test/test_os.py", "site-packages/pip.py", "turtle.py"):
        (folder / "lib/python3.11" / name).write_text(f"# {name}\n")
    (folder / "lib/python3.11/urllib").mkdir()
    (folder / "lib/python3.11/urllib/__init__.py").touch()  # it is empty in CPython too
    (folder / "lib/libpython3.11.so.1.0").write_bytes(b"\x7fELF library")
    return folder


def bundle_of(path: Path, cache: Path, form: str = "tar") -> PythonBundle:
    made = PythonBundles(PythonsConfig(own={ARCH: path}), cache, lambda text: None)
    return asyncio.run(made.for_machine(ARCH, form))


def test_a_folder_and_its_archive_give_the_same_trimmed_bundle(own: Path, tmp_path: Path) -> None:
    archive = tmp_path / "python.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "python"], check=True)
    of_folder, of_archive = bundle_of(own, tmp_path / "one"), bundle_of(archive, tmp_path / "two")
    assert of_folder.key == of_archive.key
    assert (of_folder.python, of_folder.machine, of_folder.libc) == ("3.11", ARCH, "")
    with tarfile.open(of_folder.packed.path) as packed:
        assert {m.name: oct(m.mode) for m in packed if m.isfile()} == {
            "bin/python3": "0o755",
            "bin/python3.real": "0o755",
            "lib/libpython3.11.so.1.0": "0o644",
            "lib/python3.11/json.py": "0o644",
            "lib/python3.11/os.py": "0o644",
            "lib/python3.11/urllib/__init__.py": "0o644",
        }
    for form, unpack in (("gz", gzip.decompress), ("xz", lzma.decompress)):
        packed_form = bundle_of(own, tmp_path / "one", form).packed
        assert unpack(packed_form.path.read_bytes()) == of_folder.packed.path.read_bytes()
        assert packed_form.size == packed_form.path.stat().st_size < of_folder.packed.size


def shifted(program: bytes, by: int) -> bytes:
    """Return a program whose segment of code lies `by` bytes further in memory, as for kernels of such small pages."""
    table, size, count = int.from_bytes(program[32:40], "little"), 56, int.from_bytes(program[56:58], "little")
    for at in range(table, table + size * count, size):
        kind, flags, offset, address = struct.unpack_from("<IIQQ", program, at)
        if (kind, flags & 1) == (1, 1):
            return program[:at] + struct.pack("<IIQQ", kind, flags, offset, address + by) + program[at + 24 :]
    raise AssertionError("no segment of code")


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="the program is changed as a 64-bit one")
def test_a_kernel_with_larger_pages_is_told_before_anything_is_sent(own: Path, tmp_path: Path) -> None:
    """No such kernel is here: the program is changed instead, so that 8 KiB are the largest pages in which it fits."""
    program = own / "bin/python3.11"
    unchanged = bundle_of(own, tmp_path / "cache")
    program.write_bytes(shifted(program.read_bytes(), 8192))
    made = bundle_of(own, tmp_path / "cache")
    assert made.largest_page <= 8192
    for page in ("16", "64"):
        assert made.why_not({"page": page, "libc": "glibc"}) == (
            f"Python 3.11 of python is aligned to pages of {made.largest_page} bytes; this device's kernel has pages of "
            f"{int(page) * 1024}: nothing was sent"
        )
    for told in ("", "4", "x", "9" * 30):  # a device that cannot tell, or tells nonsense, tries
        assert made.why_not({"page": told, "libc": "glibc"}) == ""
    # what is linked for pages of 64 KiB fits in all of them
    assert replace(unchanged, largest_page=65536).why_not({"page": "64"}) == ""
    assert replace(unchanged, largest_page=0).why_not({"page": "64"}) == ""


def test_a_python_for_the_devices_own_libc_is_not_sent_where_there_is_another(own: Path, tmp_path: Path) -> None:
    made = bundle_of(own, tmp_path / "cache")
    assert (made.libc, made.needs) == ("", "glibc")
    assert made.why_not({"libc": "glibc"}) == ""
    for libc, has in (("musl", "musl"), ("unknown", "none")):
        assert made.why_not({"libc": libc}) == (
            f"Python 3.11 of python is started by the device's own glibc; this device has {has}: nothing was sent"
        )
    assert replace(made, needs="").why_not({"libc": "musl"}) == ""


def test_a_damaged_cache_is_made_again(own: Path, tmp_path: Path) -> None:
    made = bundle_of(own, tmp_path / "cache")
    whole = made.packed.path.read_bytes()
    made.packed.path.write_bytes(whole[:-1])
    assert bundle_of(own, tmp_path / "cache") == made
    assert made.packed.path.read_bytes() == whole


def test_what_is_no_python_is_a_sentence(own: Path, tmp_path: Path) -> None:
    (own / "lib/python3.11/os.py").unlink()
    with pytest.raises(LitefleetError, match="holds no Python"):
        bundle_of(own, tmp_path / "cache")
    (own / "lib/python3.11/os.py").touch()
    (own / "lib/python3.11" / ("long" * 25)).touch()
    with pytest.raises(LitefleetError, match="has more than 100 bytes: rename or remove it"):
        bundle_of(own, tmp_path / "cache")
    (tmp_path / "python.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(LitefleetError, match="take an install_only archive"):
        bundle_of(tmp_path / "python.tar.zst", tmp_path / "cache")
    made = PythonBundles(PythonsConfig(), tmp_path / "cache", lambda text: None)
    with pytest.raises(LitefleetError, match="no CPU backend"):
        asyncio.run(made.for_machine("riscv64", "gz"))


def test_a_python_of_another_machine_is_refused(own: Path, tmp_path: Path) -> None:
    made = PythonBundles(PythonsConfig(own={"aarch64" if ARCH == "x86_64" else "x86_64": own}), tmp_path / "c", print)
    with pytest.raises(LitefleetError, match=f"is for {ARCH}"):
        asyncio.run(made.for_machine("aarch64" if ARCH == "x86_64" else "x86_64", "gz"))


def test_without_a_loader_of_its_own_the_devices_starts_it() -> None:
    assert b"ld.so" in wrapper(True)
    assert b"ld.so" not in wrapper(False)
    assert is_dropped("test/test_os.py")
    assert is_dropped("idlelib/run.py")
    assert not is_dropped("importlib/__init__.py")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mirror": "ftp://x"}, "the mirror is a URL"),
        ({"mirror": "https://user:secret@x/debian"}, "no password here"),
        ({"suite": "trixie"}, "goes with `mirror:`"),
        ({"own": {"vax": "x"}}, "is not an architecture"),
    ],
)
def test_the_configuration_is_checked(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PythonsConfig.model_validate(given)
