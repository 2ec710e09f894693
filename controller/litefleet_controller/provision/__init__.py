"""Makes a device ready for the resident agent, and takes it back: a plan of steps, and what carries them out."""

from __future__ import annotations
