"""Runtime bundles: the Paddle-Lite and numpy that a device's own Python needs, as one zip."""

from .build import Bundle, build_bundle, check_bundle
from .choose import ChosenRuntime, choose_runtime, falls_back_to_own, own_runtime_findings
from .compatibility import DeviceKind

__all__ = [
    "Bundle",
    "ChosenRuntime",
    "DeviceKind",
    "build_bundle",
    "check_bundle",
    "choose_runtime",
    "falls_back_to_own",
    "own_runtime_findings",
]
