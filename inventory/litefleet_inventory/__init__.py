"""The device inventory: which devices there are and how to reach them.  `parse` tells the file's form."""

from .model import Device, Group, Inventory
from .problems import InventoryError, Problem, SelectError
from .select import select
from .sources import load

__all__ = [
    "Device",
    "Group",
    "Inventory",
    "InventoryError",
    "Problem",
    "SelectError",
    "load",
    "select",
]
