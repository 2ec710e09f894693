"""The program `litefleet`, also started as `python -m litefleet_controller`."""

from __future__ import annotations

import gc
import os

# Plugins of pydantic that other packages bring are not for this program, and looking for them reads every package's metadata.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
gc.disable()  # until `main` has begun: what an import makes stays, and looking through it takes a tenth of `status`

from .cli import main  # noqa: E402  imported with the collector off

__all__ = ["main"]

if __name__ == "__main__":
    main()
