"""Interface through which a run over the fleet reports its progress, and the one that prints nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from .outcome import DeviceOutcome


class Progress(Protocol):
    """Receives a run's progress; a context manager."""

    def expect(self, total: int) -> None:
        """Set the number of outcomes that will follow; of a device and model, a later outcome replaces the earlier one."""

    def device_step(self, device: str, step: str) -> None:
        """Report that a device began a step; `step` is "" when its session has ended and it waits or is done."""

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Report a device's outcome."""

    def message(self, text: str) -> None:
        """Report a message about the whole run."""

    def __enter__(self) -> Self:
        """Start the display."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the display and restore the terminal."""


class _Context:
    """A context that needs nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class QuietProgress(_Context):
    """Shows nothing (`--quiet`, or a caller that only wants the report)."""

    def expect(self, total: int) -> None:
        """Do nothing."""

    def device_step(self, device: str, step: str) -> None:
        """Do nothing."""

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""
