"""What a finished bundle tells before it travels: a numpy 2 beside a Paddle-Lite that was not built for it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from litefleet_agent.findings import Finding, finding

__all__ = ["check_bundle"]

_NUMPY = re.compile(r"numpy-((\d{1,4})\.[^/]{1,40})\.dist-info/METADATA")
_BINARY = re.compile(r"paddlelite/lite(\.[-\w]+)?\.so")
_READY = b"numpy._core"  # pybind11 2.12 and later know numpy 2


def check_bundle(path: Path) -> tuple[Finding, ...]:
    """Return LF304 for a bundle whose numpy is one that its Paddle-Lite would read garbage from."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        versions = [found for name in names if (found := _NUMPY.fullmatch(name))]
        if not versions or int(versions[0][2]) < 2:
            return ()
        if any(_READY in archive.read(name) for name in names if _BINARY.fullmatch(name)):
            return ()
    return (
        finding("LF304", f"The runtime would use numpy {versions[0][1]}; this build of Paddle-Lite needs numpy < 2."),
    )
