"""The controller's session with the agent: requests over standard input and output.

Loaders import `serve` from here, so this name stays where it is.
"""

from .server import Session, serve

__all__ = ["Session", "serve"]
