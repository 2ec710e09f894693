"""Workers for tests: plans of real releases, a fake worker program, and an owner that remembers what it was told."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from litefleet_agent.formats.nb import Tensor, read_nb
from litefleet_agent.formats.npz import Array, read_npz
from litefleet_agent.service.event_loop import EventLoop
from litefleet_agent.service.messages import Job, SentTensor, ServedModel
from litefleet_agent.service.workers.handle import State, WorkerHandle
from litefleet_agent.service.workers.plan import WorkerPlan, served_model

AGENT = Path(__file__).parents[3] / "agent"
TOY = ServedModel("toy", "r" * 64, (Tensor("x", "float32", (-1, 2)),), (Tensor("y", "float32", (-1, 2)),))

# A worker without Paddle-Lite: what the test gives as `body` defines what it does instead of doubling its input.
FAKE = """
import os, signal, socket, sys, time
sys.path.insert(0, %(agent)r)
from litefleet_agent.protocol import BlockingStream
link = BlockingStream(int(sys.argv[1]), int(sys.argv[1]))
load = link.read()[0]
link.send({"event": "confined", "sandbox": {"landlock": 0, "seccomp": False, "guarantees": {}, "missing": [], "ms": 0}})
def ready():
    link.send({"event": "ready", "load_ms": 1, "runtime_version": "fake", "batches": True, "golden": {}})
def answer(header, body, **more):
    told = [{"outputs": [dict(tensor, name="y") for tensor in request["inputs"]]} for request in header["requests"]]
    link.send({"re": header["id"], "result": {"ms": 1.5, "requests": told}}, [body])
def serve(act=answer, probe=True):
    while True:
        frame = link.read()
        if frame is None:
            sys.exit(0)
        if frame[0]["op"] == "probe":
            link.send({"re": frame[0]["id"], "result": {"ok": probe, "ms": 2, "findings": []}})
        else:
            act(*frame)
%(body)s
"""


def fake(body: str, **more: object) -> WorkerPlan:
    program = FAKE % {"agent": str(AGENT), "body": body}
    return WorkerPlan(TOY, "/nb", "", (), argv=(sys.executable, "-c", program), **more)


def plan(nb: Path, golden: list[Path], python: Path, name: str = "cls", **more: object) -> WorkerPlan:
    model = served_model(read_nb(nb.read_bytes()), name, "a" * 64)
    return WorkerPlan(model, str(nb), "", tuple(map(str, golden)), python=str(python), **more)


def toy_job(*items: float) -> Job:
    data = struct.pack(f"<{len(items)}f", *items)
    return Job("toy", (SentTensor("x", "float32", (len(items) // 2, 2)),), data, 0.0, 1e9)


def job_of(value: Array, name: str = "x") -> Job:
    return Job("m", (SentTensor.of(name, value),), value.data, 0.0, 1e9)


def golden_jobs(paths: list[Path]) -> list[Job]:
    return [job_of(read_npz(path)["x"]) for path in paths]


class Owner:
    """Has one worker and remembers what it was told."""

    def __init__(self, plan: WorkerPlan) -> None:
        self.loop = EventLoop()
        self.facts: dict | None = None
        self.answers: list = []
        self.ends: list = []
        self.probes: list = []
        self.worker = WorkerHandle(self.loop, plan, self._ready, self._answer, self._end)

    def _ready(self, worker: WorkerHandle, facts: dict) -> None:
        self.facts = facts

    def _answer(self, worker: WorkerHandle, jobs: list, results: list, ms: float) -> None:
        self.answers.append((jobs, results, ms))

    def _end(self, worker: WorkerHandle, findings: list, jobs: list) -> None:
        self.ends.append((findings, jobs))

    def until(self, done: Callable[[], object], most_s: float = 60.0) -> None:
        end = time.monotonic() + most_s
        while not done():
            assert time.monotonic() < end, (self.worker.state, self.ends, self.worker.stderr_tail)
            self.loop.turn(0.05)

    def ready(self) -> Owner:
        self.until(lambda: self.facts is not None or self.ends)
        assert not self.ends, self.ends
        return self

    def ended(self, most_s: float = 60.0) -> tuple:
        self.until(lambda: self.ends, most_s)
        return self.ends[0]

    def run(self, *jobs: Job, limit_s: float = 30.0) -> list:
        count = len(self.answers)
        self.worker.run(list(jobs), limit_s)
        self.until(lambda: len(self.answers) > count or self.ends)
        assert len(self.answers) > count, [findings for findings, _ in self.ends]
        return self.answers[-1][1]

    def probe(self, limit_s: float = 30.0) -> tuple:
        self.worker.probe(limit_s, lambda *told: self.probes.append(told))
        self.until(lambda: self.probes or self.ends)
        return self.probes[-1]

    def close(self) -> None:
        self.worker.stop()
        self.until(lambda: self.worker.state is State.DEAD, 10)
        self.loop.close()
