"""Wheels, folders and libraries of Paddle-Lite as doctor sees them: the published ones, and what breaks on its way."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.facts import Cpu, Facts, Libc, PythonFacts
from litefleet_agent.findings import Severity
from litefleet_controller.doctor.diagnosis import Diagnosis, Kind
from litefleet_controller.doctor.runtimes import (
    diagnose_library,
    diagnose_runtime,
    diagnose_wheel,
    pair_runtime,
    runtime_of,
)
from litefleet_controller.doctor.wheels import check_tags

from tests.agent.support.elf_builder import build_elf
from tests.conftest import environment, packages_for, published_wheel

PUBLISHED = [("2.13rc0", "310"), ("2.13rc0", "38"), ("2.12", "37"), ("2.10", "39")]
NAME = "paddlelite-2.12-cp39-cp39-linux_aarch64.whl"
GOOD = build_elf(183, needed=("libc.so.6",), versions={"libc.so.6": ["GLIBC_2.28"]}, align=65536) + b"\0v2.12\x003.9\0"
PC = Facts(
    machine="x86_64",
    arch="x86_64",
    bits=64,
    cpu=Cpu(4, ("Celeron N5095",), ("avx", "avx2", "fma", "sse4_2"), 4, 4),
    libc=Libc("glibc", "2.31"),
    libstdcxx="3.4.28",
    libraries=("libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "libstdc++.so.6"),
    page_size=4096,
)


def shown(diagnosis: Diagnosis) -> dict[str, str]:
    return {fact.label: fact.text for fact in diagnosis.facts}


def codes(diagnosis: Diagnosis) -> list[str]:
    return [found.code for found in diagnosis.ranked]


def only(diagnosis: Diagnosis) -> tuple[str, str]:
    (found,) = diagnosis.findings
    return found.code, found.observed


def wheel_of(path: Path, files: dict[str, bytes], record: bool = True) -> Path:
    """Write a wheel: `files` by name, with a RECORD of their hashes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        rows = ""
        for name, data in files.items():
            archive.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows += f"{name},sha256={digest},{len(data)}\n"
        if record:
            archive.writestr("paddlelite-2.12.dist-info/RECORD", rows)
    return path


def files(binary: bytes = GOOD, **more: bytes) -> dict[str, bytes]:
    return {
        "paddlelite/__init__.py": b"",
        "paddlelite/lite.so": binary,
        "paddlelite-2.12.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: cp39-cp39-linux_aarch64\n",
        **{name.replace("__dot__", "."): data for name, data in more.items()},
    }


# --- the published ones


@pytest.mark.toolchain
@pytest.mark.parametrize(("version", "python"), PUBLISHED)
def test_the_published_wheels_are_whole_and_described(version: str, python: str) -> None:
    path = published_wheel("paddlelite", version, python)
    found = diagnose_wheel(path)
    assert (found.kind, found.subject, found.findings) == (Kind.WHEEL, path.name, ())
    reported = shown(found)
    assert reported["Paddle-Lite"] == version
    assert reported["machine"] == "x86_64"
    assert reported["Python"] == f"CPython 3.{python[1:]}"
    assert reported["needs"] == "glibc 2.14, GLIBCXX 3.4.21, CXXABI 1.3.8"
    assert reported["operators"].endswith("with the extra ones")
    assert "CRC-32" in found.works[0]
    json.dumps(found.to_dict())
    runtime = runtime_of(path)
    assert runtime is not None
    tag = "cp" + python
    facts = PC._replace(python=PythonFacts("/usr/bin/python3", f"3.{python[1:]}.1", "cpython", tag, 64))
    assert [f.code for f in pair_runtime(runtime, facts) if f.severity is not Severity.NOTE] == []


@pytest.mark.toolchain
def test_a_wheel_on_other_devices() -> None:
    runtime = runtime_of(published_wheel("paddlelite", "2.13rc0", "310"))
    assert runtime is not None

    def judged(**changes: object) -> set[str]:
        return {f.code for f in pair_runtime(runtime, PC._replace(**changes)) if f.severity is Severity.ERROR}

    assert judged() == set()
    assert judged(libc=Libc("glibc", "2.12")) == {"LF309"}
    assert judged(libc=Libc("musl", "1.2.4"), libraries=()) == {"LF309"}
    assert judged(python=PythonFacts("/usr/bin/python3", "3.11.2", "cpython", "cp311", 64)) == {"LF307"}
    assert judged(machine="aarch64", arch="aarch64", cpu=Cpu()) == {"LF308"}
    assert judged(cpu=Cpu(1, ("Nehalem",), ("sse4_2",), 1, 1)) == {"LF310"}
    assert judged(machine="riscv64", arch="") == {"LF303"}


