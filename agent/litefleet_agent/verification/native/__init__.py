"""The native engine: drives Paddle-Lite's C++ library by ctypes alone, without binding, compiler or numpy.

What it relies on and how that is checked: docs/adr/0010-native-engine.md.  Nothing here imports ctypes before it is used.
"""

from .errors import NativeError
from .paddlelite import NativePaddleLite

__all__ = ["NativeError", "NativePaddleLite"]
