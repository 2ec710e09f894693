"""Runtime bundles: resolved by the real uv for other machines, packed the same each time, refused in words."""

from __future__ import annotations

import asyncio
import subprocess
import zipfile
from pathlib import Path

import pytest
from litefleet_controller.build.runtimes.build import Bundle, build_bundle
from litefleet_controller.build.runtimes.compatibility import (
    DeviceKind,
    platform_of,
    refusal_of_wheel,
    sentence_of_resolver,
)
from litefleet_controller.build.runtimes.pack import pack, unpack_wheel
from litefleet_controller.common.errors import FindingError, LitefleetError
from litefleet_controller.config.choices import RuntimeChoice

from tests.conftest import CACHE

X86_310 = DeviceKind("x86_64", "cp310", "glibc", "2.36")
X86_311 = DeviceKind("x86_64", "cp311", "glibc", "2.36")
ARM_39 = DeviceKind("aarch64", "cp39", "glibc", "2.31")
ARM_311 = DeviceKind("aarch64", "cp311", "glibc", "2.36")
ARMV7 = DeviceKind("armv7l", "cp39", "glibc", "2.31")
E_MACHINE = {"x86_64": 62, "aarch64": 183, "armv7l": 40}


def elf(arch: str) -> bytes:
    """The first 20 bytes of a shared library, and some more."""
    bits = 1 if arch == "armv7l" else 2
    return (
        b"\x7fELF"
        + bytes([bits, 1, 1])
        + bytes(9)
        + (3).to_bytes(2, "little")
        + E_MACHINE[arch].to_bytes(2, "little")
        + bytes(44)
    )


def runtime_folder(root: Path, arch: str) -> Path:
    package = root / "paddlelite"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "lite.py").write_text("from .lite import *\n")
    (package / "lite.so").write_bytes(elf(arch))
    return root


