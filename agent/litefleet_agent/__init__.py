"""The litefleet device agent: standard library only, Python 3.7 and later, shipped as one .pyz."""

import os
import sys

# The folder, the .pyz or the open file that this package is imported from.
IMPORTED_FROM = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The folder or the .pyz: an entry for the `sys.path` of another interpreter.  The bootstrap starts the agent from the open file
# that it has checked, and names the .pyz.
ARCHIVE_ROOT: str = getattr(sys.modules["__main__"], "LITEFLEET_ARCHIVE", IMPORTED_FROM)

if ARCHIVE_ROOT.endswith(".pyz"):
    from .bytecode import use_bytecode

    use_bytecode(ARCHIVE_ROOT, IMPORTED_FROM)
