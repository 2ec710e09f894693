"""`litefleet doctor`: describes files, devices, pairs of them, logs and this machine, and reports what fails and why."""

from .diagnosis import Diagnosis, Fact, Kind, exit_code_of

__all__ = ["Diagnosis", "Fact", "Kind", "exit_code_of"]
