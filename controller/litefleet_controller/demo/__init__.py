"""An embedded fleet: devices on this machine's loopback interface, with real SSH, for the demo, tests and benchmarks."""

from .base import DeviceSpec, EmbeddedDevice, EmbeddedError
from .fleet import EmbeddedFleet

__all__ = ["DeviceSpec", "EmbeddedDevice", "EmbeddedError", "EmbeddedFleet"]
