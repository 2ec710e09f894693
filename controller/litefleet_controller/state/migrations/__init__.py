"""The database's schema as steps, run by `migrate.py`."""