@pytest.mark.toolchain
@pytest.mark.parametrize(("version", "python"), [("2.13rc0", "3.10"), ("2.12", "3.7"), ("2.10", "3.9")])
def test_the_toolchains_packages_are_good_runtimes(version: str, python: str) -> None:
    interpreter = environment("lite-" + version, python, "paddlelite==" + version, "numpy<2")
    folder = next((interpreter.parent.parent / "lib").glob("python3.*")) / "site-packages"
    found = diagnose_runtime(folder)
    assert (found.kind, found.findings) == (Kind.RUNTIME, ())
    assert shown(found)["numpy"].startswith("1.")
    assert diagnose_runtime(folder / "paddlelite").facts == found.facts
    alone = diagnose_library(folder / "paddlelite" / "lite.so")
    assert (alone.kind, alone.findings) == (Kind.LIBRARY, ())
    assert shown(alone)["build"].startswith("full")
    assert "libiomp5.so" in shown(alone)["libraries"]


@pytest.mark.toolchain
def test_numpy_2_beside_the_published_build() -> None:
    interpreter = environment("lite-2.13rc0-numpy2", "3.10", "paddlelite==2.13rc0", "numpy>=2")
    folder = next((interpreter.parent.parent / "lib").glob("python3.*")) / "site-packages"
    assert codes(diagnose_runtime(folder)) == ["LF304"]


