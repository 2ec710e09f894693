"""The device inventory: which devices there are and how to reach them.  See `parse` for the file's form, `select` for `--limit`."""

from .model import Device, Group, Inventory
from .problems import InventoryError, Problem, SelectError
from .sources import load

__all__ = [
    "Device",
    "Group",
    "Inventory",
    "InventoryError",
    "Problem",
    "SelectError",
    "load",
]
