"""`litefleet doctor`: what a file, a device, a pair of them, a log or this machine is, what will break, what to do."""

from .diagnosis import Diagnosis, Fact, Kind, exit_code_of

__all__ = ["Diagnosis", "Fact", "Kind", "exit_code_of"]
