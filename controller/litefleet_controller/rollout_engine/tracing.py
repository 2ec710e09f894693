"""Traces of rollouts: the interface, the one that records nothing, and the switch.  OpenTelemetry is imported only when on.

`OTEL_TRACES_EXPORTER=otlp` in the environment turns traces on, and the other standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, ...) say where they go; the extra `otel` brings the library.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress
from ..rollout import DeviceRow, Rollout

_HTTP = ("", "http/protobuf")


class Trace(Protocol):
    """Records what one command does; each method returns at once, and none raises."""

    def watch(self, progress: Progress) -> Progress:
        """Return a progress that also reports the devices' steps to this trace."""

    def rollout(self, rollout: Rollout, rows: Sequence[DeviceRow]) -> AbstractContextManager[None]:
        """Record what happens meanwhile as one run of this rollout."""

    def device(self, name: str, rows: Sequence[DeviceRow]) -> AbstractContextManager[None]:
        """Record what happens meanwhile as a session with this device, in the wave of its rows."""

    def outcome(self, outcome: DeviceOutcome) -> None:
        """Record an outcome of the device whose session is under way."""

    def ended(self, rollout: Rollout) -> None:
        """Record how the run left its rollout."""

    def close(self) -> str:
        """Send what is left, for some seconds at most, and return why that failed; "" where it did not."""


class NoTrace:
    """Records nothing."""

    def watch(self, progress: Progress) -> Progress:
        """Return the progress itself."""
        return progress

    def rollout(self, rollout: Rollout, rows: Sequence[DeviceRow]) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def device(self, name: str, rows: Sequence[DeviceRow]) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def outcome(self, outcome: DeviceOutcome) -> None:
        """Do nothing."""

    def ended(self, rollout: Rollout) -> None:
        """Do nothing."""

    def close(self) -> str:
        """Return that nothing failed."""
        return ""


NO_TRACE = NoTrace()


def trace_from(environment: Mapping[str, str] = os.environ) -> tuple[Trace, str]:
    """Return what records the traces, and why there are none although the environment asks for them ("" otherwise)."""
    asked = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if asked in ("", "none") or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return NO_TRACE, ""
    if asked != "otlp":
        return NO_TRACE, f"OTEL_TRACES_EXPORTER={asked[:40]} is not supported, so there are no traces. Set it to otlp."
    name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    name = name if environment.get(name) else "OTEL_EXPORTER_OTLP_PROTOCOL"
    if (protocol := environment.get(name, "").strip().lower()) not in _HTTP:
        return NO_TRACE, f"{name}={protocol[:40]} is not supported, so there are no traces. Set it to http/protobuf."
    try:
        from .otel import otlp_trace
    except ImportError:
        return NO_TRACE, (
            "OTEL_TRACES_EXPORTER=otlp needs the extra otel, so there are no traces. "
            "Install it where litefleet is installed: pip install 'litefleet[otel]'"
        )
    try:
        return otlp_trace(environment), ""
    except Exception as error:  # of the library: a rollout does not stop for its trace
        return NO_TRACE, f"The OTEL_ variables cannot be used, so there are no traces: {type(error).__name__}: {error}"
