"""The litefleet device agent: standard library only, Python 3.7 and later, shipped as one .pyz."""
