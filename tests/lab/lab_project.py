"""The main job against lab devices: a project folder, the production command, and looks at what is on the device."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.operations import start_rollout
from litefleet_controller.project import Options
from litefleet_controller.project.run_fleet import run_fleet

from tests.lab.arm_devices import LabDevice

__all__ = ["LabJob"]


@dataclass
class LabJob:
    """A project of the cls model around one device, in a root of its own there."""

    folder: Path
    source: Path
    device: LabDevice
    root: str
    runtimes: dict[str, Any] = field(default_factory=dict)

    async def run(self, command: str = "rollout", **changes: object) -> DeviceOutcome:
        """Do what the command of that name does; `changes` are to the device's keys in the inventory."""
        entry = {**self.device.inventory_entry(), "root": self.root, **changes}
        fleet = {"devices": {self.device.name: entry}}
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump(fleet, width=1000))
        (self.folder / "litefleet.yaml").write_text(yaml.safe_dump(self._config(), width=1000))
        options = Options(self.folder / "litefleet.yaml")
        if command == "rollout":
            report = await start_rollout(options, lambda total: QuietProgress())
        else:
            report = await run_fleet(command, options, lambda total: QuietProgress())
        assert [o.device for o in report.outcomes] == [self.device.name]
        return report.outcomes[0]

    def _config(self) -> dict[str, Any]:
        cls = {"source": str(self.source), "inputs": {"x": [1, 3, 48, 192]}, "golden": {"engine": "paddlelite"}}
        return {
            "inventory": "fleet.yaml",
            "store": ".litefleet",
            "models": {"cls": cls},
            "runtimes": self.runtimes,
            "rollout": {"waves": ["100%"], "gates": "off"},  # these tests are about one device
            # An emulated login takes a second or two, on a busy machine several.
            "ssh": {"connect_time_limit_s": 60, "step_time_limit_s": 120, "known_hosts": "known_hosts"},
        }

    def there(self, command: str) -> list[str]:
        """Return the lines that a shell command prints on the device, run in the agent's root ($root)."""
        done = self.device.ssh(f"root={self.root}; {command}")
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().splitlines()

    def blobs(self) -> dict[str, str]:
        """Return the device's own SHA-256 of each blob, by the blob's name; hidden, unfinished files as well."""
        listed = self.there('if [ -d "$root/blobs" ]; then find "$root/blobs" -type f -exec sha256sum {} +; fi')
        return {os.path.basename(path): sha for sha, path in (line.split(None, 1) for line in listed)}
