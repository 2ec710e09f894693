"""The litefleet controller: runs with the operator and drives the fleet over SSH."""

__version__ = "0.1.0"
