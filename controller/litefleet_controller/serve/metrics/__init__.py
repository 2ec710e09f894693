"""`/metrics` of the server: the fleet in numbers whose count does not grow with the fleet, for Prometheus."""

from .kept import KeptMetrics, Source

__all__ = ["KeptMetrics", "Source"]