def wheel(path: Path, arch: str, extra: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("paddlelite/__init__.py", "")
        archive.writestr("paddlelite/lite.so", elf(arch))
        archive.writestr("paddlelite-2.13.data/scripts/paddle_lite_opt", "#!python\n")
        archive.writestr("paddlelite-2.13.data/purelib/paddlelite/extra.py", "")
        archive.writestr("paddlelite-2.13.dist-info/WHEEL", "Tag: cp39-cp39-linux_aarch64\n")
        for name in extra:
            archive.writestr(name, "")
    return path


def build(choice: RuntimeChoice, device: DeviceKind, cache: Path) -> Bundle:
    return asyncio.run(build_bundle(choice, device, cache))


def refusal(choice: RuntimeChoice, device: DeviceKind, cache: Path) -> tuple[str, str]:
    with pytest.raises(FindingError) as caught:
        build(choice, device, cache)
    (found,) = caught.value.findings
    return found.code, found.observed


@pytest.mark.toolchain
def test_published_wheels_run_from_the_bundle_alone(lite_python: Path, tmp_path: Path) -> None:
    cache = CACHE / "bundles"
    bundle = build(RuntimeChoice(), X86_310, cache)
    assert bundle.path is not None
    assert bundle.path.stat().st_size == bundle.size < bundle.unpacked_size
    assert bundle.sha256.startswith(bundle.key)
    assert bundle.description == "paddlelite 2.13rc0 from wheels, numpy 1.26.4, for x86_64 with CPython 3.10"
    with zipfile.ZipFile(bundle.path) as archive:
        infos = archive.infolist()
        archive.extractall(tmp_path)
    names = [i.filename for i in infos]
    assert names == sorted(names)
    assert {i.date_time for i in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert sum(i.file_size for i in infos) == bundle.unpacked_size
    assert not [n for n in names if "__pycache__" in n or n.startswith(("bin/", "numpy/core/tests/")) or n == ".lock"]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import numpy, paddlelite.lite as l; "
    code += "print(numpy.__file__, l.__file__)"
    # The same interpreter without its own packages: -S leaves site-packages out.
    ran = subprocess.run([str(lite_python), "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(str(tmp_path)) == 2


@pytest.mark.toolchain
def test_the_second_build_comes_from_the_cache_and_a_lost_file_is_made_again(tmp_path: Path) -> None:
    choice, folder = (
        RuntimeChoice("wheel", path=tmp_path / "paddlelite-2.13-cp39-cp39-linux_aarch64.whl"),
        tmp_path / "c",
    )
    wheel(choice.path, "aarch64")
    first = build(choice, ARM_39, folder)
    assert first.path is not None
    assert first.description == (
        "the wheel paddlelite-2.13-cp39-cp39-linux_aarch64.whl, numpy 1.26.4, for aarch64 with CPython 3.9"
    )
    before = first.path.stat().st_mtime_ns
    assert build(choice, ARM_39, folder) == first
    assert first.path.stat().st_mtime_ns == before
    with zipfile.ZipFile(first.path) as archive:
        names = set(archive.namelist())
        libraries = [n for n in names if n.startswith("numpy/core/_multiarray_umath")]
    assert libraries == ["numpy/core/_multiarray_umath.cpython-39-aarch64-linux-gnu.so"]
    assert {"paddlelite/lite.so", "paddlelite/extra.py", "paddlelite-2.13.dist-info/WHEEL"} <= names
    assert not [n for n in names if "paddle_lite_opt" in n]
    first.path.unlink()
    assert build(choice, ARM_39, folder).sha256 == first.sha256
    assert not list(folder.glob(".building-*"))


def test_a_damaged_bundle_is_built_again(tmp_path: Path) -> None:
    choice = RuntimeChoice("folder", path=runtime_folder(tmp_path / "rt", "aarch64"))
    first = build(choice, ARM_39, tmp_path / "c")
    assert first.path is not None
    good = first.path.read_bytes()
    first.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))  # of the same size
    assert build(choice, ARM_39, tmp_path / "c") == first
    assert first.path.read_bytes() == good
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


def test_a_cache_of_bundles_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    choice = RuntimeChoice("folder", path=runtime_folder(tmp_path / "rt", "aarch64"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    with pytest.raises(LitefleetError, match="its mode is 0777, so other users can write in it"):
        build(choice, ARM_39, tmp_path / "c")


@pytest.mark.toolchain
def test_many_devices_of_one_kind_build_once(tmp_path: Path) -> None:
    choice = RuntimeChoice("folder", path=runtime_folder(tmp_path / "rt", "aarch64"))

    async def all_at_once() -> list[Bundle]:
        return await asyncio.gather(*(build_bundle(choice, ARM_39, tmp_path / "c") for _ in range(20)))

    bundles = asyncio.run(all_at_once())
    assert len(set(bundles)) == 1
    assert len(list((tmp_path / "c").glob("*.zip"))) == 1


@pytest.mark.toolchain
def test_newer_interpreters_share_the_library_of_the_newest_wheel(tmp_path: Path) -> None:
    bundle = build(RuntimeChoice(), X86_311, tmp_path)
    assert "without numpy" in bundle.description
    assert build(RuntimeChoice(), DeviceKind("x86_64", "cp313", "glibc", "2.36"), tmp_path) == bundle
    assert bundle.path is not None
    with zipfile.ZipFile(bundle.path) as archive:
        names = archive.namelist()
    assert "paddlelite/lite.so" in names
    assert not any(name.startswith("numpy/") for name in names)


@pytest.mark.toolchain
def test_a_version_that_does_not_exist(tmp_path: Path) -> None:
    assert refusal(RuntimeChoice(paddlelite="2.99"), X86_310, tmp_path) == (
        "LF302",
        "There is no paddlelite 2.99 on the package index; known to exist are 2.13rc0, 2.12, 2.10.",
    )


@pytest.mark.parametrize(
    ("device", "code", "said"),
    [
        (
            ARM_39,
            "LF302",
            "paddlelite is published for x86_64 only; this device has aarch64 with CPython 3.9: name Paddle-Lite's C++ "
            "library with `litefleet runtime add FILE`, or a wheel or a folder built for aarch64 under "
            "`runtimes: {aarch64: ...}`.",
        ),
        (
            DeviceKind("x86_64", "cp310", "musl", "1.2.4"),
            "LF309",
            "The published wheels of paddlelite and numpy need glibc 2.17 or later; this device has musl 1.2.4: "
            "name a wheel or a folder built for it under `runtimes: {x86_64: ...}`.",
        ),
        (
            DeviceKind("x86_64", "cp38", "glibc", "2.12"),
            "LF309",
            "The published wheels of paddlelite and numpy need glibc 2.17 or later; this device has glibc 2.12: "
            "name a wheel or a folder built for it under `runtimes: {x86_64: ...}`.",
        ),
        (
            DeviceKind("riscv64", "cp311", "glibc", "2.36"),
            "LF303",
            "This device is riscv64; Paddle-Lite runs on x86 and ARM.",
        ),
        (
            DeviceKind("x86_64", "pp310", "glibc", "2.36"),
            "LF302",
            "Paddle-Lite's binding is for CPython 3; this device's interpreter is pp310: name one with `python:`.",
        ),
    ],
)
def test_devices_for_which_nothing_is_published(device: DeviceKind, code: str, said: str, tmp_path: Path) -> None:
    assert refusal(RuntimeChoice(), device, tmp_path) == (code, said)


def test_system_needs_no_file(tmp_path: Path) -> None:
    bundle = build(RuntimeChoice("system"), X86_311, tmp_path / "none")
    assert (bundle.key, bundle.path, bundle.size) == ("system", None, 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "device", "code", "said"),
    [
        (
            "paddlelite-2.13-cp39-cp39-linux_aarch64.whl",
            ARM_311,
            "LF307",
            "is for CPython 3.9, and its library does not export the C++ functions that litefleet would call instead; this "
            "device has aarch64 with CPython 3.11: name that Python with `python:` in the inventory, or a wheel for cp311.",
        ),
        (
            "paddlelite-2.13-cp39-cp39-manylinux2014_x86_64.whl",
            ARM_39,
            "LF308",
            "is for manylinux2014_x86_64; this device has aarch64 with CPython 3.9: name a wheel for aarch64.",
        ),
        (
            "paddlelite-2.13-cp39-cp39-manylinux_2_34_aarch64.whl",
            ARM_39,
            "LF309",
            "needs manylinux_2_34_aarch64; this device has glibc 2.31: name a wheel built against it.",
        ),
    ],
)
def test_a_wheel_is_judged_by_its_name(tmp_path: Path, name: str, device: DeviceKind, code: str, said: str) -> None:
    path = wheel(tmp_path / name, "aarch64")
    assert refusal(RuntimeChoice("wheel", path=path), device, tmp_path / "c") == (code, f"{name} {said}")


@pytest.mark.parametrize(
    ("name", "device", "fits"),
    [
        ("p-1-cp39-cp39-linux_armv7l.whl", ARMV7, True),
        ("p-1-1-cp39-cp39-linux_armv7l.whl", ARMV7, True),
        ("p-1-cp37-abi3-manylinux2014_aarch64.whl", ARM_39, True),
        ("p-1-cp310-abi3-manylinux2014_aarch64.whl", ARM_39, True),  # whether its library can be driven is seen in it
        ("p-1-py3-none-any.whl", ARM_39, True),
        ("p-1-cp39-cp39-musllinux_1_1_aarch64.whl", ARM_39, False),
        ("p-1-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", ARM_39, True),
        ("p-1-cp39-cp39-macosx_11_0_arm64.whl", ARM_39, False),
        ("paddlelite-2.13-cp310-cp310-manylinux2020_x86_64.linux_x86_64.whl", X86_310, True),
        ("paddlelite-2.13-cp310-cp310-manylinux2020_x86_64.whl", X86_310, False),
        ("p-1-cp310-cp310-manylinux1_x86_64.whl", X86_310, True),
        ("p-1-cp310-cp310t-manylinux1_x86_64.whl", X86_310, True),  # a free-threaded build's ABI: likewise
        ("p-1-cp37-cp37m-manylinux1_x86_64.whl", DeviceKind("x86_64", "cp37", "glibc", "2.17"), True),
        ("p-1-py2.py3-none-manylinux2010_x86_64.whl", DeviceKind("x86_64", "cp38", "glibc", "2.5"), False),
        ("p-1-cp39-cp39-musllinux_1_1_aarch64.whl", DeviceKind("aarch64", "cp39", "musl", "1.2.3"), True),
        ("p-1-cp39-cp39-musllinux_1_3_aarch64.whl", DeviceKind("aarch64", "cp39", "musl", "1.2.3"), False),
        ("p-1-cp39-cp39-manylinux_2_17_armv7l.whl", DeviceKind("armv7l", "cp39", "glibc", ""), False),
    ],
)
def test_wheel_tags(tmp_path: Path, name: str, device: DeviceKind, fits: bool) -> None:
    (tmp_path / name).write_bytes(b"")
    assert (refusal_of_wheel(tmp_path / name, device) is None) is fits


@pytest.mark.parametrize(
    "name",
    ["p.whl", "p-1.whl", "p-x.y-cp39-cp39-linux_aarch64.whl", "-1-py3-none-any.whl", "p-1-py3-none-any.zip", "é.whl"],
)
def test_a_name_that_is_no_wheels_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    refused = refusal_of_wheel(tmp_path / name, ARM_39)
    assert refused is not None
    assert (refused.code, "is not named like a wheel" in refused.observed) == ("LF302", True)


def test_an_unknown_manylinux_tag_is_a_finding(tmp_path: Path) -> None:
    name = "paddlelite-2.13-cp310-cp310-manylinux2020_x86_64.whl"
    path = wheel(tmp_path / name, "x86_64")
    assert refusal(RuntimeChoice("wheel", path=path), X86_310, tmp_path / "c") == (
        "LF309",
        f"{name} needs manylinux2020_x86_64; this device has glibc 2.36: name a wheel built against it.",
    )


def test_a_wheel_that_lies_about_its_machine(tmp_path: Path) -> None:
    path = wheel(tmp_path / "paddlelite-2.13-cp39-cp39-linux_armv7l.whl", "x86_64")
    assert refusal(RuntimeChoice("wheel", path=path), ARMV7, tmp_path / "c") == (
        "LF308",
        f"{path}: paddlelite/lite.so is for x86_64; this device has armv7l with CPython 3.9: "
        "name a runtime built for armv7l.",
    )


def test_no_numpy_for_32_bit_is_said(tmp_path: Path) -> None:
    path = wheel(tmp_path / "paddlelite-2.13-cp39-cp39-linux_armv7l.whl", "armv7l")
    bundle = build(RuntimeChoice("wheel", path=path), ARMV7, tmp_path / "c")
    assert "without numpy (no wheels are published for armv7l with glibc)" in bundle.description


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "paddlelite/../../evil.py", "x.data/purelib/../../evil.py"])
def test_a_hostile_wheel_writes_nothing_outside(tmp_path: Path, name: str) -> None:
    path = wheel(tmp_path / "a-1-py3-none-any.whl", "aarch64", (name,))
    with pytest.raises(FindingError, match="would not stay inside its folder"):
        unpack_wheel(path, tmp_path / "deep" / "target")
    assert not list(tmp_path.rglob("evil.py"))


def test_a_damaged_wheel_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a-1-py3-none-any.whl"
    path.write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(FindingError, match=r"LF302 a-1-py3-none-any\.whl cannot be unpacked: File is not a zip file"):
        unpack_wheel(path, tmp_path / "t")


@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [
        (
            "paddlelite/__init__.py",
            "LF302",
            "holds no paddlelite/__init__.py: give the folder that a built `paddlelite/` lies in.",
        ),
        ("paddlelite/lite.so", "LF302", "holds no paddlelite/lite.so: the package was not built, or not for Linux."),
    ],
)
def test_folders_that_hold_no_runtime(tmp_path: Path, missing: str, code: str, said: str) -> None:
    folder = runtime_folder(tmp_path / "rt", "aarch64")
    (folder / missing).unlink()
    choice = RuntimeChoice("folder", path=folder)
    assert refusal(choice, ARM_39, tmp_path / "c") == (code, f"{folder} {said}")