@pytest.mark.toolchain
def test_a_published_wheel_that_was_damaged(tmp_path: Path) -> None:
    whole = published_wheel("paddlelite", "2.13rc0", "310")
    data = bytearray(whole.read_bytes())
    cut = tmp_path / whole.name
    cut.write_bytes(data[: len(data) // 2])
    assert only(diagnose_wheel(cut)) == ("LF322", f"{whole.name} cannot be unpacked: File is not a zip file.")
    assert runtime_of(cut) is None
    with zipfile.ZipFile(whole) as archive:
        at = archive.getinfo("paddlelite/lite.so").header_offset + 5_000_000
    data[at] ^= 1
    cut.write_bytes(data)
    code, seen = only(diagnose_wheel(cut))
    assert code == "LF322"
    assert "cannot be unpacked: " in seen


def test_a_wheel_of_something_else_is_named_and_no_error() -> None:
    found = diagnose_wheel(published_wheel("markupsafe", "1.1.1", "38"))
    assert found.findings == ()
    assert shown(found)["package"] == "MarkupSafe-1.1.1; it is not Paddle-Lite"
    assert runtime_of(published_wheel("markupsafe", "1.1.1", "38")) is None


@pytest.mark.parametrize(
    ("platform", "name"), [("x86_64-pc-windows-msvc", "Windows"), ("aarch64-apple-darwin", "macOS")]
)
def test_real_libraries_of_other_systems(platform: str, name: str, tmp_path: Path) -> None:
    folder = packages_for(platform, "markupsafe==3.0.2") / "markupsafe"
    (path,) = [p for p in folder.glob("_speedups.*") if p.suffix in (".so", ".pyd")]
    assert only(diagnose_library(path)) == ("LF323", f"The runtime's library is for {name}.")
    made = wheel_of(tmp_path / NAME, files(path.read_bytes()))
    assert only(diagnose_wheel(made)) == ("LF323", f"The runtime's library is for {name}.")
    runtime = runtime_of(made)
    assert runtime is not None
    assert "LF323" in [f.code for f in pair_runtime(runtime, PC)]


def test_a_real_library_without_paddle_lite_is_no_runtime() -> None:
    folder = packages_for("aarch64-unknown-linux-gnu", "markupsafe==3.0.2") / "markupsafe"
    path = next(folder.glob("_speedups.*.so"))
    found = diagnose_library(path)
    assert found.findings == ()
    assert shown(found)["Paddle-Lite"] == "no sign of it in this library"
    assert shown(found)["machine"] == "aarch64"
    assert runtime_of(path) is None


# --- fixtures: builds for ARM, and what breaks


def test_a_good_wheel_for_arm(tmp_path: Path) -> None:
    found = diagnose_wheel(wheel_of(tmp_path / NAME, files()))
    assert found.findings == ()
    assert shown(found)["pages"] == "aligned to 64 KiB"
    assert shown(found)["needs"] == "glibc 2.28"
    assert found.data["so_machine"] == "aarch64"
    assert found.data["path"] == str(tmp_path / NAME)


ANDROID = build_elf(183, needed=("libc.so", "liblog.so")) + b"\0v2.12\x003.9\0"
X86 = build_elf(62, needed=("libc.so.6",)) + b"\0v2.12\x003.9\0"
OTHER = build_elf(183, needed=("libc.so.6",)) + b"\0v2.12\x003.8\0"
BROKEN: dict[str, tuple[Callable[[], dict[str, bytes]], tuple[str, str]]] = {
    "android": (lambda: files(ANDROID), ("LF323", "The runtime's library is for Android.")),
    "machine": (lambda: files(X86), ("LF308", f"{NAME} is named for aarch64; its lite.so is for x86_64.")),
    "python": (lambda: files(OTHER), ("LF307", f"{NAME} is named for cp39; its lite.so is for cp38.")),
    "no binary": (
        lambda: {k: v for k, v in files().items() if k != "paddlelite/lite.so"},
        ("LF322", f"{NAME} holds no paddlelite/lite.so."),
    ),
    "no module": (
        lambda: {k: v for k, v in files().items() if k != "paddlelite/__init__.py"},
        ("LF322", f"{NAME} holds no paddlelite/__init__.py."),
    ),
    "no package": (
        lambda: {k: v for k, v in files().items() if not k.startswith("paddlelite/")},
        ("LF322", f"{NAME} holds no paddlelite/ package."),
    ),
    "truncated binary": (
        lambda: files(GOOD[:300]),
        (
            "LF315",
            "The runtime cannot be loaded: lite.so: The ELF file ends too early: it has 300 of "
            f"{len(GOOD) - 11} bytes; copy it again.",
        ),
    ),
    "leftovers": (
        lambda: {**files(), "paddlelite/._lite.so": b"\x00\x05\x16\x07" + bytes(9)},
        ("LF319", "The runtime holds ._lite.so."),
    ),
    "numpy 2": (
        lambda: {**files(), "numpy/__init__.py": b"", "numpy-2.1.0.dist-info/METADATA": b""},
        ("LF304", "The runtime would use numpy 2.1.0; this build of Paddle-Lite needs numpy < 2."),
    ),
    "windows": (
        lambda: {**{k: v for k, v in files().items() if not k.endswith(".so")}, "paddlelite/lite.pyd": b"MZ"},
        ("LF323", "The runtime's library is for Windows."),
    ),
    "escape": (
        lambda: {**files(), "paddlelite/../../up": b"x"},
        ("LF322", f"{NAME} holds 'paddlelite/../../up', which would not stay inside its folder."),
    ),
    "bomb": (
        lambda: {**files(), "paddlelite/libs/x.so": bytes(101 << 20)},
        ("LF322", f"{NAME} holds paddlelite/libs/x.so, which unpacks to 105,906,176 bytes, over 100 times its size."),
    ),
}


@pytest.mark.parametrize("case", sorted(BROKEN))
def test_one_thing_wrong_gives_one_finding(case: str, tmp_path: Path) -> None:
    make, expected = BROKEN[case]
    path = wheel_of(tmp_path / NAME, make())
    assert only(diagnose_wheel(path)) == expected
    assert not (tmp_path / "up").exists()
    assert not (tmp_path.parent / "up").exists()


def test_another_binary_than_record_names(tmp_path: Path) -> None:
    members = files()
    members["paddlelite-2.12.dist-info/RECORD"] = b"paddlelite/lite.so,sha256=AAAA,5\n"
    path = wheel_of(tmp_path / NAME, members, record=False)
    seen = f"{NAME} holds another paddlelite/lite.so than its RECORD names: its SHA-256 differs."
    assert only(diagnose_wheel(path)) == ("LF322", seen)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><title>404", "is a web page, not a wheel"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer, not a wheel"),
        (b"\x1f\x8b\x08\0", "is a gzip file, not a wheel"),
        (b"PK\x03\x04" + bytes(100), "cannot be unpacked: File is not a zip file"),
    ],
)
def test_what_is_no_zip_is_said(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(data)
    assert only(diagnose_wheel(tmp_path / NAME)) == ("LF322", f"{NAME} {words}.")
    assert runtime_of(tmp_path / NAME) is None


def test_a_zip_that_is_no_wheel(tmp_path: Path) -> None:
    path = wheel_of(tmp_path / "photos-1-py3-none-any.whl", {"photo.jpg": b"x"}, record=False)
    assert only(diagnose_wheel(path))[0] == "LF322"


def test_what_is_not_there_or_no_package_is_said(tmp_path: Path) -> None:
    assert only(diagnose_library(tmp_path / "no.so"))[0] == "LF315"
    assert only(diagnose_wheel(tmp_path / "no.whl"))[0] == "LF315"
    assert only(diagnose_runtime(tmp_path))[0] == "LF302"
    assert only(diagnose_runtime(tmp_path / "none"))[0] == "LF302"
    assert runtime_of(tmp_path) is None
    assert runtime_of(tmp_path / "no.so") is None


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "lite.so"
    path.write_bytes(GOOD)
    assert diagnose_library(path).findings == ()
    path.write_bytes(GOOD[:300])
    assert codes(diagnose_library(path)) == ["LF315"]


def test_names_of_wheels() -> None:
    assert check_tags("paddlelite-2.12-py3-none-any.whl", "aarch64", "cp39") == ()
    assert check_tags("paddlelite-2.12-cp37-cp37m-manylinux2014_aarch64.whl", "aarch64", "cp37") == ()
    assert check_tags(NAME, "aarch64", "") == ()
    assert check_tags("anything.zip", "x86_64", "cp38") == ()
    name = "paddlelite-2.13-cp310-cp310-manylinux2020_x86_64.linux_x86_64.whl"
    assert check_tags(name, "x86_64", "cp310") == ()
    assert [f.code for f in check_tags(name, "aarch64", "cp38")] == ["LF307", "LF308"]
    assert [f.code for f in check_tags("paddlelite-2.whl", "x86_64", "cp310")] == ["LF322"]


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = wheel_of(tmp_path / "paddlelite-1\x1b[31m-cp39-cp39-linux_aarch64.whl", files(X86))
    found = diagnose_wheel(path)
    assert found.findings
    assert "\x1b" not in found.subject + "".join(f.observed for f in found.findings)
