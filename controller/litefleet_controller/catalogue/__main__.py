"""Writes docs/findings: `python -m litefleet_controller.catalogue docs/findings`."""

from __future__ import annotations

import sys
from pathlib import Path

from .pages import write_pages

if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