def test_a_folder_for_another_machine_or_not_there(tmp_path: Path) -> None:
    folder = runtime_folder(tmp_path / "rt", "x86_64")
    code, output = refusal(RuntimeChoice("folder", path=folder), ARM_39, tmp_path / "c")
    assert (code, "lite.so is for x86_64; this device has aarch64 with CPython 3.9" in output) == ("LF308", True)
    (folder / "paddlelite" / "lite.so").write_bytes(b"MZ" + bytes(60))
    code, output = refusal(RuntimeChoice("folder", path=folder), ARM_39, tmp_path / "c")
    assert (code, "is not a Linux shared library" in output) == ("LF308", True)
    missing = RuntimeChoice("folder", path=tmp_path / "no")
    assert refusal(missing, ARM_39, tmp_path / "c") == ("LF302", f"The runtime folder {tmp_path / 'no'} is missing.")


def test_packing_is_the_same_for_equal_folders_and_drops_litter(tmp_path: Path) -> None:
    one, two = runtime_folder(tmp_path / "1", "aarch64"), runtime_folder(tmp_path / "2", "aarch64")
    for litter in ("._lite.so", "__pycache__/lite.pyc", "lite.pyi", "__MACOSX/x"):
        (two / "paddlelite" / litter).parent.mkdir(exist_ok=True)
        (two / "paddlelite" / litter).write_bytes(b"x")
    (two / "paddlelite" / "lite.py").touch()
    (two / "paddlelite" / "lite.py").chmod(0o600)
    assert pack([one], tmp_path / "1.zip") == pack([two], tmp_path / "2.zip")
    (two / "paddlelite" / "lite.py").chmod(0o755)
    assert pack([one], tmp_path / "1.zip") != pack([two], tmp_path / "2.zip")
    with zipfile.ZipFile(tmp_path / "2.zip") as archive:
        assert archive.getinfo("paddlelite/lite.py").external_attr >> 16 == 0o100755


