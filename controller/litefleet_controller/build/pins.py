"""SHA-256 sums of the wheels that litefleet installs by itself: uv rejects a file of these names with another sum.

`tools/make_pins.py` writes pinned.txt from the package index.  A version that is not in it is installed without a sum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PINNED = Path(__file__).with_name("pinned.txt")
_NUMPY_1 = "numpy<2"


@cache
def _pinned() -> dict[str, str]:
    """Return requirement ("numpy==1.26.4 ; python_full_version >= '3.9'") -> its whole entry with sums."""
    text = PINNED.read_text(encoding="utf-8")
    found = re.findall(r"^(\S+==[^\\\n]+?) \\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    return {requirement: f"{requirement} \\\n{hashes.rstrip()}" for requirement, hashes in found}


def requirement_lines(packages: Iterable[str]) -> str:
    """Return a requirements file for packages such as "paddlelite==2.13rc0" and "numpy<2", with the known sums.

    "numpy<2" becomes the newest numpy 1 of each CPython; any other requirement without an entry stays as it is.
    """
    lines = []
    for package in packages:
        if package == _NUMPY_1:
            lines += [entry for name, entry in _pinned().items() if name.startswith("numpy==")]
        else:
            lines.append(_pinned().get(package, package))
    return "\n".join(lines) + "\n"
