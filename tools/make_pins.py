"""Writes the SHA-256 sums of the wheels that litefleet installs, as the package index names them, to build/pinned.txt.

    .venv/bin/python tools/make_pins.py    # asks the index once for each version; nothing is downloaded

Run it when a version of Paddle-Lite or PaddlePaddle is added, and read the difference before it is committed.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import uv
from litefleet_controller.build.toolchain import PADDLES, PINNED
from litefleet_controller.config.choices import PUBLISHED_PYTHONS

KEPT = ("numpy", "paddlelite", "paddlepaddle")  # what PaddlePaddle depends on beyond these is resolved at install


def entries(requirements: list[str], python: str) -> dict[str, str]:
    """Return requirement -> its lines with hashes, for every CPython from `python` on."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "requirements.in"
        source.write_text("\n".join(requirements))
        argv = [uv.find_uv_bin(), "pip", "compile", "-q", "--no-config", "--universal", "--python-version", python]
        argv += ["--generate-hashes", "--no-header", "--no-annotate", str(source)]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^(\S+==\S+(?: ; [^\\\n]+)?)((?: \\\n    --hash=\S+)+)", text, re.MULTILINE)
    return {requirement.strip(): hashes for requirement, hashes in found if requirement.split("==")[0] in KEPT}


def main() -> None:
    """Write the file."""
    found: dict[str, str] = {}
    for version, pythons in PUBLISHED_PYTHONS.items():
        found |= entries([f"paddlelite=={version}"], pythons[0])
    for paddle in PADDLES:
        found |= entries([*paddle.packages[:1]], min(paddle.pythons, key=lambda text: int(text.split(".")[1])))
    numpy = entries(["numpy<2"], "3.7")
    found = {name: hashes for name, hashes in found.items() if not name.startswith("numpy")} | numpy
    PINNED.write_text("".join(f"{name}{hashes}\n" for name, hashes in sorted(found.items())), encoding="utf-8")
    print(PINNED, len(found), "requirements")


if __name__ == "__main__":
    main()
