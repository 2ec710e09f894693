"""A bundle's numpy against its Paddle-Lite, by what lies in the zip alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from litefleet_controller.build.runtimes.build import check_bundle


def bundle(path: Path, numpy: str, binary: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("paddlelite/lite.so", binary)
        if numpy:
            archive.writestr(f"numpy-{numpy}.dist-info/METADATA", "")
    return path


@pytest.mark.parametrize(
    ("numpy", "binary", "seen"),
    [
        ("1.26.4", b"numpy.core", ()),
        ("2.2.6", b"numpy.core\0numpy._core", ()),
        ("", b"numpy.core", ()),
        ("2.2.6", b"numpy.core", ("The runtime would use numpy 2.2.6; this build of Paddle-Lite needs numpy < 2.",)),
        ("10.0.0", b"", ("The runtime would use numpy 10.0.0; this build of Paddle-Lite needs numpy < 2.",)),
    ],
)
def test_numpy_2_beside_a_build_for_numpy_1(tmp_path: Path, numpy: str, binary: bytes, seen: tuple[str, ...]) -> None:
    found = check_bundle(bundle(tmp_path / "b.zip", numpy, binary))
    assert tuple(f.observed for f in found) == seen
    assert {f.code for f in found} <= {"LF304"}
