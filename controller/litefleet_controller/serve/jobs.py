"""Jobs: what takes minutes (plan, rollout, resume, approve, retry, rollback), each in a thread with its own event loop.

A job does what the command of its kind does; stopping it is Ctrl-C.  When the server stops, its jobs are stopped in this way and
nothing is lost: `resume` continues.  When it is killed, its jobs are "lost", and the fleet's lock passes to the next process.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import litefleet

from ..common.errors import ConfigError, FindingError, LitefleetError
from ..common.text import sanitize
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.outcome import document as as_document
from ..devices.progress import QuietProgress
from ..rollout_engine.plan import Plan
from .journal import Journal

MOST_AT_WORK = 4
_MOST_MESSAGES, _MOST_AT_WORK_SHOWN = 100, 100
_STOP_S = 30.0  # for which the server waits for its jobs: a device under way gives its lease back
_LOG = logging.getLogger("litefleet.serve")
Work = Callable[["JobProgress"], RunReport | Plan]


class Busy(LitefleetError):
    """Another job, or another controller, is at work."""


@dataclass(frozen=True)
class Job:
    """One job.  Times are seconds since the epoch; 0 = not yet."""

    id: str
    kind: str  # "plan", "rollout", "resume", "approve", "retry", "rollback"
    by: str
    asked: Mapping[str, Any]  # the arguments, as the API takes them
    state: str = "running"  # "done", "failed", "stopped"; "lost" when the server ended without stopping it
    created_at: float = 0.0
    ended_at: float = 0.0
    expected: int = 0  # outcomes that will follow, as far as known
    done: int = 0  # outcomes so far
    at_work: Mapping[str, str] = field(default_factory=dict)  # by device, the step that it is at
    messages: tuple[str, ...] = ()  # the latest ones about the whole run
    exit_code: int | None = None  # as the command's
    error: Mapping[str, Any] | None = None  # {message, problems?, findings?}, as the commands' `--json` has it
    rollout: str = ""  # the ID of the rollout that it was about

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state != "running"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "asked": dict(self.asked), "at_work": dict(self.at_work), "messages": list(self.messages)}

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read the JSON form back."""
        data = json.loads(text)
        return cls(**{**data, "messages": tuple(data["messages"])})


class JobProgress(QuietProgress):
    """Keeps what a run reports for whoever asks; called from the job's thread, read from any."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._expected = 0
        self._done: set[tuple[str, str]] = set()
        self._at_work: dict[str, str] = {}
        self._messages: deque[str] = deque(maxlen=_MOST_MESSAGES)

    def expect(self, total: int) -> None:
        """Set the number of outcomes that will follow."""
        with self._one:
            self._expected, self._done = total, set()

    def device_step(self, device: str, step: str) -> None:
        """Note a device's step."""
        with self._one:
            self._at_work.pop(device, None)
            if step:
                self._at_work[device] = sanitize(step, 80)

    def device_done(self, outcome: DeviceOutcome) -> None:
        """Count an outcome."""
        with self._one:
            self._done.add((outcome.device, outcome.model))
            self._at_work.pop(outcome.device, None)

    def message(self, text: str) -> None:
        """Keep a message."""
        with self._one:
            self._messages.append(sanitize(text, 1000))

    def on(self, job: Job) -> Job:
        """Return the job with what was reported so far."""
        with self._one:
            shown = dict(list(self._at_work.items())[-_MOST_AT_WORK_SHOWN:])
            return replace(
                job,
                expected=self._expected,
                done=len(self._done),
                at_work={} if job.over else shown,
                messages=tuple(self._messages),
            )


@dataclass
class _Running:
    job: Job
    progress: JobProgress
    stopper: litefleet.Stopper
    thread: threading.Thread | None = None


