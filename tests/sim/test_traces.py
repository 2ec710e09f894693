"""Traces of a rollout over a simulated fleet: in memory, and to a real receiver on loopback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from litefleet_agent.findings import finding
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.devices.steps import WaitPolicy
from litefleet_controller.operations.context import open_context, tracing
from litefleet_controller.operations.rollout import start_with_context
from litefleet_controller.operations.run import Stopwatch
from litefleet_controller.project import Options
from litefleet_controller.rollout import Policy
from litefleet_controller.rollout_engine import otel
from litefleet_controller.rollout_engine.otel import OtelTrace
from litefleet_controller.rollout_engine.tracing import NO_TRACE, Trace, trace_from
from litefleet_controller.state import FleetLocked, State, this_process
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.sim.engine_harness import Harness
from tests.sim.sim_fleet import make_fleet
from tests.sim.sim_profile import Profile
from tests.sim.sim_release_builder import SimSupply
from tests.sim.virtual_loop import run

SECRET = "s3cret-of-the-header"


def rolled_out(folder: Path, trace: Trace, size: int = 4) -> Harness:
    """Carry out `litefleet rollout` in two waves; the last device computes something else."""
    profile = Profile(link_s=0.01)
    wrong = profile.with_(cause=lambda release, device: (finding("LF401", "outputs differ by 0.3 at 10.9.8.7"),))
    last = f"{size - 1}"
    fleet = make_fleet(size, shape=lambda name, drawn, dice: wrong if name.endswith(last) else profile)
    policy = Policy.model_validate({"waves": [1, "100%"], "gates": {"total": {"count": 1}, "wave": {}}})
    harness = Harness(fleet, SimSupply(folder, {"cls": "1"}), policy, folder)
    progress = trace.watch(QuietProgress())
    harness.context.trace, harness.context.progress = trace, progress
    factory = replace(harness.context.session_factory, report=progress.device_step)
    harness.context.session_factory = factory
    run(start_with_context(harness.context, WaitPolicy.ALL, False, Stopwatch()), fleet.clock)
    return harness


def children(spans: tuple[ReadableSpan, ...], of: ReadableSpan) -> list[ReadableSpan]:
    return [span for span in spans if span.parent is not None and span.parent.span_id == of.context.span_id]


def test_a_rollout_is_one_tree_of_waves_devices_and_steps(tmp_path: Path) -> None:
    kept = InMemorySpanExporter()
    trace = OtelTrace(SimpleSpanProcessor(kept), {})
    harness = rolled_out(tmp_path, trace)
    assert trace.close() == ""
    spans = kept.get_finished_spans()
    (top,) = [span for span in spans if span.parent is None]
    assert (top.name, top.attributes["litefleet.rollout"]) == ("rollout", harness.rollout().id)
    assert (top.attributes["litefleet.devices"], top.attributes["litefleet.state"]) == (4, "paused")
    assert top.status.description == "paused"
    assert top.resource.attributes["service.name"] == "litefleet"
    waves = children(spans, top)
    assert [(wave.name, wave.attributes["litefleet.wave"]) for wave in waves] == [("wave", 1), ("wave", 2)]
    devices = {span.attributes["litefleet.device"]: span for wave in waves for span in children(spans, wave)}
    assert set(devices) == {device.name for device in harness.fleet.inventory}
    steps = {name: [step.name for step in children(spans, span)] for name, span in devices.items()}
    assert all("push and prove" in names for names in steps.values()), steps
    wrong = [span for span in devices.values() if not span.status.is_ok]
    assert [span.events[0].attributes["litefleet.codes"] for span in wrong] == [("LF401",)]
    assert len(spans) == 1 + 2 + 4 + sum(map(len, steps.values()))
    told = " ".join(span.to_json() for span in spans)
    for device in harness.fleet.inventory:
        assert device.host == device.name or f'"{device.host}"' not in told
    assert "10.9.8.7" not in told  # sentences stay in the state


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """Run an OTLP receiver; yields its URL and, of each request, the path, the header `x-key` and the body."""
    got: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, self.headers.get("x-key", ""), body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_real_receiver_gets_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as (url, got):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-key={SECRET}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "line-3")
        trace, problem = trace_from()
        assert problem == ""
        rolled_out(tmp_path, trace)
        assert trace.close() == ""
    assert {(path, key) for path, key, _ in got} == {("/v1/traces", SECRET)}
    assert all(SECRET.encode() not in body for *_, body in got)
    names = []
    for *_, body in got:
        for of in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {item.key: item.value.string_value for item in of.resource.attributes}
            assert about["service.name"] == "line-3"
            names += [span.name for scope in of.scope_spans for span in scope.spans]
    assert (names.count("rollout"), names.count("wave"), names.count("device")) == (1, 2, 4)


class Said(QuietProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


async def test_what_cannot_be_sent_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    with receiver(400) as (url, got):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        async with tracing(said) as (trace, progress):
            assert trace is not NO_TRACE
            with trace.device("cam-1", []):
                progress.device_step("cam-1", "prepare")
        assert got
    (text,) = said.messages
    assert text.startswith("Traces were not sent: Failed to export")


async def test_a_receiver_that_hangs_does_not_keep_the_fleet_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "litefleet.yaml"
    config.write_text(
        "{fleet: lab, inventory: fleet.yaml, store: store, models: {m: {nb: {x86_64: m.nb}, golden: {engine: paddlelite}}}}"
    )
    (tmp_path / "m.nb").touch()
    (tmp_path / "fleet.yaml").write_text("devices: {cam: {host: 127.0.0.1}}")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setattr(otel, "_CLOSE_S", 2.0)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def command() -> None:
        async with open_context(Options(config), QuietProgress()) as context:
            with context.trace.device("cam", []):
                entered.set()
                await leave.wait()

    with socket.create_server(("127.0.0.1", 0)) as server:  # connects, and never answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        running = asyncio.create_task(command())
        await asyncio.wait((running, asyncio.ensure_future(entered.wait())), return_when=asyncio.FIRST_COMPLETED)
        assert entered.is_set()
        state = State.open(tmp_path / "store" / "state.db")
        with pytest.raises(FleetLocked):
            state.acquire("lab", replace(this_process(), started="another"))
        leave.set()
        while True:
            try:
                lock = state.acquire("lab", replace(this_process(), started="another"))
                break
            except FleetLocked:
                assert not running.done()
                await asyncio.sleep(0.01)
        assert not running.done()
        state.release(lock)
        state.close()
    await running


async def test_what_the_environment_asks_for_and_cannot_have(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    async with tracing(said) as (trace, progress):
        assert trace is NO_TRACE
        assert progress is said
    assert said.messages == ["OTEL_TRACES_EXPORTER=zipkin is not supported, so there are no traces. Set it to otlp."]
    grpc = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert "Set it to http/protobuf." in trace_from(grpc)[1]
    assert trace_from({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}) == (NO_TRACE, "")


def test_the_library_is_imported_only_when_traces_are_on() -> None:
    code = (
        "import sys; from litefleet_controller.operations.context import trace_from; "
        "assert trace_from({}) [1] == ''; assert not [m for m in sys.modules if m.startswith('opentelemetry')]; "
        "sys.modules['opentelemetry'] = None; "
        "print(trace_from({'OTEL_TRACES_EXPORTER': 'otlp'})[1])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "pip install 'litefleet[otel]'" in ended.stdout
