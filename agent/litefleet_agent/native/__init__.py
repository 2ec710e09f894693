"""The native engine: drives Paddle-Lite's C++ library by ctypes alone, without binding, compiler or numpy.

What it relies on and how that is checked: docs/adr/0010-native-engine.md.  Nothing here imports ctypes before it is used.
"""

from .engine import NativeEngine
from .errors import NativeError
from .interface import Declared, InferenceEngine

__all__ = ["Declared", "InferenceEngine", "NativeEngine", "NativeError"]
