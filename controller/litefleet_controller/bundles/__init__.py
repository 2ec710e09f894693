"""Runtime bundles: the Paddle-Lite and numpy that a device's own Python needs, as one zip."""

from .build import Bundle, build_bundle
from .check import check_bundle
from .choice import DeviceKind, RuntimeChoice

__all__ = ["Bundle", "DeviceKind", "RuntimeChoice", "build_bundle", "check_bundle"]
