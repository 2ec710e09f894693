"""Lines that fit a terminal: labels keep their column, words and hashes stay whole."""

from __future__ import annotations

import pytest
from litefleet_controller.catalogue.wrap import fitted
from rich.cells import cell_len

TEXT = """\
models/a.nb
  operators       41 conv2d, 11 depthwise_conv2d, 11 pool2d, 9 elementwise_mul, 9 hard_sigmoid, 8 hard_swish
  SHA-256         d80c33478825f3976f8a6d67136f5ed5dea27bbc40c30b939f59a056d2d50789

error LF101 target-mismatch: 99 of 104 kernels are for arm; this device is x86_64, and so is everything beside it.
  why: A .nb holds kernels for one kind of hardware. On any other CPU Paddle-Lite segfaults.
  原因: 一个 .nb 只含一种硬件的内核。在其他 CPU 上，Paddle-Lite 会崩溃，或跳过这些内核并返回错误的输出。
"""


@pytest.mark.parametrize("width", [40, 80])
def test_lines_fit_and_go_on_below_their_text(width: int) -> None:
    lines = fitted(TEXT, width).split("\n")
    assert [line for line in lines if cell_len(line) > width] == [line for line in lines if "d80c3347" in line]
    assert "".join("".join(lines).split()) == "".join(TEXT.split())
    words = TEXT.replace("\n", " ").split(" ")
    assert all(word in words for line in lines if line.isascii() for word in line.split())
    at = next(number for number, line in enumerate(lines) if line.startswith("  operators"))
    assert lines[at + 1].startswith(" " * 18)
    assert lines[at + 1][18] != " "


def test_what_fits_stays_as_it_is() -> None:
    assert fitted(TEXT, 200) == TEXT
