"""The litefleet device agent: standard library only, Python 3.7 and later, shipped as one .pyz."""

import os

# The folder, or the .pyz, that this package was imported from: an entry for the `sys.path` of another interpreter.
ARCHIVE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

if ARCHIVE_ROOT.endswith(".pyz"):
    from .bytecode import use_bytecode

    use_bytecode(ARCHIVE_ROOT)
