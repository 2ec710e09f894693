"""Runtime bundles: the Paddle-Lite and numpy that a device's own Python needs, as one zip."""

from .build import Bundle, build_bundle, check_bundle
from .compatibility import DeviceKind

__all__ = ["Bundle", "DeviceKind", "build_bundle", "check_bundle"]
