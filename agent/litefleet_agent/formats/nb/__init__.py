"""Reads Paddle-Lite's .nb files: pure, bytes in, a value out, every offset checked."""

from .flatbuffer import NbError
from .header import Header, normalise, read_header
from .model import NbModel, read_nb
from .program import Kernel, Tensor

__all__ = ["Header", "Kernel", "NbError", "NbModel", "Tensor", "normalise", "read_header", "read_nb"]
