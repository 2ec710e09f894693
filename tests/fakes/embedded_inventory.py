"""The inventory of an embedded fleet as YAML."""

from __future__ import annotations

import yaml
from litefleet_controller.demo import EmbeddedFleet


def inventory_yaml(fleet: EmbeddedFleet) -> str:
    """Return an inventory that reaches every device of the fleet."""
    devices = {name: device.inventory_entry() for name, device in fleet.devices.items()}
    return yaml.safe_dump({"devices": devices}, sort_keys=False, width=1000)
