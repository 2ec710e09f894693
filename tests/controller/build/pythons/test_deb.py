"""Debian packages and indexes: read as dpkg reads them, and refused with a sentence where they are damaged."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from litefleet_controller.build.pythons.apt import sources_of
from litefleet_controller.build.pythons.deb import PackageError, PackageFile, files_of, parse_index, version_key

from tests.conftest import lacking

from .debs import ar, deb


@pytest.mark.parametrize("suffix", ["xz", ""])
def test_files_and_links_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(deb({"usr/bin/a": b"program", "usr/lib/liba.so": "liba.so.1"}, suffix))
    assert list(files_of(path)) == [
        PackageFile("usr/bin/a", b"program", True),
        PackageFile("usr/lib/liba.so", b"", False, "liba.so.1"),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04", "does not begin as an ar archive does"),
        (deb({"a": b"x"})[:-40], "is cut"),
        (b"!<arch>\n" + b"x" * 60, "is damaged at byte 8"),
        (ar({"debian-binary": b"2.0\n", "data.tar.zst": b"\x28\xb5\x2f\xfd"}), "no archive that can be read here"),
        (ar({"data.tar.xz": b"not xz"}), "cannot be read"),
        (deb({"../../etc/passwd": b"x"}), "unsafe path"),
    ],
)
def test_a_damaged_or_hostile_package_is_a_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(data)
    with pytest.raises(PackageError, match=words):
        list(files_of(path))


def test_versions_are_ordered_as_dpkg_does() -> None:
    if shutil.which("dpkg") is None:
        lacking("no dpkg on this machine")
    versions = [
        "1.0",
        "1.0-1",
        "1.0-1+deb12u1",
        "1.0~rc1-1",
        "1:0.9-1",
        "1.0a-1",
        "1.0+b",
        "1.10-1",
        "1.9-1",
        "1.0-10",
        "1.0-2~bpo",
    ]
    for left, right in itertools.permutations(versions, 2):
        less = subprocess.run(["dpkg", "--compare-versions", left, "lt", right], check=False).returncode == 0
        assert (version_key(left) < version_key(right)) is less, (left, right)


def paragraph(**more: str) -> str:
    fields = {
        "Package": "aa",
        "Version": "1",
        "Architecture": "arm64",
        "Filename": "pool/a.deb",
        "Size": "1",
        "SHA256": "0" * 64,
    }
    return "".join(f"{name}: {value}\n" for name, value in {**fields, **more}.items())


def test_the_newest_version_for_the_architecture_counts() -> None:
    depends = "libc6 (>= 2.34), libb1 | libb0, c:any"
    text = "\n".join(
        [
            paragraph(Version="1.9-1"),
            paragraph(Version="1.10-1", Depends=depends),
            paragraph(Version="9", Architecture="amd64"),
            paragraph(Version="9", Filename="../../etc/passwd"),
            paragraph(Version="9", SHA256="none"),
            paragraph(Package="b"),
        ]
    )
    found = parse_index(text, frozenset({"aa"}), "arm64")
    assert list(found) == ["aa"]
    assert found["aa"].version == "1.10-1"
    assert found["aa"].depends == ("libc6", "libb1", "c")


def test_only_general_sources_with_main_are_taken() -> None:
    general = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main contrib\n"
    other = "Types: deb\nURIs: http://other.example\nSuites: x\nComponents: main\nArchitectures: amd64\n"
    text = f"{general}\n{other}\nTypes: deb-src\nComponents: main\n\n{general}Enabled: no\n"
    assert sources_of(text, deb822=True) == general
    first, *others = (
        "deb http://mirror.example/debian bookworm main",
        "# deb x y main",
        "deb [arch=amd64] http://x y main",
    )
    assert sources_of("\n".join([first, *others, "deb http://z w apps"]), deb822=False) == f"{first}\n"