class Jobs:
    """The jobs of one server."""

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path
        self._one = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._journal: Journal | None = None
        self._closed = False

    @property
    def running(self) -> int:
        """The number of jobs that run now."""
        return len(self._running)

    @property
    def journal(self) -> Journal:
        """The file beside the reports, opened when it is first needed; jobs of a killed server are noted as lost in it."""
        with self._one:
            if self._journal is None:
                journal = Journal(self._path())
                for text in journal.jobs():
                    job = Job.from_json(text)
                    if not job.over:
                        lost = {
                            "message": "the server ended before this job did: `litefleet resume` continues a rollout"
                        }
                        after = replace(job, state="lost", ended_at=time.time(), at_work={}, error=lost)
                        journal.keep_job(job.id, json.dumps(after.to_dict()))
                self._journal = journal
            return self._journal

    def start(self, kind: str, by: str, asked: Mapping[str, Any], work: Work) -> Job:
        """Begin a job in a thread of its own, and return it.  Raises: Busy while as many as may run at once are at work."""
        job = Job(f"j-{secrets.token_hex(8)}", kind, by, dict(asked), created_at=time.time())
        running = _Running(job, JobProgress(), litefleet.Stopper())
        journal = self.journal
        with self._one:
            if self._closed:
                raise Busy("the server is stopping: send the request to the next one")
            if len(self._running) >= MOST_AT_WORK:
                raise Busy(f"{len(self._running)} jobs run already: wait until one has ended")
            self._running[job.id] = running
        try:
            journal.keep_job(job.id, json.dumps(job.to_dict()))
        except LitefleetError:
            self._running.pop(job.id, None)
            raise
        running.thread = threading.Thread(target=self._run, args=(running, work), name=f"job {kind}")
        running.thread.start()
        return job

    def _run(self, running: _Running, work: Work) -> None:
        job, result = running.job, None
        try:
            with running.stopper:
                found = work(running.progress)
            job, result = _ended(job, "done", found)
        except Interrupted as stopped:
            job, result = _ended(job, "stopped", stopped.report)
        except LitefleetError as error:
            job = replace(job, state="failed", exit_code=error.exit_code, error=error_dict(error))
        except BaseException:
            number = secrets.token_hex(4)
            _LOG.exception("error %s in job %s (%s)", number, job.id, job.kind)
            message = f"An internal error: the server's log has it under the number {number}."
            job = replace(job, state="failed", exit_code=1, error={"message": message})
        job = running.progress.on(replace(job, ended_at=time.time()))
        try:
            self.journal.keep_job(job.id, json.dumps(job.to_dict()), result)
        except LitefleetError:
            _LOG.exception("job %s has ended (%s), and this cannot be kept", job.id, job.state)
        with self._one:
            running.job = job
            self._running.pop(job.id, None)

    def get(self, ident: str) -> Job | None:
        """Return a job as it is now; None for an unknown one."""
        with self._one:
            running = self._running.get(ident)
        if running is not None:
            return running.progress.on(running.job)
        text = self.journal.job(ident)
        return None if text is None else Job.from_json(text)

    def all(self) -> list[Job]:
        """Return the jobs that are kept, the newest first."""
        found = [Job.from_json(text) for text in self.journal.jobs()]
        with self._one:
            running = dict(self._running)
        return [running[job.id].progress.on(running[job.id].job) if job.id in running else job for job in found]

    def result(self, ident: str) -> str | None:
        """Return what a job came to, the document that its command shows with `--json`; None where there is none."""
        return self.journal.result(ident)

    def stop(self, ident: str) -> Job | None:
        """Ask a job to stop, as Ctrl-C does, and return it; None for an unknown one."""
        with self._one:
            running = self._running.get(ident)
        if running is not None:
            running.stopper.stop()
        return self.get(ident)

    def close(self, within_s: float = _STOP_S) -> None:
        """Stop all jobs, wait for them, and close the file: the server stops."""
        with self._one:
            self._closed = True
            running = list(self._running.values())
        for one in running:
            one.stopper.stop()
        until = time.monotonic() + within_s
        for one in running:
            if one.thread is not None:
                one.thread.join(max(0.0, until - time.monotonic()))
        with self._one:
            if self._journal is not None:
                self._journal.close()


def error_dict(error: LitefleetError) -> dict[str, Any]:
    """Return an error as the commands' `--json` shows it."""
    content: dict[str, Any] = {"message": str(error)}
    if isinstance(error, ConfigError):
        content["problems"] = list(error.problems)
    if isinstance(error, FindingError):
        content["findings"] = [found.to_dict() for found in error.findings]
    return content


def _ended(job: Job, state: str, found: RunReport | Plan) -> tuple[Job, str]:
    """Return a job with what it came to, and that as a document."""
    if isinstance(found, Plan):
        return replace(job, state=state, exit_code=0), as_document(found.to_dict())
    code = 4 if state == "stopped" else found.exit_code
    rollout = str(found.rollout.get("id") or job.rollout)
    return replace(job, state=state, exit_code=code, rollout=rollout), as_document(found.to_dict())
