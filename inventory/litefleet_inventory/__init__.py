"""The device inventory: which devices there are and how to reach them; `parse` documents the file's form.

`read_tree` reads any YAML text into nodes that know their lines; litefleet.yaml is read with it too.
"""

from .model import Device, Group, Inventory, SshSettings
from .problems import InventoryError, Place, Problem, Problems, SelectError, nearest
from .select import select
from .sources import kind_of_path, load
from .tree import Map, Node, Scalar, Seq, read_tree

__all__ = [
    "Device",
    "Group",
    "Inventory",
    "InventoryError",
    "Map",
    "Node",
    "Place",
    "Problem",
    "Problems",
    "Scalar",
    "SelectError",
    "Seq",
    "SshSettings",
    "kind_of_path",
    "load",
    "nearest",
    "read_tree",
    "select",
]