def test_a_changed_folder_is_another_bundle_and_links_outside_are_refused(tmp_path: Path) -> None:
    choice = RuntimeChoice("folder", path=runtime_folder(tmp_path / "rt", "aarch64"))
    first = build(choice, ARM_39, tmp_path / "c")
    (choice.path / "paddlelite" / "lite.py").write_text("changed\n")
    assert build(choice, ARM_39, tmp_path / "c").key != first.key
    secret = tmp_path / "secret"
    secret.write_text("s")
    (choice.path / "paddlelite" / "link").symlink_to(secret)
    code, output = refusal(choice, ARM_39, tmp_path / "c")
    assert (code, "is a link that leads out of" in output) == ("LF302", True)


@pytest.mark.parametrize(
    ("device", "platform"),
    [
        (X86_310, "x86_64-manylinux_2_36"),
        (DeviceKind("aarch64", "cp39", "glibc", "2.30"), "aarch64-manylinux_2_28"),
        (DeviceKind("aarch64", "cp39", "glibc", "2.31-13+deb11"), "aarch64-manylinux_2_31"),
        (DeviceKind("x86_64", "cp39", "glibc", "2.99"), "x86_64-manylinux_2_40"),
        (DeviceKind("x86_64", "cp39", "glibc", "2.16"), None),
        (DeviceKind("x86_64", "cp39", "musl", "1.2"), "x86_64-unknown-linux-musl"),
        (DeviceKind("x86_64", "cp39", "unknown", ""), None),
        (ARMV7, None),
    ],
)
def test_platform_by_libc(device: DeviceKind, platform: str | None) -> None:
    assert platform_of(device) == platform


def test_a_network_failure_is_not_taken_for_a_missing_wheel() -> None:
    output = (
        "error: Request failed after 3 retries\n  Caused by: Failed to fetch: https://example.org/simple/paddlelite/"
    )
    assert sentence_of_resolver(RuntimeChoice(), X86_310, output) is None
