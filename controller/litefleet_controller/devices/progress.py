"""Interface through which a run over the fleet reports its progress, and the one that prints nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from .outcome import DeviceOutcome


class Progress(Protocol):
    """What a run tells about itself while it goes on; a context manager."""

    def expect(self, total: int) -> None:
        """Say how many outcomes there will be, once that is known."""

    def device_step(self, device: str, step: str) -> None:
        """Say that a device began a step."""

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Say what became of a device."""

    def message(self, text: str) -> None:
        """Say something about the run as a whole."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; the terminal is as it was."""


class _Context:
    """A context that needs nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class QuietProgress(_Context):
    """Says nothing (`--quiet`, or a caller that only wants the report)."""

    def expect(self, total: int) -> None:
        """Say nothing."""

    def device_step(self, device: str, step: str) -> None:
        """Say nothing."""

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Say nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""
