"""Records rollouts with OpenTelemetry: rollout > wave > device > step.  Imported only when traces are on.

Spans have names of devices, models and releases, verdicts and finding codes; no sentences, addresses, logins or outputs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from litefleet_agent.findings import Verdict
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from .. import __version__
from ..common.text import sanitize
from ..devices.outcome import DeviceOutcome
from ..devices.progress import Progress
from ..rollout import DeviceRow, Rollout, RolloutState

_CLOSE_S = 5.0  # for what is left at the end of a command
_STOPPED = (RolloutState.PAUSED, RolloutState.ABORTED)


class OtelTrace:
    """The spans of one command; used in one event loop."""

    def __init__(
        self, processor: SpanProcessor, environment: Mapping[str, str], log: LastMessage | None = None
    ) -> None:
        about = {"service.version": __version__}
        named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        about |= {} if named else {"service.name": "litefleet"}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("litefleet", __version__)
        self._log = log
        self._rollout: Span | None = None
        self._wave: tuple[int, Span] | None = None
        self._devices: dict[str, Span] = {}
        self._steps: dict[str, Span] = {}

    def watch(self, progress: Progress) -> Progress:
        """Return a progress that also reports the devices' steps to this trace."""
        return _Watched(progress, self)

    @contextmanager
    def rollout(self, rollout: Rollout, rows: Sequence[DeviceRow]) -> Iterator[None]:
        """Record a run."""
        about: dict[str, AttributeValue] = {
            "litefleet.fleet": rollout.fleet,
            "litefleet.rollout": rollout.id,
            "litefleet.kind": rollout.kind,
            "litefleet.models": list(rollout.models),
            "litefleet.devices": len({row.device for row in rows}),
            "litefleet.waves": len(rollout.waves),
        }
        self._rollout = self._tracer.start_span("rollout", attributes=about)
        try:
            yield
        finally:
            self._end_wave()
            self._rollout.end()
            self._rollout = None

    @contextmanager
    def device(self, name: str, rows: Sequence[DeviceRow]) -> Iterator[None]:
        """Record a session."""
        wave = self._wave_of(rows[0].wave if rows else 0)
        about: dict[str, AttributeValue] = {
            "litefleet.device": sanitize(name, 200),
            "litefleet.models": [row.model for row in rows],
        }
        span = self._tracer.start_span("device", set_span_in_context(wave), attributes=about)
        self._devices[name] = span
        try:
            yield
        finally:
            self.step(name, "")
            self._devices.pop(name, None)
            span.end()

    def step(self, device: str, step: str) -> None:
        """Record that a device began a step; "": it ended the one before."""
        before = self._steps.pop(device, None)
        if before is not None:
            before.end()
        of = self._devices.get(device)
        if step and of is not None:
            self._steps[device] = self._tracer.start_span(sanitize(step, 80), set_span_in_context(of))

    def outcome(self, outcome: DeviceOutcome) -> None:
        """Record an outcome."""
        span = self._devices.get(outcome.device)
        if span is None:
            return
        codes = [found.code for found in outcome.findings][:20]
        about = {"litefleet.model": outcome.model, "litefleet.verdict": outcome.verdict.value, "litefleet.codes": codes}
        span.add_event("outcome", {**about, "litefleet.release": outcome.release})
        if outcome.verdict is not Verdict.VERIFIED:
            span.set_status(Status(StatusCode.ERROR, ", ".join([outcome.verdict.value, *codes])))

    def ended(self, rollout: Rollout) -> None:
        """Record how the run left its rollout."""
        if self._rollout is not None:
            self._rollout.set_attribute("litefleet.state", rollout.state.value)
            if rollout.state in _STOPPED:
                self._rollout.set_status(Status(StatusCode.ERROR, rollout.state.value))

    def close(self) -> str:
        """Send what is left."""
        sender = threading.Thread(
            target=self._provider.shutdown, daemon=True
        )  # a receiver that hangs delays no command
        sender.start()
        sender.join(_CLOSE_S)
        if sender.is_alive():
            return f"the receiver has not responded within {_CLOSE_S:.0f} s"
        return self._log.end() if self._log is not None else ""

    def _wave_of(self, number: int) -> Span:
        """Return the span of a wave; the one before ends when the next one begins."""
        if self._wave is None or self._wave[0] < number:
            self._end_wave()
            context = set_span_in_context(self._rollout) if self._rollout is not None else None
            self._wave = (number, self._tracer.start_span("wave", context, attributes={"litefleet.wave": number + 1}))
        return self._wave[1]

    def _end_wave(self) -> None:
        if self._wave is not None:
            self._wave[1].end()
            self._wave = None


class _Watched:
    """A progress whose steps go to a trace too."""

    def __init__(self, progress: Progress, trace: OtelTrace) -> None:
        self._progress, self._trace = progress, trace
        self.expect, self.message = progress.expect, progress.message
        self.device_done = progress.device_done

    def device_step(self, device: str, step: str) -> None:
        """Report a step to both."""
        self._trace.step(device, step)
        self._progress.device_step(device, step)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)


class LastMessage(logging.Handler):
    """Keeps the exporter's last message, which would else be written between the lines of a command."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = ""
        self._logger = logging.getLogger("opentelemetry")
        self._passed_on = self._logger.propagate
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self._last = sanitize(record.getMessage(), 300)

    def end(self) -> str:
        """Stop, and return the last message."""
        self._logger.removeHandler(self)
        self._logger.propagate = self._passed_on
        return self._last


def otlp_trace(environment: Mapping[str, str]) -> OtelTrace:
    """Return a trace that is sent as the environment says.  Raises what the library raises for values that it refuses."""
    log = LastMessage()
    try:
        return OtelTrace(BatchSpanProcessor(OTLPSpanExporter()), environment, log)
    except BaseException:
        log.end()
        raise
